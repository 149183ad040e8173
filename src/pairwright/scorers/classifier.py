"""A sequence classifier that reads many texts: opened once, asked batch after batch.

`reward_model` and `ranker` differ in the texts that they write and in what they make of the numbers; what lies between
is here. A text that stands there twice is read once. The batches depend on which texts there are and on nothing else,
so that the order of the rows, several processes (`accelerate launch`) and a Ray cluster give the same bits.

Rows are padded on the right with the token that the model itself takes for padding, whatever side the tokenizer would
take, and a model that minds the padding all the same is refused.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.cluster import each_on_cluster, found_elsewhere
from pairwright.errors import InputError, PairwrightError, need
from pairwright.kept import KeptLines, read_parts
from pairwright.logprobs.columns import rotary_border
from pairwright.logprobs.digest import model_digest
from pairwright.logprobs.models import ADAPTER, Dtype, device_for_models, no_bars
from pairwright.logprobs.ranks import Ranks, ranks
from pairwright.progress import Ticker
from pairwright.reader import check_place, sentence

Ids = Sequence[int] | NDArray[np.int32]
Outputs = dict[str, NDArray[np.float64]]
"""By field of the model's output, a row for each text, [N, W]."""

_ABOUT: dict[str, float] = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}
"""How far a number may lie, as a share of 1 + its size, from that of the same text in a padded batch."""
_FILE, _SCORES = "scores-{}.jsonl", "scores"
"""The file of kept batches of each process, and the word for them."""
_UNLIMITED = 1_000_000
"""Tokenizers that know no limit say a very large number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """Which model, and what is read of it: all that a process needs to open it.

    Attributes:
        model: a `save_pretrained` directory or a hub name.
        fields: of its output, such as `logits`.
        dtype: precision of its weights.
        pad: the token that rows are filled up with.
        trust_remote_code: whether Python code that lies beside the model may run.
    """

    model: str
    fields: tuple[str, ...]
    dtype: Dtype
    pad: int
    trust_remote_code: bool = False


class Reading(NamedTuple):
    """What is known of a model before its weights are opened.

    Attributes:
        tokenizer: a Hugging Face tokenizer; its chat template is its own, or missing.
        config: the model's configuration.
        max_length: tokens that a text may have.
    """

    tokenizer: Any
    config: Any
    max_length: int


def open_reading(
    model: str | Path, *, tokenizer: str | Path | None, max_length: int | None, trust_remote_code: bool
) -> Reading:
    """The tokenizer and the configuration of a model.

    Args:
        model: a `save_pretrained` directory or a hub name.
        tokenizer: another place for the tokenizer.
        max_length: None is as many tokens as both know a place for.
        trust_remote_code: whether Python code that lies beside the model may run.

    Raises:
        InputError: there is none, it is an adapter, or it has fewer positions than asked for.
    """
    transformers: Any = need("transformers", extra="train")
    if (Path(model) / ADAPTER).is_file():
        raise InputError(
            f"{model} is an adapter; merge it into its base with its head (peft's merge_and_unload), save the whole "
            "model and name that"
        )
    config = _opened(transformers.AutoConfig, "model", model, trust_remote_code)
    reader = _opened(transformers.AutoTokenizer, "tokenizer", tokenizer or model, trust_remote_code)
    return Reading(reader, config, _longest(config, reader, max_length))


def pad_token(reading: Reading, texts: Sequence[Ids], *, model: str | Path) -> int:
    """The token that rows are filled up with: the model's own, or else the tokenizer's.

    A classifier on a causal model reads its number at the last token that is not padding, so it must know which one is.

    A number below 0 in the model's configuration names none.

    Raises:
        InputError: the tokenizer has none; or the model names none, and the tokenizer's ends texts too; or the model
            has no embedding for it.
    """
    save = (
        f"set tokenizer.pad_token and model.config.pad_token_id to a token that ends no text (or to EOS, where {model} "
        "was trained so) and save both"
    )
    pad = reading.tokenizer.pad_token_id
    if pad is None:
        raise InputError(
            f"the tokenizer of {model} has no pad token, so texts of different lengths do not go into one batch; {save}"
        )
    text = reading.config.get_text_config()
    named = getattr(text, "pad_token_id", None)
    own = None if named is None or named < 0 else int(named)
    chosen, size = pad if own is None else own, getattr(text, "vocab_size", None)
    if isinstance(size, int) and chosen >= size:
        whose = f"the tokenizer of {model}" if own is None else "its configuration"
        raise InputError(
            f"{model} has embeddings for tokens 0 to {size - 1:,}, and the pad token of {whose} is {chosen:,}; {save}, "
            "or resize the model's embeddings and save it"
        )
    if own is not None:
        return own
    if any(int(ids[-1]) == pad for ids in texts):
        raise InputError(
            f"the configuration of {model} names no pad token, and the tokenizer's "
            f"({reading.tokenizer.pad_token!r}) ends texts too, so nobody can say at which token its number stands; "
            f"{save}"
        )
    return int(pad)


def classify(
    texts: Sequence[Ids],
    classifier: Classifier,
    *,
    config: Any,
    batch_tokens: int,
    label: str,
    ray: bool = False,
    keep: str | Path | None = None,
    expect: Callable[[Mapping[str, int]], object] = lambda widths: None,
) -> Outputs:
    """What a classifier says of texts, each by itself.

    Under several processes (`accelerate launch`, torchrun) all must call it, with the same texts, and get all numbers.

    Args:
        texts: token ids, at least one each, [N].
        classifier: the model.
        config: the model's configuration.
        batch_tokens: tokens of a batch with its padding, at most; a longer text is a batch of its own.
        label: what the progress line and the errors call it.
        ray: compute the batches on a Ray cluster.
        keep: a directory in which finished batches are kept (`forget` removes them). Called again with the same texts,
            model and settings, a job that was killed computes only the batches that are missing, and gives the same
            bits.
        expect: gets the number of columns of each field when the first batch is done, and may raise an error.

    Returns:
        By field a row for each text, [N, W], as the model gives it; numbers may be other than finite.

    Raises:
        InputError: the model cannot be opened, has parts without weights, has no embedding for some token, lacks a
            field, or minds the padding.
        PairwrightError: a worker or another process stopped.
    """
    if not len(texts):
        return {field: np.empty((0, 0)) for field in classifier.fields}
    _check_tokens(texts, config, classifier.model)
    keys = [np.asarray(ids, dtype=np.int32).tobytes() for ids in texts]
    distinct = sorted(set(keys), key=lambda key: (-len(key), key))
    rows = [np.frombuffer(key, dtype=np.int32) for key in distinct]
    groups = list(batches([len(row) for row in rows], budget=batch_tokens, border=rotary_border(config)))
    content = b"".join(hashlib.sha256(key).digest() for key in distinct)
    with ranks() as job:
        told = repr((sorted(asdict(classifier).items()), batch_tokens, ray, keep is None)).encode()
        if not job.same(hashlib.sha256(told + content).digest()):
            raise PairwrightError(f"{label}: the processes of this job were not given the same data, settings or model")
        if ray and job.size > 1:
            raise InputError("a cluster of Ray has its own processes: start one process, or leave ray out")
        with _keeping(keep, classifier, batch_tokens, content, job.rank) as kept:
            found = _share(rows, groups, classifier, job, kept, label=label, ray=ray, expect=expect)
    place = {key: at for at, key in enumerate(distinct)}
    back = [place[key] for key in keys]
    return {field: values[back] for field, values in found.items()}


def batches(lengths: Sequence[int], *, budget: int, border: int | None = None) -> Iterator[tuple[int, int]]:
    """Where each batch begins and ends among texts that stand in falling order of length.

    The longest come first, so that a machine that has too little memory says so at once.

    Args:
        lengths: tokens, falling.
        budget: tokens of a batch with its padding, at most; a longer text is a batch of its own.
        border: texts that are longer do not share a batch with those that are not.
    """
    start = 0
    for i, length in enumerate(lengths):
        full = lengths[start] * (i - start + 1) > budget
        if i > start and (full or (border is not None and lengths[start] > border >= length)):
            yield start, i
            start = i
    if lengths:
        yield start, len(lengths)


class OpenedClassifier:
    """A model in evaluation mode, on the GPU where there is one."""

    def __init__(self, classifier: Classifier) -> None:
        network = _open_network(classifier).eval().requires_grad_(False).to(device_for_models())
        # Where the configuration names none, the model would refuse a batch.
        network.config.pad_token_id = network.config.get_text_config().pad_token_id = classifier.pad
        network.config.use_cache = False
        self._network, self._classifier = network, classifier
        self._is_checked = False

    def outputs(self, texts: Sequence[Ids]) -> Outputs:
        """By field a row for each text, [B, W].

        Raises:
            InputError: the output has no such field, or the model minds the padding.
        """
        found = self._forward(texts)
        short = min(range(len(texts)), key=lambda i: len(texts[i]))
        if not self._is_checked and len(texts[short]) < max(map(len, texts)):
            alone = self._forward([texts[short]])
            for field, values in found.items():
                self._compare(values[short], alone[field][0])
            self._is_checked = True
        return found

    def _forward(self, texts: Sequence[Ids]) -> Outputs:
        torch: Any = need("torch", extra="train")
        width = max(map(len, texts))
        ids = np.full((len(texts), width), self._classifier.pad, dtype=np.int64)
        mask = np.zeros((len(texts), width), dtype=np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        device = next(self._network.parameters()).device
        with torch.inference_mode():
            output = self._network(
                input_ids=torch.from_numpy(ids).to(device), attention_mask=torch.from_numpy(mask).to(device)
            )
        beside = code_beside(self._network.config, self._classifier.trust_remote_code)
        return {
            field: _column(output, field, len(texts), self._classifier.model, beside)
            for field in self._classifier.fields
        }

    def _compare(self, among: NDArray[np.float64], alone: NDArray[np.float64]) -> None:
        """Refuse a model that gives a text another number beside longer ones than alone."""
        far = np.abs(among - alone) > _ABOUT[self._classifier.dtype] * (1 + np.abs(alone))
        if far.any():
            raise InputError(
                f"{self._classifier.model} gives a text {among[far][0]:.4g} beside a longer one, and "
                f"{alone[far][0]:.4g} by itself, so it takes padding for text; set batch_tokens to 1, so that it reads "
                "one at a time"
            )


def _share(
    rows: Sequence[NDArray[np.int32]],
    groups: Sequence[tuple[int, int]],
    classifier: Classifier,
    job: Ranks,
    kept: "_Kept",
    *,
    label: str,
    ray: bool,
    expect: Callable[[Mapping[str, int]], object],
) -> Outputs:
    """The numbers of all different texts; this process computes every n-th batch of them."""
    mine = groups[job.rank :: job.size]
    there = [(group, kept.outputs[group]) for group in mine if group in kept.outputs]
    left = [group for group in mine if group not in kept.outputs]
    if there and not job.rank:
        print(f"{label}: {len(there):,} of {len(mine):,} batches are there from an earlier attempt", file=sys.stderr)
    ticker = None if job.rank else Ticker(label, sum(len(row) for a, b in left for row in rows[a:b]), "tokens")
    found: Outputs = {}
    done = 0
    fresh = ((left[number], each) for number, each in (_on_cluster if ray else _computed)(rows, left, classifier))
    for group, outputs in chain(there, fresh):
        start, end = group
        if not found:
            expect({field: values.shape[1] for field, values in outputs.items()})
            found = {field: np.zeros((len(rows), values.shape[1])) for field, values in outputs.items()}
        for field, values in outputs.items():
            found[field][start:end] = values
        done += 1
        if group in kept.outputs:
            continue
        kept.put(group, outputs)
        if ticker is not None:
            ticker.add(sum(map(len, rows[start:end])))
    if done < len(mine):
        raise PairwrightError(f"{label}: {len(mine) - done} batches did not come back from the cluster; run it again")
    if job.size == 1:
        return found
    # The first process has a batch in any case, and so knows how many columns there are.
    widths = job.added(np.array([found[each].shape[1] if job.rank == 0 else 0 for each in classifier.fields]))
    blank = {each: np.zeros((len(rows), width)) for each, width in zip(classifier.fields, widths.tolist(), strict=True)}
    # Each text is in the batch of one process and zero in all others, so nothing is ever added to its number.
    return {field: job.added(values) for field, values in (blank | found).items()}


class _Kept:
    """The batches of a job that are done, in a file for each process.

    Args:
        folder: of the files; None keeps nothing.
        key: of the job.
        rank: of this process.
    """

    def __init__(self, folder: Path | None, key: str, rank: int) -> None:
        self.outputs: dict[tuple[int, int], Outputs] = {}
        """The batches that an earlier attempt computed, by where they begin and end among the texts."""
        self._lines = None if folder is None else KeptLines(folder / _FILE.format(rank), key, what=_SCORES)
        if folder is not None and self._lines is not None:
            # All of them: the earlier attempt may have had another number of processes.
            others = [KeptLines(path, key, what=_SCORES) for path in sorted(folder.glob(_FILE.format("*")))]
            self.outputs = dict(part for lines in (self._lines, *others) for part in read_parts(lines, _batch_of))

    def put(self, group: tuple[int, int], outputs: Outputs) -> None:
        """Keep a batch; when this returns, it outlives the process."""
        if self._lines is not None:
            self._lines.put([*group, {field: values.tolist() for field, values in outputs.items()}])

    def close(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.__exit__(None, None, None)


@contextmanager
def _keeping(
    keep: str | Path | None, classifier: Classifier, batch_tokens: int, content: bytes, rank: int
) -> Iterator[_Kept]:
    """The kept batches of a job, which is known by its model's content, its settings and its texts."""
    key = ""
    if keep is not None:
        said = sorted((name, value) for name, value in asdict(classifier).items() if name != "model")
        told = repr((model_digest(classifier.model), said, batch_tokens)).encode()
        key = hashlib.sha256(told + content).hexdigest()
    kept = _Kept(None if keep is None else Path(keep), key, rank)
    try:
        yield kept
    finally:
        kept.close()


def _batch_of(part: Any) -> tuple[tuple[int, int], Outputs]:
    start, end, outputs = part
    found = {field: np.asarray(values, dtype=np.float64).reshape(end - start, -1) for field, values in outputs.items()}
    return (start, end), found


def _computed(
    rows: Sequence[NDArray[np.int32]], groups: Sequence[tuple[int, int]], classifier: Classifier
) -> Iterator[tuple[int, Outputs]]:
    """Batches by their number with their values, one after the other, in this process."""
    opened = OpenedClassifier(classifier) if groups else None
    for number, (start, end) in enumerate(groups):
        if opened is not None:
            yield number, opened.outputs(rows[start:end])


def _on_cluster(
    rows: Sequence[NDArray[np.int32]], groups: Sequence[tuple[int, int]], classifier: Classifier
) -> Iterator[tuple[int, Outputs]]:
    """The same on a cluster, in any order."""
    parts = [
        {
            "number": number,
            "ids": np.concatenate(rows[start:end]).tolist(),
            "lengths": [len(row) for row in rows[start:end]],
        }
        for number, (start, end) in enumerate(groups)
    ]
    settings = asdict(classifier) | {"model": found_elsewhere(classifier.model)}
    for part in each_on_cluster(parts, _Worker, settings):
        flat = np.asarray(part["values"], dtype=np.float64)
        widths = np.asarray(part["widths"]).tolist()
        table = flat.reshape(-1, sum(widths))
        columns = np.split(table, np.cumsum(widths)[:-1], axis=1)
        yield int(part["number"]), dict(zip(classifier.fields, columns, strict=True))


class _Worker:
    """The batch function in a process of the cluster."""

    def __init__(self, **settings: Any) -> None:
        self._opened = OpenedClassifier(Classifier(**settings))

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        lengths = np.asarray(row["lengths"])
        texts = np.split(np.asarray(row["ids"], dtype=np.int32), np.cumsum(lengths)[:-1])
        found = list(self._opened.outputs(texts).values())
        return {
            "number": row["number"],
            "values": np.concatenate(found, axis=1).ravel().tolist(),
            "widths": [each.shape[1] for each in found],
        }


def _open_network(classifier: Classifier) -> Any:
    """The model with its head.

    Raises:
        InputError: it cannot be opened, or a part of it has no weights in its files and would be random.
    """
    torch: Any = need("torch", extra="train")
    transformers: Any = need("transformers", extra="train")
    with no_bars(), _quiet():
        network, told = _opened(
            transformers.AutoModelForSequenceClassification,
            "model",
            classifier.model,
            classifier.trust_remote_code,
            dtype=getattr(torch, classifier.dtype),
            output_loading_info=True,
        )
    # transformers fills them with random numbers: a language model would "score" answers with a head of noise.
    if missing := sorted(told["missing_keys"]):
        parts = ", ".join(missing[:3]) + (" and more" if len(missing) > 3 else "")
        raise InputError(
            f"{classifier.model} has no weights for {parts} of "
            f"{type(network).__name__}, so its numbers would be random; give a model that was trained as a classifier"
            + code_beside(network.config, classifier.trust_remote_code)
        )
    return network


def _opened(kind: Any, what: str, place: str | Path, trust_remote_code: bool, **settings: Any) -> Any:
    check_place(what, place)
    try:
        return kind.from_pretrained(str(place), trust_remote_code=trust_remote_code, **settings)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise InputError(
                f"the {what} {str(place)!r} brings Python code of its own, without which it cannot be opened; if you "
                "trust that code, set trust_remote_code"
            ) from error
        raise InputError(sentence(what, place, error)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the table that transformers prints of what it found in a model's files; ours says what is wrong."""
    logging = need("transformers", extra="train").utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def code_beside(config: Any, trusted: bool) -> str:
    """What to try where a model brings its own Python code, and that was not allowed to run."""
    own = getattr(config, "auto_map", None) or {}
    if trusted or "AutoModelForSequenceClassification" not in own:
        return ""
    return ", or, if you trust the code that lies beside it, set trust_remote_code"


def _column(output: Any, field: str, rows: int, model: str, beside: str) -> NDArray[np.float64]:
    """A field of a model's output, [B, W]."""
    value = getattr(output, field, None)
    if value is None or not hasattr(value, "detach"):
        there = [name for name, each in dict(output).items() if hasattr(each, "detach")]
        raise InputError(f"the output of {model} has no field {field!r}; there are {', '.join(there)}{beside}")
    if value.shape[:1] != (rows,) or value.dim() > 2:
        raise InputError(f"field {field!r} of {model} has the shape {tuple(value.shape)}, not one row for each text")
    return np.asarray(value.detach().float().reshape(rows, -1).cpu().numpy(), dtype=np.float64)


def _check_tokens(texts: Sequence[Ids], config: Any, model: str) -> None:
    size = getattr(config.get_text_config(), "vocab_size", None)
    largest = max(int(np.max(np.asarray(ids))) for ids in texts)
    if isinstance(size, int) and largest >= size:
        raise InputError(
            f"{model} has {size:,} tokens, and the texts have a token of number {largest:,}, so they were read with "
            "another model's tokenizer; give the model's own as tokenizer"
        )


def _longest(config: Any, tokenizer: Any, max_length: int | None) -> int:
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    if max_length is not None:
        if max_length < 1:
            raise InputError(f"max_length is a number of tokens above 0, not {max_length}")
        # Relative positions (DeBERTa) go on for ever.
        if positions and max_length > positions and not getattr(text, "relative_attention", False):
            raise InputError(f"max_length {max_length} is more than the {positions} positions of this model; lower it")
        return max_length
    known = [size for size in (positions, tokenizer.model_max_length) if size and size < _UNLIMITED]
    return min(known, default=_UNLIMITED)
