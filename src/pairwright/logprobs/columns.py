"""The verb `logprobs`: what a model says of every answer, as columns.

The columns serve selection by implicit margin, training without a second model in memory, and before/after diagnosis.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pairwright.chat import supports_system
from pairwright.errors import InputError, need
from pairwright.goals import GoalFormat
from pairwright.logprobs.models import Dtype, name_of, open_config, open_tokenizer
from pairwright.logprobs.ranks import is_first
from pairwright.logprobs.stored import find_logps
from pairwright.logprobs.tokenise import Limits, Texts, tokenise_many
from pairwright.preferences import Preferences, Step
from pairwright.reader import notes_on

SIDES = ("chosen", "rejected")


class Scored(NamedTuple):
    """Log-probabilities (nats) and token counts, null where an answer has none, and how many have none by reason."""

    logp: list[float | None]
    length: list[int | None]
    lost: dict[str, int]


def logprobs(
    prefs: Preferences,
    *,
    model: str | Path,
    name: str | None = None,
    reference: str | Path | None = None,
    reference_name: str = "ref",
    tokenizer: str | Path | None = None,
    batch_tokens: Annotated[int, Field(gt=0)] = 8192,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    dtype: Dtype = "float32",
    only: str | None = None,
    store: bool = True,
    ray: bool = False,
) -> Preferences:
    """Write each answer's log-probability under a model, summed over its tokens, in nats.

    Where no pair asks for a goal, `responses` gets `logp_<name>` and `len_<name>` (completion tokens). Where pairs ask
    for goals, the same answer stands under several prompts, so `pairs` gets `logp_<name>_chosen`,
    `logp_<name>_rejected` and the same for `len`. `Preferences.view("logp_<name>")` finds either. An answer that is
    missing, empty, of several messages, or too long for `max_length` gets null, as one without a prompt does; how many
    is said in the lineage.

    What the store has seen of a model is not computed again, whatever the model is called and wherever it lies; a run
    that was killed goes on where it was. Under `accelerate launch` the processes share the work and each gets all of
    it. `pairwright logprobs --prune` shows what the store holds, and clears it.

    Args:
        prefs: the answers.
        model: a `save_pretrained` directory or hub name.
        name: of the columns; the last part of `model` when not given.
        reference: a second model, whose columns are `logp_<reference_name>`; training reads them in place of a model.
        reference_name: of the reference's columns.
        tokenizer: of both models; the model's own when not given.
        batch_tokens: tokens of a batch, at most; a prompt counts once for all its answers (a longer answer is a batch
            of its own).
        max_length: tokens of prompt and answer; None is 1024, or as many as the models can read.
        max_prompt_length: tokens of the prompt; None is half of `max_length`; longer prompts are cut in the user's
            text.
        dtype: precision of the weights; sums are float32 in any case.
        only: a split; answers that no pair of it needs get null, and are counted as `other_split`.
        store: read and write the store; without it everything is computed and nothing kept.
        ray: compute on a Ray cluster: the one of RAY_ADDRESS or `ray start`, else one made of this machine.

    Raises:
        InputError: there is no such model or split, its template refuses the prompts, two columns would have one
            name, or model and reference cannot read the same texts.
        PairwrightError: a log-probability is not finite, or another process of the job stopped.
    """
    need("torch", extra="train")
    models = {label_of(name or name_of(model)): model}
    reference_name = label_of(reference_name)
    if reference is not None:
        if reference_name in models:
            raise InputError(f"model and reference would both fill logp_{reference_name}; set name or reference_name")
        models[reference_name] = reference
    reader = open_tokenizer(tokenizer or model)
    part = prefs if only is None else _in_split(prefs, only)
    on_pairs = part.has_goals
    limits = _limits({str(place): open_config(place) for place in models.values()}, max_length, max_prompt_length)
    read = _read(reader, pair_texts(part, reader) if on_pairs else answer_texts(part), limits)
    for label, place in models.items():
        scored = _score(
            read,
            model=place,
            dtype=dtype,
            batch_tokens=batch_tokens,
            label=f"logp_{label}",
            ray=ray,
            store=store,
        )
        settings = {"model": str(place), "name": label, "dtype": dtype, **limits._asdict()}
        if only is not None:
            settings["only"] = only
            scored = _among_all(prefs, only, scored, on_pairs=on_pairs)
        prefs = _with_columns(prefs, label, scored, on_pairs=on_pairs, settings=settings, notes=notes_on(reader))
    return prefs


def label_of(name: str) -> str:
    """What stands after `logp_` in a column's name; `logp_base` is the column of `base`, as everywhere else."""
    return name.removeprefix("logp_") or name


def _in_split(prefs: Preferences, only: str) -> Preferences:
    """The pairs of a split, and the answers that they need, in their order."""
    there = prefs.pairs.select(pl.col("split").unique().sort().drop_nulls()).collect()["split"].to_list()
    if only not in there:
        known = f"they are in {', '.join(there)}" if there else "there are none"
        raise InputError(f"logprobs: no pairs are in split {only!r} ({known}); run split first, or change only")
    pairs = prefs.pairs.filter(pl.col("split") == only)
    return Preferences.of(prefs.prompts, prefs.responses.filter(_needed(pairs)), pairs, prefs.lineage)


def _needed(pairs: pl.LazyFrame) -> pl.Expr:
    """Whether a row of responses is the answer of one of these pairs."""
    ids = pairs.select(pl.col("chosen_id").append(pl.col("rejected_id")).unique()).collect().to_series()
    return pl.col("response_id").is_in(ids.implode())


def _among_all(prefs: Preferences, only: str, scored: Scored, *, on_pairs: bool) -> Scored:
    """What was found for the answers of a split, in the places that they have among all; null for the others."""
    in_split = pl.col("split").eq_missing(pl.lit(only))
    if on_pairs:
        mask = prefs.pairs.select(in_split).collect().to_series().to_numpy().repeat(2)
    else:
        mask = prefs.responses.select(_needed(prefs.pairs.filter(in_split))).collect().to_series().to_numpy()
    logp: list[float | None] = [None] * len(mask)
    length: list[int | None] = [None] * len(mask)
    for at, value, tokens in zip(mask.nonzero()[0].tolist(), scored.logp, scored.length, strict=True):
        logp[at], length[at] = value, tokens
    others = len(mask) - len(scored.logp)
    return Scored(logp, length, scored.lost | ({"other_split": others} if others else {}))


def answer_texts(prefs: Preferences) -> Iterator[Texts]:
    """Every answer with its prompt, in the order of `responses`; goals play no part."""
    asked = prefs.prompts.select("prompt_id", "prompt")
    frame = prefs.responses.select("prompt_id", "response").join(
        asked, on="prompt_id", how="left", maintain_order="left"
    )
    for batch in frame.collect_batches(chunk_size=10_000, maintain_order=True):
        for prompt, response in batch.select("prompt", "response").iter_rows():
            yield Texts(prompt, "", [response])


def pair_texts(prefs: Preferences, tokenizer: Any) -> Iterator[Texts]:
    """Every pair's prompt, its goal in place, with the chosen and the rejected answer, in the order of `pairs`."""
    placement = placement_for(prefs.goal_format, tokenizer)
    frame = prefs.texts(placement=placement)
    form = prefs.goal_format
    keep = pl.lit("") if form is None else form.text(pl.col("goal")).fill_null("")
    frame = frame.select("prompt", keep.alias("keep"), "chosen", "rejected")
    for batch in frame.collect_batches(chunk_size=10_000, maintain_order=True):
        for prompt, goal, chosen, rejected in batch.iter_rows():
            yield Texts(prompt, goal, [chosen, rejected])


def placement_for(form: GoalFormat | None, tokenizer: Any) -> Literal["system", "user"] | None:
    """Where goals go with this tokenizer: `auto` is a system message where the chat template shows one.

    Raises:
        InputError: the goals were made for a system message, and the template refuses or hides it.
    """
    if form is None or form.placement == "user":
        return None if form is None else "user"
    if supports_system(tokenizer):
        return "system"
    if form.placement == "auto":
        return "user"
    raise InputError(
        "the goals go into a system message, but the chat template of "
        f"{getattr(tokenizer, 'name_or_path', '') or 'this tokenizer'} does not show one; relabel with placement 'user'"
    )


def _limits(configs: Mapping[str, Any], max_length: int | None, max_prompt_length: int | None) -> Limits:
    """The lengths that all models of a call can read, so that their numbers are of the same texts.

    Args:
        configs: configurations of the models by what they are called.
        max_length: None is the smallest default of them.
        max_prompt_length: None is half of `max_length`.

    Raises:
        InputError: the models read other tokens, one of them cannot read as many as asked for, or one would read a
            text otherwise in long company than alone.
    """
    sizes = {name: getattr(config.get_text_config(), "vocab_size", None) for name, config in configs.items()}
    if len(set(sizes.values())) > 1:
        said = " and ".join(f"{name} has {size} tokens" for name, size in sizes.items())
        raise InputError(f"{said}; model and reference must share a tokenizer")
    found = []
    for name, config in configs.items():
        limits, border = Limits.of(config, max_length, max_prompt_length), rotary_border(config)
        if border is not None and limits.max_length > border:
            if max_length is not None:
                raise InputError(
                    f"{name} reads all texts of a batch otherwise once one is longer than {border} tokens (longrope), "
                    f"so max_length {max_length} would let a value depend on its company; set max_length to {border} "
                    "or less"
                )
            limits = Limits.of(config, border, max_prompt_length)
        found.append(limits)
    return min(found)


def rotary_border(config: Any) -> int | None:
    """The length from which a model takes other rotary frequencies, for the whole batch at once; None for most models.

    Source: Ding et al., arXiv 2402.13753 (LongRoPE); `longrope_frequency_update` of transformers.
    """
    text = config.get_text_config()
    said = getattr(text, "rope_parameters", None) or {}
    # One set of parameters, or one for each type of layer.
    sets = [said, *(each for each in said.values() if isinstance(each, Mapping))]
    borders = [
        each.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
        for each in sets
        if each.get("rope_type") == "longrope"
    ]
    return min((border for border in borders if border), default=None)


class _Read(NamedTuple):
    """All answers as tokens, int32 arrays: four bytes a token.

    Attributes:
        prompts: [P] token ids.
        answers: token ids of those answers that can be scored, [N].
        owner: which prompt each of them belongs to, [N].
        place: which of all answers each of them is, [N].
        length: tokens of every answer, null where it cannot be scored.
        lost: how many cannot, by reason.
    """

    prompts: list[NDArray[np.int32]]
    answers: list[NDArray[np.int32]]
    owner: list[int]
    place: list[int]
    length: list[int | None]
    lost: dict[str, int]


def _read(tokenizer: Any, rows: Iterator[Texts], limits: Limits) -> _Read:
    """The tokens of every answer of `rows`, in their order; rows of one prompt that follow each other share it."""
    read = _Read([], [], [], [], [], {})
    last: list[int] | None = None
    for head, group in tokenise_many(tokenizer, rows, limits=limits):
        if last is not head.ids:
            last = head.ids
            read.prompts.append(np.asarray(last, dtype=np.int32))
        for each in group:
            if each.lost is None:
                read.place.append(len(read.length))
                read.owner.append(len(read.prompts) - 1)
                read.answers.append(np.asarray(each.completion_ids, dtype=np.int32))
                read.length.append(len(each.completion_ids))
            else:
                read.length.append(None)
                read.lost[each.lost] = read.lost.get(each.lost, 0) + 1
    return read


def _score(
    read: _Read,
    *,
    model: str | Path,
    dtype: Dtype,
    batch_tokens: int,
    label: str,
    store: bool,
    ray: bool,
) -> Scored:
    """What a model says of every answer, in their order."""
    found = find_logps(
        read.prompts,
        read.answers,
        read.owner,
        model=model,
        dtype=dtype,
        batch_tokens=batch_tokens,
        label=label,
        store=store,
        ray=ray,
    )
    if found.known and is_first():
        print(
            f"{label}: {found.known:,} answers from the store, {found.computed:,} computed", file=sys.stderr, flush=True
        )
    logp: list[float | None] = [None] * len(read.length)
    for i, value in zip(read.place, found.logp.tolist(), strict=True):
        logp[i] = value
    return Scored(logp, read.length, read.lost)


def _with_columns(
    prefs: Preferences,
    label: str,
    scored: Scored,
    *,
    on_pairs: bool,
    settings: dict[str, Any],
    notes: tuple[str, ...],
) -> Preferences:
    """The columns put in place, and a step that says what was done."""
    logp = pl.Series(scored.logp, dtype=pl.Float64)
    length = pl.Series(scored.length, dtype=pl.Int64)
    notes += tuple(f"{n} answers have no logp_{label}: {reason}" for reason, n in scored.lost.items())
    if not on_pairs:
        step = _step(settings, len(scored.logp), notes)
        frame = prefs.responses.collect().with_columns(logp.alias(f"logp_{label}"), length.alias(f"len_{label}"))
        # Columns of the same name that came with the pairs are of another reading, and a view would prefer them.
        stale = [f"{kind}_{label}_{side}" for kind in ("logp", "len") for side in SIDES]
        there = not set(stale).isdisjoint(prefs.pairs.collect_schema())
        return prefs.then(step, responses=frame, pairs=prefs.pairs.drop(stale, strict=False) if there else None)
    columns = [
        series.gather_every(2, offset).alias(f"{kind}_{label}_{side}")
        for kind, series in (("logp", logp), ("len", length))
        for offset, side in enumerate(SIDES)
    ]
    step = _step(settings, len(scored.logp) // 2, notes)
    return prefs.then(step, pairs=prefs.pairs.collect().with_columns(columns))


def _step(settings: dict[str, Any], rows: int, notes: tuple[str, ...]) -> Step:
    return Step(name="logprobs", settings=settings, rows_in=rows, rows_out=rows, notes=notes)
