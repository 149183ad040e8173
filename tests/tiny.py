"""Tiny random models with a tokenizer trained on the spot, and preferences small enough to reason about."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from pairwright.chat import assistant, prompt_id, user
from pairwright.preferences import Preferences

SPECIALS = ("<|pad|>", "<|begin|>", "<|end|>", "<|unknown|>", "<|system|>", "<|user|>", "<|assistant|>")

WITH_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
WITHOUT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + WITH_SYSTEM
)
WITHOUT_EOS = WITH_SYSTEM.replace(" + eos_token", "")
LINE_FEED_AFTER_EOS = WITH_SYSTEM.replace(" + eos_token", " + eos_token + '\n'")

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "red", "green", "blue"]
WORDS += ["sort", "add", "count", "list", "word", "short", "long"]


def tokenizer(template: str = WITH_SYSTEM, *, positions: int = 256) -> Any:
    """A byte-level BPE tokenizer without merges: one token for each byte, and one for each special token."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    core.train_from_iterator(
        [" ".join(WORDS)] * 4,
        tokenizers.trainers.BpeTrainer(
            vocab_size=340,
            special_tokens=list(SPECIALS),
            initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        unk_token="<|unknown|>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = template
    return made


def network(kind: Literal["llama", "gpt2"], vocabulary: int, *, positions: int = 256, seed: int = 0) -> Any:
    """A causal language model of two layers with random weights, large enough that every token matters."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "gpt2":
            shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": positions}
            return GPT2LMHeadModel(
                GPT2Config(vocab_size=vocabulary, bos_token_id=1, eos_token_id=2, initializer_range=0.2, **shape)
            )
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            initializer_range=0.2,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        return LlamaForCausalLM(config)


def model(
    folder: Path,
    *,
    kind: Literal["llama", "gpt2"] = "llama",
    template: str = WITH_SYSTEM,
    positions: int = 256,
    seed: int = 0,
) -> Path:
    """Write a model directory as `save_pretrained` does, and give its path."""
    reader = tokenizer(template, positions=positions)
    network(kind, len(reader), positions=positions, seed=seed).save_pretrained(folder)
    reader.save_pretrained(folder)
    return folder


def preferences(
    rows: Sequence[tuple[str, str, str]] | int = 8, *, weights: Sequence[float] | None = None
) -> Preferences:
    """Pairs from (prompt, chosen, rejected), or so many made-up ones of different lengths; scores are 8 and 3."""
    if isinstance(rows, int):
        made = [" ".join(WORDS[(i * k + k) % len(WORDS)] for k in range(1, 3 + i % 4)) for i in range(3 * rows)]
        rows = [(f"{made[3 * i]} {i}", f"{made[3 * i + 1]} good", f"{made[3 * i + 2]} bad") for i in range(rows)]
    prompts = [[user(text)] for text, _, _ in rows]
    ids = [prompt_id(prompt) for prompt in prompts]
    answers = [[assistant(text)] for _, *both in rows for text in both]
    return Preferences.of(
        pl.DataFrame({"prompt_id": ids, "prompt": prompts}).unique("prompt_id", maintain_order=True),
        pl.DataFrame(
            {
                "response_id": range(len(answers)),
                "prompt_id": [each for each in ids for _ in (0, 1)],
                "response": answers,
                "score": [8.0, 3.0] * len(rows),
            }
        ),
        pl.DataFrame(
            {
                "prompt_id": ids,
                "chosen_id": range(0, len(answers), 2),
                "rejected_id": range(1, len(answers), 2),
                "weight": [1.0] * len(rows) if weights is None else list(weights),
            }
        ),
    )
