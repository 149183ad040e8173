"""The verb `generate`."""

import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import polars as pl
from pydantic import Field, ValidationError

from pairwright.errors import InputError, PairwrightError, need
from pairwright.generate.kept import Kept, key_of, what_it_is
from pairwright.generate.request import Drawn, Given, Part, Request, seed_of
from pairwright.generate.table import ENGINES, LOCAL
from pairwright.goals import Goal, GoalFormat, with_goal
from pairwright.logprobs.columns import label_of, placement_for
from pairwright.logprobs.models import name_of, open_tokenizer
from pairwright.pairing import is_split, splits
from pairwright.plug import bind, find, plain
from pairwright.preferences import MESSAGES, PAIR_COLUMNS, Preferences, Step
from pairwright.progress import Ticker

GOAL_FILE = "generation_goal.json"
"""Beside the weights of a model that was trained with goals: how they were said, a `GoalFormat`."""
_NO_MATTER = ("ray",)
"""Settings of engines that do not decide what the answers are."""


def generate(
    model: str | os.PathLike[str],
    prompts: Preferences,
    *,
    n: Annotated[int, Field(gt=0)] = 1,
    goal: float | list[float | None] | list[list[float]] | None = None,
    goal_format: GoalFormat | str | Path | None = None,
    split: str | None = None,
    limit: Annotated[int, Field(gt=0)] | None = None,
    temperature: Annotated[float, Field(ge=0)] = 1.0,
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0,
    max_new_tokens: Annotated[int, Field(gt=0)] = 256,
    stop: str | list[str] | None = None,
    engine: str = "hf",
    name: str | None = None,
    seed: int = 0,
    keep: str | Path | None = None,
    **settings: Any,
) -> Preferences:
    """Let a model answer prompts, asked for a score or not.

    The goal is put into the prompt by the function that training uses, in the words that the model was trained on
    (`generation_goal.json` beside its weights). The random numbers of an answer depend on the seed, the prompt and the
    number of the sample, not on the goal, the model or the other answers of its batch.

    Args:
        model: a `save_pretrained` directory, a hub name, or what `train` gave; with `openai`, its name at the server.
        prompts: whose prompts are answered; its answers and pairs play no part.
        n: answers for each prompt and goal.
        goal: the score asked for, in the units of the scores; several are asked one after the other, and null in a
            list is a prompt without a goal. For a model of several attributes a list of numbers is one goal. A
            direction is asked for with length 1: `4 4` is `0.71 0.71`.
        goal_format: how goals are said, for a model without `generation_goal.json`: a `GoalFormat` or such a file.
        split: only prompts of this side, `train` or `test`.
        limit: only the first so many prompts.
        temperature: 0 takes the most probable token each time.
        top_p: draw from the fewest tokens that together have this probability; 1 is all.
        max_new_tokens: of an answer.
        stop: text that ends an answer, or several; it is no part of the answer.
        engine: what draws the answers: a name of `ENGINES`, or `module:function`.
        name: of the model in the column `model`; the last part of its path when not given.
        seed: another seed gives independent answers.
        keep: a directory in which finished answers are kept while the job runs. Started again with the same directory,
            a job that was killed draws only what is missing and gives the same bytes; `forget` removes them.
        settings: the engine's own settings.

    Returns:
        The prompts asked, with all their columns and their side of a split, and the answers: `goal` in score units
        (null: none was asked), `sample` from 0, `stopped` (`eos`, `stop`, `length`). The order is prompt, goal, sample.
        There are no pairs. Where the engine says it, `logp_<name>` is the log-probability of the tokens that were
        drawn, summed, in nats, and `len_<name>` how many they are: under the model as it is (temperature 1, no nucleus,
        however the tokens were drawn) and after the prompt as it was asked, its goal in place. The token that ended the
        answer is one of them, so one that was cut (`length`) has none where `logprobs` would sum an end. `logprobs`
        reads the text anew, after the prompt without a goal, and may find other tokens in it. Where the engine's number
        is not finite it is null, and counted.

    Raises:
        InputError: a goal is asked of a model that was not told how, there are no such prompts, or the engine has no
            such setting.
    """
    model = os.fspath(model)
    if n > 1 and temperature == 0:
        raise InputError(f"generate: temperature 0 gives the same answer {n} times; set n to 1 or raise temperature")
    drawing: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
    if stops := _stops(stop):
        drawing["stop"] = stops
    ask = bind(find(ENGINES, engine, kind="engine"), drawing | {"model": model} | settings, kind="engine")
    bound = {key: value for key, value in cast(partial[Any], ask).keywords.items() if key not in _NO_MATTER}
    local = engine in LOCAL
    chosen = _chosen(prompts, split, limit)
    form, notes = _goal_format(model, prompts, goal_format, asked=goal is not None, local=local)
    goals = _goals(goal, form)
    rows, requests = _requests(chosen, goals, form, model=model, n=n, seed=seed, local=local)
    given = _given(ask, requests, keep, key=lambda: key_of(requests, engine, bound, what_it_is(model)))
    label = name or name_of(model)
    answers = _answers(rows, given.drawn, label, vector=bool(form and form.attributes))
    counts, said = _observations(answers, f"logp_{label_of(label)}", f"len_{label_of(label)}")
    step = Step(
        name="generate",
        settings={"model": str(model), "name": label, "engine": engine, "n": n, "goals": goals, "seed": seed}
        | {"split": split, "limit": limit, **{key: value for key, value in bound.items() if key != "model"}}
        | {"goal_format": form.model_dump(mode="json") if form is not None and goal is not None else None},
        inputs={"prompts": prompts.digest()},
        rows_in=len(requests),
        rows_out=len(answers),
        dropped=dict(Counter(each.stopped for each in given.drawn if each.text is None)),
        notes=(*notes, *_outside(goals, form), *said, *given.notes),
        found=counts | dict(given.found),
    )
    # A new lineage: a goal format of the prompts' own history is not one of these answers.
    return Preferences.of(chosen, answers, pl.LazyFrame(schema=PAIR_COLUMNS), [step])


def _stops(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if "" in stops:
        raise InputError("generate: an empty stop string would end every answer at once; leave it out")
    return stops


def _given(
    ask: Callable[..., Any], requests: Sequence[Request], keep: str | Path | None, *, key: Callable[[], str]
) -> Given:
    """What an engine gives, finished answers of an earlier attempt in their places."""
    if keep is None:
        return _collected(ask(requests), {}, len(requests), lambda part: None)
    with Kept(keep, key()) as kept:
        if kept.drawn:
            print(
                f"generate: {len(kept.drawn):,} of {len(requests):,} answers are there from an earlier attempt",
                file=sys.stderr,
            )
        left = [each._replace(answered=i in kept.drawn) for i, each in enumerate(requests)]
        return _collected(ask(left), kept.drawn, len(requests), kept.put)


def _collected(
    found: list[Drawn] | Given | Iterator[Part], known: Mapping[int, Drawn], total: int, put: Callable[[Part], None]
) -> Given:
    """All answers in the order of their requests.

    Raises:
        PairwrightError: the engine gave too few or too many.
    """
    if isinstance(found, Given | list):
        given = found if isinstance(found, Given) else Given(found)
        given = given._replace(drawn=list(map(_finite, given.drawn)))
        if len(given.drawn) != total:
            raise PairwrightError(f"generate: the engine gave {len(given.drawn)} answers to {total} requests")
        return given._replace(drawn=[known.get(i, each) for i, each in enumerate(given.drawn)])
    drawn = dict(known)
    ticker = Ticker("generate", total - len(known), "answers")
    for part in found:
        fresh = [(i, _finite(each)) for i, each in part if i not in drawn]
        put([(i, each) for i, each in fresh if each.text is not None])
        drawn |= dict(fresh)
        ticker.add(len(fresh))
    if drawn.keys() != set(range(total)):
        raise PairwrightError(f"generate: the engine gave {len(drawn)} answers to {total} requests")
    return Given([drawn[i] for i in range(total)])


def _finite(drawn: Drawn) -> Drawn:
    """The answer, without a log-probability that is no number to count with."""
    return drawn if drawn.logp is None or math.isfinite(drawn.logp) else drawn._replace(logp=None)


def read_goal_format(path: str | Path) -> GoalFormat:
    """The goal format in a file such as `generation_goal.json`.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        return GoalFormat.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the goal format {path}: {error.strerror}; give a {GOAL_FILE}") from error
    except ValidationError as error:
        raise InputError(f"{path} is not how a goal is said: {plain(error)}") from error


def _chosen(prompts: Preferences, split: str | None, limit: int | None) -> pl.DataFrame:
    frame, sides = prompts.prompts, splits(prompts)
    if split is not None:
        there = sides.filter(pl.col("split") == split)
        frame = frame.join(there, on="prompt_id", how="semi", maintain_order="left")
    if "split" not in frame.collect_schema() and is_split(prompts):
        frame = frame.join(sides, on="prompt_id", how="left", maintain_order="left")
        frame = frame.with_columns(pl.col("split").fill_null("train"))
    chosen = (frame if limit is None else frame.head(limit)).collect()
    if chosen.is_empty():
        where = "" if split is None else f" in split {split!r}"
        raise InputError(f"generate: there are no prompts{where}; split the data first, or leave split out")
    return chosen


def _goal_format(
    model: str | Path, prompts: Preferences, given: GoalFormat | str | Path | None, *, asked: bool, local: bool
) -> tuple[GoalFormat | None, list[str]]:
    """How goals are said: as given, as the model was trained, or as the prompts' own history says them; and notes."""
    own = _file_of(model, on_hub=local and asked and given is None)
    if not asked:
        return None, ["This model was trained with goals, and none was asked for."] if own else []
    if given is not None:
        return (given if isinstance(given, GoalFormat) else read_goal_format(given)), []
    if own is not None:
        return read_goal_format(own), []
    if prompts.goal_format is not None:
        return prompts.goal_format, [f"{model} has no {GOAL_FILE}; the goal is said as in the data of the prompts."]
    raise InputError(
        f"generate: {model} has no {GOAL_FILE}, so it was not trained with goals; leave goal out, "
        "or say with goal_format how a goal is to be said"
    )


def _file_of(model: str | Path, *, on_hub: bool) -> Path | None:
    """Where a model says how its goals were said; None where it does not, or where there is nothing to look at."""
    if Path(model).is_dir():
        path = Path(model) / GOAL_FILE
        return path if path.is_file() else None
    if not on_hub:
        return None
    found = need("transformers.utils", extra="train").cached_file(
        str(model),
        GOAL_FILE,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None


def _goals(goal: Any, form: GoalFormat | None) -> list[Goal | None]:
    """The goals to ask for, one after the other, each in its one form; a vector of several numbers is one goal."""
    if form is None or goal is None:
        return [None]
    if not isinstance(goal, Sequence):
        goals = [goal]
    elif len(form.attributes) > 1 and not any(isinstance(part, Sequence) or part is None for part in goal):
        goals = [list(goal)]
    else:
        goals = list(goal)
    if not goals:
        raise InputError("generate: the list of goals is empty; give at least one, or leave goal out")
    return [None if each is None else form.canonical(each) for each in goals]  # refused before a model is loaded


def _requests(
    chosen: pl.DataFrame,
    goals: Sequence[Goal | None],
    form: GoalFormat | None,
    *,
    model: str | Path,
    n: int,
    seed: int,
    local: bool,
) -> tuple[list[dict[str, Any]], list[Request]]:
    """One request for each prompt, goal and sample, in that order, and the columns of its answer."""
    where: Literal["system", "user"] | None = None
    if form is not None:
        where = _placement(form, model, local=local)
    rows, requests = [], []
    for prompt_id, prompt in chosen.select("prompt_id", "prompt").iter_rows():
        for goal in goals:
            asked, keep = list(prompt), ""
            if form is not None and where is not None and goal is not None:
                asked, keep = with_goal(prompt, goal, form, where), form.say(goal)
            for sample in range(n):
                rows.append({"prompt_id": prompt_id, "goal": goal, "sample": sample})
                requests.append(Request(asked, keep, seed_of(seed, prompt_id, sample)))
    return rows, requests


def _placement(form: GoalFormat, model: str | Path, *, local: bool) -> Literal["system", "user"]:
    if form.placement == "user":
        return "user"
    if not local and not Path(model).is_dir():
        if form.placement == "auto":
            raise InputError(
                f"generate: nothing shows here whether the model {str(model)!r} of this engine takes a system message; "
                "say placement 'system' or 'user' in goal_format"
            )
        return "system"
    return placement_for(form, open_tokenizer(model)) or "user"


def _answers(rows: list[dict[str, Any]], drawn: Sequence[Drawn], label: str, *, vector: bool) -> pl.DataFrame:
    """The answers as rows of `responses`."""
    kind = pl.List(pl.Float64) if vector else pl.Float64()
    known = pl.DataFrame(rows, schema={"prompt_id": pl.String, "goal": kind, "sample": pl.Int64})
    texts = [None if each.text is None else [{"role": "assistant", "content": each.text}] for each in drawn]
    frame = known.with_columns(
        response=pl.Series(texts, dtype=MESSAGES),
        model=pl.lit(label),
        score=pl.lit(None, dtype=pl.Float64),
        stopped=pl.Series([each.stopped for each in drawn], dtype=pl.String),
    )
    order = ["response_id", "prompt_id", "response", "model", "score", "goal", "sample", "stopped"]
    if any(each.logp is not None or each.length is not None for each in drawn):
        logp, length = f"logp_{label_of(label)}", f"len_{label_of(label)}"
        frame = frame.with_columns(
            pl.Series(logp, [each.logp for each in drawn], dtype=pl.Float64),
            pl.Series(length, [each.length for each in drawn], dtype=pl.Int64),
        )
        order += [logp, length]
    frame = frame.filter(pl.col("response").is_not_null()).with_row_index("response_id")
    return frame.select(order).cast({"response_id": pl.Int64})


def _outside(goals: Sequence[Goal | None], form: GoalFormat | None) -> list[str]:
    """A note for each goal beyond what the format can say."""
    if form is None:
        return []
    return [note for goal in goals if goal is not None and (note := form.beyond(goal)) is not None]


def _observations(answers: pl.DataFrame, logp: str, length: str) -> tuple[dict[str, int], list[str]]:
    """What a reader should know, counted and in sentences: answers that are empty, cut, repeated, or not measured."""
    text = pl.col("response").list.first().struct.field("content")
    table = answers.select("prompt_id", "goal", "stopped", text=text)
    seen = Counter((row["prompt_id"], str(row["goal"]), row["text"]) for row in table.iter_rows(named=True))
    counts = {
        "empty": table.filter(pl.col("text").str.strip_chars() == "").height,
        "cut": table.filter(pl.col("stopped") == "length").height,
        "repeated": table.height - len(seen),
    }
    if logp in answers.columns:
        unknown = answers.filter(pl.col(logp).is_null() & pl.col(length).is_not_null()).height
        counts |= {"no_logp": unknown} if unknown else {}
    says = {
        "no_logp": "have no log-probability: the engine gave none that is a number to count with",
        "empty": "are empty",
        "cut": "were cut at max_new_tokens",
        "repeated": "repeat an earlier sample of the same prompt and goal",
    }
    return counts, [f"{count:,} of {table.height:,} answers {says[what]}." for what, count in counts.items() if count]
