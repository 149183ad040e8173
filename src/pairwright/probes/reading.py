"""What a model says of held-out pairs: encoded once, read again and again.

The model may be in the middle of its training. It is read in evaluation mode and without gradients, and left as it was:
modes of its modules, gradients, and the state of the random numbers.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
import torch

from pairwright.errors import InputError, PairwrightError
from pairwright.goals import GoalFormat, place
from pairwright.logprobs.columns import placement_for
from pairwright.logprobs.core import Batch, TokenLogps, token_values, unwrapped
from pairwright.logprobs.tokenise import Limits, Texts, Tokens, tokenise_many
from pairwright.logprobs.trees import batches
from pairwright.preferences import MESSAGES, Preferences
from pairwright.probes.store import CREDIT, PROBE

Asked = Literal["none", "top", "own"]
ASKED: tuple[Asked, ...] = ("none", "top", "own")
Key = tuple[int, str, str]
"""`(pair, side, asked)`: which answer under which prompt."""
KEY = ("pair", "side", "asked")

_SIDES = ("chosen", "rejected")
_TOKENS = {**{name: CREDIT[name] for name in ("pair", "side", "asked", "tokens")}, "logp": pl.List(pl.Float64)}


@dataclass(frozen=True)
class Held:
    """Held-out pairs as tokens.

    Attributes:
        rows: one row for each answer under each prompt, by pair, side (chosen, rejected) and prompt (none, top, own):
            `pair` (row of the pairs that were encoded), `prompt_id`, `response_id`, `side`, `score`, `asked`, `goal`
            (score units; null without one or where it is no single number), `length` (tokens of the answer).
        prompts: token ids of the prompts, [P].
        answers: token ids of the answers, [N], one for each row.
        owner: which prompt each answer belongs to, [N].
        goal: how goals are said, with the placement decided; None where none are asked for.
        dropped: pairs that cannot be read, by reason.
        notes: what a reader should know, a sentence each.
        tokenizer: that the tokens are of.
    """

    rows: pl.DataFrame
    prompts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]
    owner: Sequence[int]
    goal: GoalFormat | None
    dropped: Mapping[str, int]
    notes: tuple[str, ...]
    tokenizer: Any = field(repr=False, compare=False)

    @property
    def pairs(self) -> int:
        """Pairs that are read."""
        return self.rows["pair"].n_unique()


def encode(prefs: Preferences, tokenizer: Any, *, goal: GoalFormat | None, limits: Limits) -> Held:
    """The tokens of pairs without a goal and, where a format is given, asked for its best and for what they have.

    A pair of which an answer cannot be read under one of the prompts is left out under all of them, so that these
    speak of the same pairs, and counted under the reason of `logprobs` (`lost_to_truncation`, `several_turns`, ...).

    Args:
        prefs: pairs as `held_out` gives them.
        tokenizer: of the model, with a chat template.
        goal: how the model is asked for scores; None asks for none.
        limits: lengths in tokens, those of the training.

    Raises:
        InputError: no pair can be read, or the chat template refuses one.
    """
    form = None if goal is None else goal.model_copy(update={"placement": placement_for(goal, tokenizer)})
    view = prefs.texts().select("prompt_id", "prompt", "chosen_id", "rejected_id", *_SIDES, *_SCORES).collect()
    wanted = list(_wanted(view, form))
    read = tokenise_many(tokenizer, [each.texts for each in wanted], limits=limits)
    found = [(each, head, tokens) for each, (head, tokens) in zip(wanted, read, strict=True)]
    lost: dict[int, str] = {}
    for each, _, tokens in found:
        for one in tokens:
            if one.lost is not None:
                lost.setdefault(each.pair, one.lost)
    dropped: dict[str, int] = {}
    for why in lost.values():
        dropped[why] = dropped.get(why, 0) + 1
    kept = [(each, head.ids, tokens) for each, head, tokens in found if each.pair not in lost]
    if not kept:
        said = ", ".join(f"{count:,} {why}" for why, count in dropped.items())
        raise InputError(
            f"probes: none of the held-out pairs can be read ({said or 'there are none'}); raise max_length"
        )
    cut = len({each.pair for each, head, _ in found if head.cut and each.pair not in lost})
    return _held(view, kept, form, dropped, tokenizer, _notes(view, form, cut))


def read_pairs(
    model: torch.nn.Module,
    held: Held,
    *,
    start: Mapping[Key, float] | None = None,
    batch_tokens: int = 8192,
    top: int = 10,
) -> pl.DataFrame:
    """What a model says of held-out pairs: a probe.

    Where several processes train one model, each of them must call this: all compute the same, so that none of them
    has tried what a model can do (`logprobs.core.layout_of`) when the others have not. A model whose weights are spread
    over processes (FSDP, ZeRO-3) is not for this.

    Args:
        model: in training or not, wrapped by PEFT and DDP or not.
        held: the pairs.
        start: log-probabilities under the start (`start_of` its own probe); None leaves `start_logp` null.
        batch_tokens: tokens of a batch, at most; a prompt counts once for all its answers.
        top: how many most likely tokens `top_entropy`, `raw_top_entropy` and `top_mass` are of.

    Returns:
        Columns `PROBE`, rows as those of `held`: `logp` in nats, summed; `entropy` in nats, `top_entropy` and
        `raw_top_entropy` in bits, `top_mass` a probability, each the mean over the answer's tokens.

    Raises:
        PairwrightError: a log-probability is not finite.

    Source: arXiv 2410.11677, section 4 (entropy and mass of the most likely tokens).
    """
    columns = {name: np.zeros(len(held.rows)) for name in ("logp", *SPREADS)}
    for rows, values in _batches(model, held, range(len(held.rows)), batch_tokens, top):
        for name, numbers in (("logp", _array(values.sums.logp)), *spreads(values).items()):
            columns[name][rows] = numbers
    if not np.isfinite(columns["logp"]).all():
        raise PairwrightError("probes: the model gives an answer a log-probability that is not finite; its weights are")
    keys = held.rows.select(KEY).iter_rows()
    known = [None if start is None else start.get(key) for key in keys]
    frame = held.rows.with_columns(
        **{name: pl.Series(numbers) for name, numbers in columns.items()},
        start_logp=pl.Series(known, dtype=pl.Float64),
    )
    return frame.select(pl.col(name).cast(dtype) for name, dtype in PROBE.items())


def start_of(rows: pl.DataFrame) -> dict[Key, float]:
    """The log-probabilities of a probe of the start, as `read_pairs` takes them for all later ones."""
    return {(pair, side, asked): logp for pair, side, asked, logp in rows.select(*KEY, "logp").iter_rows()}


def at_start(rows: pl.DataFrame) -> pl.DataFrame:
    """A probe of the start itself: its `start_logp` is its `logp`."""
    return rows.with_columns(start_logp=pl.col("logp"))


def read_tokens(model: torch.nn.Module, held: Held, *, pairs: int = 50, batch_tokens: int = 8192) -> pl.DataFrame:
    """What a model says of each token of the answers of the first pairs; see `read_pairs`.

    Returns:
        `pair`, `side`, `asked`, `tokens` (their texts: together they spell the answer; a character of several tokens
        stands with the last one) and `logp` (list of nats).
    """
    first = held.rows["pair"].unique(maintain_order=True).head(pairs)
    chosen = held.rows.with_row_index("row").filter(pl.col("pair").is_in(first.implode()))
    logps: dict[int, list[float]] = {}
    for rows, values in _batches(model, held, chosen["row"].to_list(), batch_tokens, None):
        parts = torch.split(values.logp.double().cpu(), values.length.tolist())
        logps |= {row: part.tolist() for row, part in zip(rows, parts, strict=True)}
    spelt: dict[tuple[int, ...], list[str]] = {}
    for row in logps:
        ids = tuple(held.answers[row])
        if ids not in spelt:
            spelt[ids] = token_texts(held.tokenizer, ids)
    order = chosen["row"].to_list()
    texts = [spelt[tuple(held.answers[row])] for row in order]
    frame = chosen.with_columns(tokens=pl.Series(texts), logp=pl.Series([logps[row] for row in order]))
    return frame.select(pl.col(name).cast(dtype) for name, dtype in _TOKENS.items())


def credit_of(policy: pl.DataFrame, start: pl.DataFrame) -> pl.DataFrame:
    """The log-ratio of each token, policy over start, in nats: what `read_tokens` says of both.

    Returns:
        Columns `CREDIT`, rows as those of `policy`; the credits of an answer sum to its log-ratio.

    Raises:
        InputError: the two speak of other tokens.
    """
    both = policy.join(start.rename({"logp": "before"}), on=list(KEY), how="left", maintain_order="left")
    same = (pl.col("tokens") == pl.col("tokens_right")) & (pl.col("logp").list.len() == pl.col("before").list.len())
    if not both.select(same.fill_null(False).all()).item():
        raise InputError("probes: the two models were read on other tokens; read both with one tokenizer and pairs")
    credits = both.with_columns(credit=pl.col("logp") - pl.col("before"))
    return credits.select(pl.col(name).cast(dtype) for name, dtype in CREDIT.items())


def credit(
    model: torch.nn.Module, start: torch.nn.Module, held: Held, *, pairs: int = 50, batch_tokens: int = 8192
) -> pl.DataFrame:
    """The log-ratio of each token of the answers of the first pairs, model over start, in nats; see `credit_of`."""
    settings: dict[str, Any] = {"pairs": pairs, "batch_tokens": batch_tokens}
    return credit_of(read_tokens(model, held, **settings), read_tokens(start, held, **settings))


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text of each token, special ones written out; together they are the text of all.

    A token that ends within a character has an empty text; the character stands with the token that completes it.
    """

    def spelt(part: Sequence[int]) -> str:
        return str(tokenizer.decode(list(part), skip_special_tokens=False))

    texts: list[str] = []
    # What a token adds can depend on the one before it (a space in front of a word), so that one is decoded with it.
    begin = read = 0
    for end in range(1, len(ids) + 1):
        before, now = spelt(ids[begin:read]), spelt(ids[begin:end])
        if now.endswith("\ufffd") and end < len(ids):
            texts.append("")
            continue
        texts.append(now[len(before) :])
        begin, read = read, end
    return texts


def vocabulary_of(model: torch.nn.Module) -> int:
    """How many tokens a model chooses among."""
    inner = unwrapped(model)
    head = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    weight = getattr(head, "weight", None)
    return int(inner.config.get_text_config().vocab_size if weight is None else len(weight))


SPREADS = ("entropy", "top_entropy", "raw_top_entropy", "top_mass")


def spreads(values: TokenLogps) -> dict[str, np.ndarray]:
    """Means over each answer's tokens of how the probability was spread, [N] each; empty where it was not read.

    The entropy of the k most likely tokens among themselves, H, and their mass M give that of their plain
    probabilities: with p = M q, `-sum p log p = M (H - log M)`.
    """
    if values.spread is None:
        return {}
    entropy, mass, among = (_array(part) for part in values.spread)
    lengths = values.length.cpu().numpy()
    ends = np.cumsum(lengths)
    raw = mass * (among - np.log(mass))
    bits = math.log(2.0)
    by_token = dict(zip(SPREADS, (entropy, among / bits, raw / bits, mass), strict=True))
    return {name: np.add.reduceat(each, ends - lengths) / lengths for name, each in by_token.items()}


@contextmanager
def only_read(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The model in evaluation mode and without gradients, as this process has it; afterwards it is as it was.

    What DDP or torch.compile put around it is left out: a pass through DDP is a meeting of all processes.
    """
    inner: Any = model
    while isinstance(inner, torch.nn.parallel.DistributedDataParallel) or hasattr(inner, "_orig_mod"):
        inner = inner.module if isinstance(inner, torch.nn.parallel.DistributedDataParallel) else inner._orig_mod
    training = [module for module in inner.modules() if module.training]
    device = next(inner.parameters()).device
    devices = [] if device.type == "cpu" else [device.index or 0]
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng(devices=devices, device_type=kind), torch.no_grad():
        try:
            yield inner.eval()
        finally:
            for module in training:
                module.training = True


_SCORES = ("score_chosen", "score_rejected")


class _Wanted(NamedTuple):
    """One prompt of a pair with the answers that are read under it."""

    pair: int
    asked: Asked
    sides: tuple[str, ...]
    goal: float | None
    texts: Texts


def _asks_one_score(form: GoalFormat) -> bool:
    return not form.attributes and form.asks == "scores"


def _wanted(view: pl.DataFrame, form: GoalFormat | None) -> Iterator[_Wanted]:
    """The prompts of each pair: without a goal, with the best one, and with what each answer has."""
    plain = view["prompt"].to_list()
    tops = None if form is None else _placed(view["prompt"], [form.best] * len(view), form)
    owns = {}
    if form is not None and _asks_one_score(form):
        owns = {side: _placed(view["prompt"], _finite(view[f"score_{side}"]), form) for side in _SIDES}
    answers = list(view.select(*_SIDES).iter_rows())
    for i, both in enumerate(answers):
        yield _Wanted(i, "none", _SIDES, None, Texts(plain[i], "", list(both)))
        if form is not None and tops is not None:
            best = form.best if isinstance(form.best, float) else None
            yield _Wanted(i, "top", _SIDES, best, Texts(*tops[i], list(both)))
        for side, answer in zip(_SIDES, both, strict=True):
            score = view[f"score_{side}"][i]
            if side in owns and score is not None and math.isfinite(score):
                yield _Wanted(i, "own", (side,), score, Texts(*owns[side][i], [answer]))


def _finite(scores: pl.Series) -> list[float | None]:
    return [score if score is not None and math.isfinite(score) else None for score in scores.to_list()]


def _placed(prompts: pl.Series, goals: Sequence[Any], form: GoalFormat) -> list[tuple[Any, str]]:
    """Each prompt with a goal in it, and the sentence that a cut must not touch."""
    where: Any = form.placement  # decided by `placement_for`
    kind = pl.List(pl.Float64) if form.attributes else pl.Float64()
    frame = pl.DataFrame({"prompt": prompts, "goal": pl.Series(list(goals), dtype=kind)})
    frame = frame.cast({"prompt": MESSAGES}).with_columns(text=form.text(pl.col("goal")))
    placed = frame.select(place(pl.col("prompt"), pl.col("text"), where), pl.col("text").fill_null(""))
    return [(prompt, text) for prompt, text in placed.iter_rows()]


def _held(
    view: pl.DataFrame,
    kept: Sequence[tuple[_Wanted, list[int], list[Tokens]]],
    form: GoalFormat | None,
    dropped: Mapping[str, int],
    tokenizer: Any,
    notes: tuple[str, ...],
) -> Held:
    ids = view["prompt_id"].to_list()
    number: dict[tuple[int, ...], int] = {}
    rows, answers, owner = [], [], []
    for each, prompt, tokens in kept:
        at = number.setdefault(tuple(prompt), len(number))
        for side, one in zip(each.sides, tokens, strict=True):
            response, score = view[f"{side}_id"][each.pair], view[f"score_{side}"][each.pair]
            rows.append((each.pair, ids[each.pair], response, side, score, each.asked, each.goal))
            answers.append(one.completion_ids)
            owner.append(at)
    # By pair, side and prompt, as probes are written.
    order = sorted(range(len(rows)), key=lambda i: (rows[i][0], _SIDES.index(rows[i][3]), ASKED.index(rows[i][5])))
    schema = {name: PROBE[name] for name in ("pair", "prompt_id", "response_id", "side", "score", "asked")}
    frame = pl.DataFrame([rows[i] for i in order], schema={**schema, "goal": pl.Float64}, orient="row")
    answers = [answers[i] for i in order]
    return Held(
        rows=frame.with_columns(length=pl.Series([len(each) for each in answers], dtype=pl.UInt32)),
        prompts=[list(each) for each in number],
        answers=answers,
        owner=[owner[i] for i in order],
        goal=form,
        dropped=dropped,
        notes=notes,
        tokenizer=tokenizer,
    )


def _notes(view: pl.DataFrame, form: GoalFormat | None, cut: int) -> tuple[str, ...]:
    notes = []
    if cut:
        notes.append(f"{cut:,} pairs have a prompt that was cut, as in training, to fit.")
    if form is None:
        return tuple(notes)
    if not _asks_one_score(form):
        notes.append("Answers are not asked for their own score: this model is not asked for one score but for others.")
        return tuple(notes)
    scores = [score for side in _SIDES for score in _finite(view[f"score_{side}"])]
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        notes.append(f"{len(scores) - len(known):,} of {len(scores):,} answers have no score to be asked for.")
    low, high = form.ranges[0]
    if outside := sum(not low <= score <= high for score in known):
        notes.append(
            f"{outside:,} scores lie outside the goals of training ({low:g} to {high:g}) and are asked as its end."
        )
    return tuple(notes)


def _batches(
    model: torch.nn.Module, held: Held, rows: Sequence[int], budget: int, top: int | None
) -> list[tuple[list[int], TokenLogps]]:
    """Rows of `held` that are read together, with what the model says of them.

    A list: a generator would leave its caller without gradients between two batches.
    """
    found = []
    owners = [held.owner[row] for row in rows]
    prompts = [len(each) for each in held.prompts]
    lengths = [len(held.answers[row]) for row in rows]
    with only_read(model) as ready:
        device = next(ready.parameters()).device
        for part in batches(prompts, lengths, owners, order=range(len(rows)), budget=budget):
            members = [rows[i] for i in part]
            number: dict[int, int] = {}
            owner = [number.setdefault(held.owner[row], len(number)) for row in members]
            batch = Batch.of([held.prompts[p] for p in number], [held.answers[row] for row in members], owner)
            found.append((members, token_values(ready, batch.to(device), top=top)))
    return found


def _array(values: torch.Tensor) -> np.ndarray:
    return np.asarray(values.double().cpu().numpy())
