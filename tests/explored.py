"""Runs with pairs of which everything is known, for the tests of the pair explorer and of the page in a browser."""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pairwright.chat import assistant, prompt_id, user
from pairwright.goals import GoalFormat
from pairwright.preferences import Preferences, Step
from pairwright.probes.store import About, write_about, write_credit, write_probe
from pairwright.runs import Asked, begin, finish, step_directory, write_json

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script><!--",
    '<img src=x onerror="window.hacked = 3">',
    "<svg onload=window.hacked=4><a href=javascript:window.hacked=5>javascript:window.hacked=6</a>",
    "right\u202eto left\u2066 and \u200bnothing\u061c",
    "a NUL \x00, a bell \x07, a tag \U000e0041",
    "{{7*7}} ${7*7} {% raw %}",
    "x" * 1_000_000,
)


def made_step(run: Path, number: int, name: str, verb: str, write, /, **settings) -> Path:
    """A finished step of a run: `write(directory)` puts its files there."""
    directory = step_directory(run, number, name)
    asked = Asked(step=name, verb=verb, settings=settings, inputs={})
    begin(directory, asked)
    write(directory)
    finish(directory, asked, seconds=1.0, headline={})
    return directory


def pairs_of(chosen: Sequence[str], rejected: Sequence[str], *, splits: Sequence[str] | None = None) -> Preferences:
    """One pair for each prompt `Question i?`: chosen scored i + 2, rejected 1; answers 2i and 2i + 1."""
    size = range(len(chosen))
    prompts = [[user(f"Question {i}?")] for i in size]
    ids = [prompt_id(prompt) for prompt in prompts]
    texts = [text for both in zip(chosen, rejected, strict=True) for text in both]
    return Preferences.of(
        pl.DataFrame({"prompt_id": ids, "prompt": prompts}),
        pl.DataFrame(
            {
                "prompt_id": [one for one in ids for _ in range(2)],
                "response": [[assistant(text)] for text in texts],
                "score": [score for i in size for score in (i + 2.0, 1.0)],
            }
        ),
        pl.DataFrame(
            {
                "prompt_id": ids,
                "chosen_id": [2 * i for i in size],
                "rejected_id": [2 * i + 1 for i in size],
                "split": list(splits or ["train"] * len(chosen)),
            }
        ),
        lineage=[Step(name="read", rows_in=len(chosen), rows_out=len(chosen))],
    )


def asked_for(prefs: Preferences) -> Preferences:
    """Each pair twice, as relabelling makes them: asking for the score of either side, which is then chosen."""
    scores = prefs.view("score").collect()
    first = scores.with_columns(goal=pl.col("score_chosen"))
    second = scores.with_columns(goal=pl.col("score_rejected"), chosen_id="rejected_id", rejected_id="chosen_id")
    both = pl.concat([first, second]).drop("score_chosen", "score_rejected")
    form = GoalFormat(ranges=((1.0, 10.0),)).model_dump(mode="json")
    return prefs.then(Step(name="relabel", settings={"mode": "ra", "goal": form}), pairs=both)


def audit_of(prefs: Preferences, **rows: tuple[str, list[int]]) -> dict:
    """An audit with one finding for each keyword: `check=(what is counted, rows)`."""
    sizes = prefs.counts()._asdict()
    found = [
        {
            "check": check,
            "count": len(hit),
            "share": 0.5,
            "rows": hit,
            "says": f"{check} was found.",
            "remedy": "Look at it.",
            "of": of,
            "level": "warning",
            "rows_left_out": 0,
        }
        for check, (of, hit) in rows.items()
    ]
    return {**sizes, "findings": found}


def probe(training: Path, prefs: Preferences, *, steps: Sequence[int], tokens: Sequence[str]) -> None:
    """Probes of a training: logp falls by 1 (chosen) and 2 (rejected) nats from step to step, credit is by hand."""
    count = prefs.counts().pairs
    prefs.save(training / "probes" / "data")
    write_about(training, About(pairs=count, split="test", vocabulary=50, start="base", beta=0.1, loss="dpo"))
    for place, step in enumerate(steps):
        rows = [
            {
                "pair": pair,
                "prompt_id": "x",
                "response_id": 2 * pair + at,
                "side": side,
                "score": None,
                "asked": "none",
                "logp": -10.0 - pair - (at + 1) * place,
                "length": 5,
                "start_logp": -10.0 - pair,
                **dict.fromkeys(("entropy", "top_entropy", "raw_top_entropy", "top_mass"), 0.5),
            }
            for pair in range(count)
            for at, side in enumerate(("chosen", "rejected"))
        ]
        write_probe(training, step, pl.DataFrame(rows, schema_overrides={"score": pl.Float64}))
    write_credit(
        training,
        pl.DataFrame(
            {
                "pair": [0, 0],
                "side": ["chosen", "rejected"],
                "asked": ["none", "none"],
                "tokens": [list(tokens), list(tokens)[::-1]],
                "credit": [[0.25 * i for i in range(len(tokens))], [-0.5 * i for i in range(len(tokens))]],
            }
        ),
    )


def log(directory: Path) -> None:
    """The metrics of a training of three steps."""
    rows = [{"step": i, "loss": 0.7 / i, "logps/chosen": -30.0 - i, "logps/rejected": -31.0 - i} for i in (1, 2, 3)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def explored_run(root: Path, texts: Sequence[str] = HOSTILE, *, copies: int = 4) -> Path:
    """A run of: data with the texts as chosen answers, audit, relabelling, a probed training, log-probabilities."""
    chosen = [f"{text}" for _ in range(copies) for text in texts]
    splits = ["test" if i % 4 == 3 else "train" for i in range(len(chosen))]
    prefs = pairs_of(chosen, [f"plain answer {i}" for i in range(len(chosen))], splits=splits)
    audit = audit_of(prefs, score_tie=("pairs", [0, 3]), control_characters=("responses", [8, 10]))
    asked = asked_for(prefs)
    size = asked.counts().pairs
    more = {f"logp_{name}_{side}": [float(-at)] * size for at, (name, side) in enumerate(_LOGPS, start=1)}
    beside = pl.concat([asked.pairs.collect(), pl.DataFrame(more)], how="horizontal")
    made_step(root, 1, "data", "read", lambda d: prefs.save(d / "data"))
    made_step(root, 2, "audit", "audit", lambda d: write_json(d / "audit.json", audit), **{"from": "data"})
    made_step(root, 3, "relabel", "relabel", lambda d: asked.save(d / "data"), **{"from": "data"})

    def train(directory: Path) -> None:
        log(directory)
        held = pairs_of(list(texts[:4]), ["a", "b", "c", "d"], splits=["test"] * 4)
        probe(directory, held, steps=(0, 50, 100), tokens=["<b>one", " two", "\u202e", " <script>", "\n"])

    made_step(root, 4, "train", "train", train, **{"from": "relabel"}, beta=0.1, seed=7)
    scored = asked.then(Step(name="logprobs"), pairs=beside)
    settings = {"from": "relabel", "model": "step:train", "name": "ra", "reference_name": "base"}
    made_step(root, 5, "logprobs", "logprobs", lambda d: scored.save(d / "data"), **settings)
    return root


_LOGPS = (("ra", "chosen"), ("ra", "rejected"), ("base", "chosen"), ("base", "rejected"))
