"""Probe a training after the fact: the model that it started from, each checkpoint that was kept, and how it ended."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import polars as pl
import torch
from pydantic import Field, ValidationError

from pairwright.chat import assistant
from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.logprobs.models import (
    ADAPTER,
    Dtype,
    device_for_models,
    merged,
    open_config,
    open_model,
    open_tokenizer,
    parts_of,
    put_on,
)
from pairwright.logprobs.tokenise import Limits
from pairwright.preferences import MESSAGES, Preferences
from pairwright.probes.held import held_out
from pairwright.probes.reading import Held, at_start, credit, encode, read_pairs, start_of
from pairwright.probes.samples import read_samples
from pairwright.probes.scale import scale_in_record
from pairwright.probes.store import (
    CREDIT,
    FOLDER,
    PROBE,
    SAMPLE,
    About,
    Probes,
    begin,
    check_folder,
    is_whole,
    load_about,
    load_probes,
    step_files,
    write_about,
    write_credit,
    write_probe,
    write_samples,
)
from pairwright.scorers.verb import score
from pairwright.train.losses import LossTerm
from pairwright.train.output import MARK

Scorer = str | Mapping[str, Any]
"""A name of `SCORERS`, `module:function`, or `{with: NAME, and its settings}`."""
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*")
_SAME = ("pairs", "split", "top", "vocabulary", "goal", "start", "dropped")
"""What must be the same for two probes to be of the same pairs of the same training."""


def probe_run(
    training: str | Path,
    prefs: Preferences,
    *,
    split: str = "test",
    pairs: Annotated[int, Field(gt=0)] = 256,
    samples: Annotated[int, Field(ge=0)] = 0,
    max_new_tokens: Annotated[int, Field(gt=0)] = 256,
    scorer: Scorer | None = None,
    start: str | Path | None = None,
    checkpoints: bool = True,
    credit_pairs: Annotated[int, Field(ge=0)] = 50,
    dtype: Dtype | None = None,
    seed: int = 0,
    batch_tokens: Annotated[int, Field(gt=0)] = 8192,
) -> Probes:
    """Probe a finished training, and write `probes/` into its directory.

    What was probed with the same settings already is not done again, so a call that was killed goes on, and one that
    has nothing to do opens no model. A file that cannot be read counts as not there. A training that was probed while
    it went on keeps its pairs: `split`, `pairs` and `seed` then choose none, and only the steps and samples that are
    missing are added. Probes that an earlier call made with other settings are replaced.

    With a scorer, samples that lie there without a score get one; under another scorer than theirs all are scored anew,
    and none is drawn again.

    Args:
        training: directory of a training: of `train`, of a step of a run, or of another trainer with our callback.
        prefs: the data, with a held-out split.
        split: which pairs.
        pairs: how many, at most.
        samples: answers that each model gives to each held-out prompt, at temperature 1; 0 draws none.
        max_new_tokens: of such an answer.
        scorer: scores these answers, in the column `score`.
        start: the model that training started from, where it is no longer at the place that `training.json` names.
        checkpoints: whether kept checkpoints are probed, or the start and the model as it ended alone.
        credit_pairs: pairs whose tokens get their log-ratio, model as it ended over start.
        dtype: precision of the weights; that of the training when not given.
        seed: of the draw of pairs, and of the samples.
        batch_tokens: tokens of a batch, at most.

    Returns:
        All probes of the training.

    Raises:
        InputError: there is no finished training or model, no pair can be read, or the scorer cannot be.
    """
    folder = Path(training)
    run = _run(folder, start=start, dtype=dtype, checkpoints=checkpoints)
    tokenizer = open_tokenizer(run.tokenizer)
    earlier, kept = _earlier(folder)
    data, dropped = held_out(prefs, split=split, pairs=pairs, seed=seed) if kept is None else (kept, {})
    held = encode(data, tokenizer, goal=run.goal, limits=run.limits)
    models = _Models(run)
    about = About(
        pairs=held.pairs,
        split=split,
        beta=run.beta,
        loss=run.loss,
        vocabulary=open_config(run.start).get_text_config().vocab_size,
        goal=held.goal,
        start=run.start,
        dropped=_added(dropped, held.dropped),
        notes=(*data.lineage[-1].notes, *held.notes, *run.notes),
        run=run.digest,
    )
    if samples:
        drawing = {"n": samples, "max_new_tokens": max_new_tokens, "seed": seed, "temperature": 1.0, "top_p": 1.0}
        about = about.model_copy(update={"samples": drawing | {"scorer": _named(scorer)}})
    about = _ready(folder, about, data, earlier, live=kept is not None)
    _remove_damaged(folder, set(run.models))
    for number, step in enumerate(run.models):
        if not _is_done(folder, step, samples):
            print(
                f"probes: {folder.name}, step {step} ({number + 1} of {len(run.models)})", file=sys.stderr, flush=True
            )
            _probe(folder, step, models, held, about, batch_tokens)
            if samples:
                _draw(folder, step, models, held, about, batch_tokens)
    if scorer is not None:
        _score(folder, about, data, scorer)
    if credit_pairs and not is_whole(folder / FOLDER / "credit.parquet", CREDIT):
        last = max(run.models)
        write_credit(folder, credit(models(last), models(0), held, pairs=credit_pairs, batch_tokens=batch_tokens))
    found = load_probes(folder)
    assert found is not None
    return found


class _Run(NamedTuple):
    """A training as its directory tells of it.

    Attributes:
        models: what opens the model of each step: 0 is the start, the largest the model as it ended.
        start: where the start is.
        tokenizer: where the tokenizer is.
        digest: of the training.
        notes: what was left out.
    """

    models: Mapping[int, Callable[[], torch.nn.Module]]
    start: str
    tokenizer: str
    limits: Limits
    goal: GoalFormat | None
    beta: float | None
    loss: str | None
    digest: str | None
    notes: tuple[str, ...]


class _Models:
    """The models of a training, opened when they are asked for: the start, and one other at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._open: dict[int, torch.nn.Module] = {}

    def __call__(self, step: int) -> torch.nn.Module:
        if step not in self._open:
            self._open = {other: model for other, model in self._open.items() if 0 in (step, other)}
            self._open[step] = self._run.models[step]().requires_grad_(False).to(device_for_models())
        return self._open[step]


def _run(folder: Path, *, start: str | Path | None, dtype: Dtype | None, checkpoints: bool) -> _Run:
    """What the directory of a training holds.

    Raises:
        InputError: no training ended there, or what it says cannot be read.
    """
    said = _record(folder)
    config = said["config"]
    origin = str(start or config.get("model") or "")
    if not origin:
        raise InputError(f"{folder / 'training.json'} does not say which model training started from; give it as start")
    kind: Dtype = dtype or config.get("dtype") or "float32"
    places, notes = _checkpoints(folder)
    # A trainer that saves nothing at its end leaves its last checkpoint.
    ends = [folder / "model", folder, *(places[step] for step in sorted(places)[-1:])]
    end = next((place for place in ends if _holds_model(place)), None)
    if end is None:
        raise InputError(f"{folder} holds no trained model; save it there, or give the directory of a training")
    last = int(said.get("steps") or max(places, default=0))
    if last < 1:
        raise InputError(f"{folder / 'training.json'} does not say how many steps the training had")
    models: dict[int, Callable[[], torch.nn.Module]] = {0: lambda: open_model(origin, dtype=kind)}
    for step, place in sorted(places.items()):
        if checkpoints and 0 < step < last:
            models[step] = _opener(place, origin, config, kind)
    models[last] = _opener(end, origin, config, kind)
    lengths = said.get("limits") or {}
    known = {"max_length", "max_prompt_length"} <= set(lengths)
    try:
        goal = None if said.get("goal") is None else GoalFormat.model_validate(said["goal"])
    except ValidationError as error:
        raise InputError(f"{folder / 'training.json'}: `goal` is not how a goal is said; train again") from error
    return _Run(
        models=models,
        start=origin,
        tokenizer=str(end if _holds_tokenizer(end) else config.get("tokenizer") or origin),
        limits=Limits(**lengths) if known else Limits.of(open_config(origin), config.get("max_length")),
        goal=goal,
        beta=scale_in_record(said),
        loss=_loss(config.get("loss")),
        digest=said.get("run"),
        notes=notes if checkpoints else (),
    )


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "training.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(said, dict) and isinstance(said.get("config"), dict):
            return said
    except FileNotFoundError:
        raise InputError(
            f"{folder} has no training.json, so no training of pairwright ended there; give the directory of one"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}); train again") from error
    raise InputError(f"{path} does not say how the training was set; train again")


def _holds_model(folder: Path) -> bool:
    """Whether a directory holds a whole model or an adapter."""
    settings = any((folder / name).is_file() for name in ("config.json", ADAPTER))
    return settings and any(any(folder.glob(pattern)) for pattern in _WEIGHTS)


def _holds_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json"))


def _checkpoints(folder: Path) -> tuple[dict[int, Path], tuple[str, ...]]:
    """The checkpoints of a training by step, and a note on those that hold no model."""
    ours = (folder / "checkpoints").is_dir()
    found, without = {}, []
    for path in sorted((folder / "checkpoints" if ours else folder).glob("checkpoint-*")):
        number = path.name.removeprefix("checkpoint-")
        # Without its last file a checkpoint of ours is half written.
        if not number.isdigit() or not path.is_dir() or (ours and not (path / MARK).is_file()):
            continue
        if _holds_model(path):
            found[int(number)] = path
        else:
            without.append(int(number))
    if not without:
        return found, ()
    said = ", ".join(map(str, sorted(without)))
    return found, (f"The checkpoints of steps {said} hold no whole model (their weights are in parts): not probed.",)


def _opener(place: Path, start: str, config: Mapping[str, Any], dtype: Dtype) -> Callable[[], torch.nn.Module]:
    """What opens a checkpoint: a whole model, or an adapter on what the training had put it on.

    The place that an adapter itself names may be one that only the training knew.
    """

    def adapter() -> torch.nn.Module:
        base, adapters = parts_of(start)
        # With `lora` a new adapter was put on the start, merged; without, the start's own last one was trained on.
        below = adapters[:-1] if config.get("lora") is None else adapters
        network = merged(open_model(below[-1], dtype=dtype)) if below else open_model(base, dtype=dtype)
        return put_on(network, place).eval()

    def whole() -> torch.nn.Module:
        return open_model(place, dtype=dtype)

    return adapter if (place / ADAPTER).is_file() and "lora" in config else whole


def _loss(said: Any) -> str | None:
    if not isinstance(said, list):
        return None if said is None else str(said)
    return " + ".join(str(LossTerm.model_validate(each)) for each in said)


def _earlier(folder: Path) -> tuple[About | None, Preferences | None]:
    """How a training was probed before, and the pairs of one that was while it went on; None of what is not readable.

    Raises:
        InputError: the folder of probes holds something else.
    """
    check_folder(folder)
    try:
        about = load_about(folder)
        live = about is not None and about.every is not None
        return about, Preferences.load(folder / FOLDER / "data") if live else None
    except InputError:
        return None, None


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in {**one, **other}}


def _named(scorer: Scorer | None) -> Any:
    return dict(scorer) if isinstance(scorer, Mapping) else scorer


def _ready(folder: Path, about: About, data: Preferences, earlier: About | None, *, live: bool) -> About:
    """Make the folder of probes ready, and give the record that stands there now.

    What is there of the same pairs stays, samples that were drawn otherwise go. Of other pairs all goes.
    """
    if earlier is None or not (live or _are_same(folder / FOLDER, earlier, about, data)):
        begin(folder, about, data)
        return about
    if not about.samples or _drawing(about) == _drawing(earlier):
        return earlier
    for path in step_files(folder, samples=True).values():
        path.unlink()
    about = earlier.model_copy(update={"samples": about.samples})
    write_about(folder, about)
    return about


def _drawing(about: About) -> dict[str, Any]:
    """How samples were drawn, whoever scored them."""
    return {name: value for name, value in about.samples.items() if name != "scorer"}


def _remove_damaged(folder: Path, steps: set[int]) -> None:
    """Remove files of steps that cannot be read, and tell of those that cannot be made again."""
    for samples, columns in ((False, PROBE), (True, SAMPLE)):
        for step, path in step_files(folder, samples=samples).items():
            if not is_whole(path, columns):
                path.unlink()
                if step not in steps:
                    print(f"probes: {path} was damaged, and no model of step {step} is kept: left out", file=sys.stderr)


def _are_same(target: Path, earlier: About, about: About, data: Preferences) -> bool:
    if any(getattr(earlier, name) != getattr(about, name) for name in _SAME) or earlier.run != about.run:
        return False
    try:
        return Preferences.load(target / "data") == data
    except InputError:  # killed before they were written
        return False


def _is_done(folder: Path, step: int, samples: int) -> bool:
    names = [f"{step:06d}.parquet"] + ([f"{step:06d}-samples.parquet"] if samples else [])
    return all((folder / FOLDER / name).is_file() for name in names)


def _probe(folder: Path, step: int, models: _Models, held: Held, about: About, batch_tokens: int) -> None:
    """Read the pairs at a step, unless they were."""
    if _is_done(folder, step, 0):
        return
    if step == 0:
        rows = at_start(read_pairs(models(0), held, batch_tokens=batch_tokens, top=about.top))
    else:
        before = start_of(pl.read_parquet(folder / FOLDER / f"{0:06d}.parquet"))
        rows = read_pairs(models(step), held, start=before, batch_tokens=batch_tokens, top=about.top)
    write_probe(folder, step, rows)


def _draw(folder: Path, step: int, models: _Models, held: Held, about: About, batch_tokens: int) -> None:
    """Draw the samples of a step, unless they were."""
    if _is_done(folder, step, 1):
        return
    said = about.samples
    settings = {name: said[name] for name in ("n", "max_new_tokens", "seed")}
    start = models(0) if step else None
    policy = models(step)
    write_samples(folder, step, read_samples(policy, start, held, batch_tokens=batch_tokens, top=about.top, **settings))


def _score(folder: Path, about: About, data: Preferences, scorer: Scorer) -> None:
    """Score the samples that have no score; where another scorer gave them one, all of them."""
    files = step_files(folder, samples=True)
    if not files:
        return
    if about.samples.get("scorer") != _named(scorer):
        # First the scores, then the name: a call that is killed in between leaves none under the wrong one.
        for step, path in files.items():
            write_samples(folder, step, pl.read_parquet(path).with_columns(score=None))
        write_about(folder, about.model_copy(update={"samples": about.samples | {"scorer": _named(scorer)}}))
    for step, path in files.items():
        drawn = pl.read_parquet(path)
        if drawn["score"].null_count():
            write_samples(folder, step, _scored(drawn, data, scorer))


def _scored(drawn: pl.DataFrame, data: Preferences, scorer: Scorer) -> pl.DataFrame:
    """The samples with the numbers of a scorer, which sees the prompts without a goal."""
    answers = pl.DataFrame(
        {
            "response_id": range(len(drawn)),
            "prompt_id": drawn["prompt_id"],
            "response": pl.Series([[assistant(text)] for text in drawn["text"]], dtype=MESSAGES),
        }
    )
    name, settings = (scorer, {}) if isinstance(scorer, str) else (scorer.get("with"), dict(scorer))
    settings.pop("with", None)
    if not isinstance(name, str):
        raise InputError(f"probes: the scorer is a name, or {{with: NAME, and its settings}}, not {scorer!r:.80}")
    scored = score(Preferences.of(data.prompts, answers), name, into="score", **settings)
    return drawn.with_columns(score=scored.responses.select("score").collect().to_series())
