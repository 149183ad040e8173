"""A tokenizer and a small Llama with random weights, made on the spot.

For quickstart, for tests, and for a first run on one's own data without a download. What is written is an ordinary
`save_pretrained` directory.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import polars as pl
from pydantic import Field

from pairwright.errors import InputError, need
from pairwright.goals import GoalFormat
from pairwright.logprobs.models import no_bars
from pairwright.preferences import Preferences
from pairwright.runs import write_beside

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOS, EOS, PAD, UNKNOWN = "<|begin|>", "<|end|>", "<|pad|>", "<|unknown|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIALS = (PAD, BOS, EOS, *ROLES)
GOALS = tuple(float(i) for i in range(1, 11))

_REFUSE = """\
{%- if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"""

_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message['role'] not in ['system', 'user', 'assistant'] %}\
{{ raise_exception('Unknown role ' + message['role']) }}{% endif %}
REFUSE
{{- '<|' + message['role'] + '|>' + message['content'] + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{% endif %}"""


def scratch(
    prefs: Preferences,
    *,
    output: str | Path,
    vocab_size: Annotated[int, Field(gt=0)] = 4096,
    hidden_size: Annotated[int, Field(gt=0)] = 128,
    layers: Annotated[int, Field(gt=0)] = 2,
    heads: Annotated[int, Field(gt=0)] = 4,
    max_length: Annotated[int, Field(gt=0)] = 1024,
    system_role: bool = True,
    kind: Literal["bpe", "word"] = "bpe",
    seed: int = 0,
) -> Path:
    """Train a tokenizer on the texts of `prefs` and write it with a Llama of random weights.

    The tokenizer has one token for each role, for the begin and for the end of a turn; every digit is a token of its
    own, and the goal sentence is in its vocabulary. Equal data and settings give equal bytes.

    Args:
        prefs: whose prompts and answers, and whose goal sentence (ours where none is set yet).
        output: the directory to write; an older one is replaced.
        vocab_size: tokens at most, special ones included.
        hidden_size: width of the model; a multiple of `2 * heads`.
        layers: decoder layers.
        heads: attention heads.
        max_length: positions that the model has.
        system_role: whether the chat template takes a system message; without, it refuses one, as Gemma's does.
        kind: `bpe` is byte-level; `word` takes whole words between spaces, for toy worlds with a closed vocabulary.
        seed: of the weights.

    Raises:
        InputError: there is no text, or the sizes do not fit each other.
    """
    target = Path(output)
    if hidden_size % (2 * heads):
        raise InputError(f"hidden_size {hidden_size} is no multiple of 2 * heads = {2 * heads}; choose another")
    if target.exists() and any(target.iterdir()) and not (target / "config.json").is_file():
        raise InputError(f"{target} exists and holds no model; choose another output or remove it")
    texts = _texts(prefs)
    if not texts:
        raise InputError("there is no text to train a tokenizer on: these preferences have no prompts")
    goals = _goal_sentences(prefs.goal_format or GoalFormat())
    core = _bpe(texts, goals, vocab_size) if kind == "bpe" else _word(texts, goals, vocab_size)
    with write_beside(target) as temporary:
        _save_tokenizer(core, temporary, max_length=max_length, system_role=system_role)
        sizes = {"hidden_size": hidden_size, "num_hidden_layers": layers, "num_attention_heads": heads}
        _save_llama(core, temporary, sizes, max_length=max_length, seed=seed)
        digest = hashlib.sha256("\0".join([*goals, *texts]).encode("utf-8", "replace")).hexdigest()
        made_of = {"made_by": "scratch", "kind": kind, "seed": seed, "texts": digest}
        (temporary / "scratch.json").write_text(json.dumps(made_of, indent=2) + "\n", encoding="utf-8")
    return target


def _texts(prefs: Preferences) -> list[str]:
    """Every message of prompts and answers, in the order of the tables."""
    content = pl.element().struct.field("content")
    parts = []
    for frame, column in ((prefs.prompts, "prompt"), (prefs.responses, "response")):
        contents = frame.select(pl.col(column).list.eval(content).alias("text")).explode("text", empty_as_null=False)
        parts += contents.drop_nulls().collect()["text"].to_list()
    return parts


def _goal_sentences(form: GoalFormat) -> list[str]:
    """The sentences of goals over the whole range, so that each number and each word of them is seen."""
    sentences = []
    for step in GOALS:
        share = (step - GOALS[0]) / (GOALS[-1] - GOALS[0])
        parts = [low + share * (high - low) for low, high in form.ranges]
        sentences.append(form.say(parts if form.attributes else parts[0]))
    return sentences


def _corpus(texts: list[str], goals: list[str]) -> Iterator[str]:
    """The texts, each with a goal sentence: relabelled data say one in every prompt."""
    for i, text in enumerate(texts):
        yield text
        yield goals[i % len(goals)]


def _bpe(texts: list[str], goals: list[str], vocab_size: int) -> "Tokenizer":
    """Byte-level BPE without special tokens of its own: every text comes back as it was."""
    tokenizers = need("tokenizers", extra="train")
    if vocab_size < 256 + len(SPECIALS):
        raise InputError(
            f"vocab_size {vocab_size} is too small for byte-level BPE; take at least {256 + len(SPECIALS)}"
        )
    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    pieces = tokenizers.pre_tokenizers
    core.pre_tokenizer = pieces.Sequence(
        [pieces.Digits(individual_digits=True), pieces.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pieces.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(_corpus(texts, goals), trainer)
    return core  # type: ignore[no-any-return]


def _word(texts: list[str], goals: list[str], vocab_size: int) -> "Tokenizer":
    """One token for each word (`▁word`), digit, mark and line feed; spaces at the head of a line are lost.

    The words of the goal sentence, digits and marks are sure to be known; then come the most frequent words.
    """
    tokenizers = need("tokenizers", extra="train")
    pieces, decoders = tokenizers.pre_tokenizers, tokenizers.decoders
    splitter = pieces.Sequence(
        [
            pieces.Metaspace(prepend_scheme="always"),
            pieces.Split(tokenizers.Regex(r"▁?\d|[.,;:!?()]"), "isolated"),
        ]
    )
    counts = Counter(word for text in texts for line in text.split("\n") for word, _ in splitter.pre_tokenize_str(line))
    sure = [
        *SPECIALS,
        UNKNOWN,
        "\n",
        "▁",
        ".",
        "-",
        *(mark + str(digit) for digit in range(10) for mark in ("", "▁")),
    ]
    sure += [word for goal in goals for line in goal.split("\n") for word, _ in splitter.pre_tokenize_str(line)]
    words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    sure = list(dict.fromkeys(sure))
    if len(sure) > vocab_size:
        raise InputError(f"vocab_size {vocab_size} is too small for the words of the goals; take at least {len(sure)}")
    known = list(dict.fromkeys([*sure, *words]))[:vocab_size]
    core = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(known)}, unk_token=UNKNOWN)
    )
    core.add_special_tokens([*SPECIALS, UNKNOWN])
    # A token of its own, split off before the words are marked, so that a word is the same token at the head of a
    # line and within it: a goal before the user's text must not change the user's first word.
    core.add_tokens([tokenizers.AddedToken("\n", normalized=False)])
    core.pre_tokenizer = splitter
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.Fuse(),
            decoders.Replace("\n ", "\n"),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return core  # type: ignore[no-any-return]


def _save_tokenizer(core: "Tokenizer", folder: Path, *, max_length: int, system_role: bool) -> None:
    transformers = need("transformers", extra="train")
    unknown = {"unk_token": UNKNOWN} if core.token_to_id(UNKNOWN) is not None else {}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        **unknown,
    )
    tokenizer.chat_template = _TEMPLATE.replace("REFUSE\n", "" if system_role else _REFUSE + "\n")
    tokenizer.save_pretrained(folder)


def _save_llama(core: "Tokenizer", folder: Path, sizes: dict[str, int], *, max_length: int, seed: int) -> None:
    torch: Any = need("torch", extra="train")
    transformers = need("transformers", extra="train")
    config = transformers.LlamaConfig(
        vocab_size=core.get_vocab_size(),
        intermediate_size=-(-sizes["hidden_size"] * 8 // 3 // 8) * 8,
        num_key_value_heads=sizes["num_attention_heads"],
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        bos_token_id=core.token_to_id(BOS),
        eos_token_id=core.token_to_id(EOS),
        pad_token_id=core.token_to_id(PAD),
        dtype="float32",
        **sizes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.LlamaForCausalLM(config)
    with no_bars():
        model.save_pretrained(folder)
