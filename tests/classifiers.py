"""Tiny random sequence classifiers, and the plain loop over texts that their scorers are compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import tiny

Kind = Literal["llama", "qwen2", "gpt2", "bert"]


def network(kind: Kind, *, heads: int = 1, positions: int = 256, seed: int = 0, **more: Any) -> Any:
    """A classifier of two layers with random weights, large enough that every token matters."""
    import torch
    import transformers

    wide = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    shared = {"vocab_size": 326, "num_labels": heads, "initializer_range": 0.2, "pad_token_id": 0} | more
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "llama": ("Llama", {**wide, "max_position_embeddings": positions}),
        "qwen2": ("Qwen2", {**wide, "num_key_value_heads": 1, "max_position_embeddings": positions}),
        "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": positions}),
        "bert": ("Bert", {**wide, "max_position_embeddings": positions}),
    }
    name, shape = kinds[kind]
    config = getattr(transformers, f"{name}Config")(**shape, **shared)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, f"{name}ForSequenceClassification")(config)


def model(
    folder: Path,
    *,
    kind: Kind = "llama",
    heads: int = 1,
    template: str | None = tiny.WITH_SYSTEM,
    positions: int = 256,
    seed: int = 0,
    side: str = "right",
    **more: Any,
) -> Path:
    """Write a classifier's directory as `save_pretrained` does, and give its path."""
    reader = tiny.tokenizer(template or "", positions=positions)
    reader.chat_template = template
    reader.padding_side = side
    network(kind, heads=heads, positions=positions, seed=seed, **more).save_pretrained(folder)
    reader.save_pretrained(folder)
    return folder


def one_by_one(place: Path, texts: Sequence[Sequence[int]], **settings: Any) -> list[list[float]]:
    """The logits of each text, in a batch of its own, without padding or mask."""
    import torch
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(place, **settings).eval()
    with torch.no_grad():
        return [network(torch.tensor([list(ids)])).logits[0].tolist() for ids in texts]
