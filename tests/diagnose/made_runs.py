"""Run directories made by hand, of a few files each: no model is opened."""

import json

import numpy as np
import polars as pl

from pairwright.chat import assistant, prompt_id, user
from pairwright.preferences import Preferences, Step
from pairwright.probes.store import PROBE, SAMPLE, About, write_about, write_probe, write_samples
from pairwright.runs import Asked, begin, finish, step_directory, write_json

N = 24
WIGGLE = np.linspace(-0.25, 0.25, N)  # mean 0: what is planted is what comes out
SPREAD = {"entropy": 2.0, "top_entropy": 2.0, "raw_top_entropy": 1.9, "top_mass": 0.95}
GENERATED = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 16, "seed": 7}


def made_step(run, number, name, verb, write, /, **settings):
    """A finished step of a run, as `pairwright run` leaves it."""
    directory = step_directory(run, number, name)
    asked = Asked(step=name, verb=verb, settings=settings, inputs={})
    begin(directory, asked)
    write(directory)
    finish(directory, asked, seconds=1.0, headline={})
    return directory


def drawn_answers(rows, *, name="m", lineage=(), **columns):
    """Answers as `generate` gives them: (question, goal, text), and further columns of numbers."""
    prompts = {q: [user(q)] for q, _, _ in rows}
    frame = pl.DataFrame(
        {
            "response_id": list(range(len(rows))),
            "prompt_id": [prompt_id(prompts[q]) for q, _, _ in rows],
            "response": [[assistant(text)] for _, _, text in rows],
            "goal": pl.Series([goal for _, goal, _ in rows], dtype=pl.Float64),
            "stopped": ["eos"] * len(rows),
            "model": [name] * len(rows),
            **{key: pl.Series(values, dtype=pl.Float64) for key, values in columns.items()},
        }
    )
    steps = [Step(name="generate", settings={"model": name, "name": name, **GENERATED}), *lineage]
    return Preferences.of(
        pl.DataFrame({"prompt_id": [prompt_id(p) for p in prompts.values()], "prompt": list(prompts.values())}),
        frame,
        lineage=steps,
    )


def log(directory, rows):
    """`metrics.jsonl` of a training."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def trained(directory, *, model, loss="dpo", goal=None, **settings):
    """`training.json` and two logged rows."""
    log(
        directory,
        [
            {"step": 1, "loss": 0.69, "logps/chosen": -20.0, "logps/rejected": -22.0},
            {"step": 2, "loss": 0.60, "logps/chosen": -21.0, "logps/rejected": -26.0},
        ],
    )
    inner = {"beta": settings.pop("beta")} if "beta" in settings else {}
    config = {"model": model, "loss": loss, "loss_settings": inner, "trainer": {"learning_rate": 1e-4}, **settings}
    write_json(directory / "training.json", {"config": config, "goal": goal})


def probed(directory, *, steps, rows, samples=None, about=None):
    """Probes of a training: `rows(step)` and `samples(step)` give dictionaries with what matters of a row."""
    said = {"pairs": 2, "split": "test", "vocabulary": 5, "start": "start", "beta": 0.1, "loss": "dpo"}
    write_about(directory, About(**said | (about or {})))
    for step in steps:
        write_probe(directory, step, _frame(rows(step), PROBE))
        if samples is not None:
            write_samples(directory, step, _frame(samples(step), SAMPLE))


def _frame(rows, schema):
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=dict(schema))


def rows_of(step, *, chosen, rejected):
    """A probe of N pairs whose log-probabilities change by so many nats each 10 steps; scores 9 and 7, 8 and 3."""
    rows = []
    for i in range(N):
        for side, change in (("chosen", chosen), ("rejected", rejected)):
            start = -10.0 - i if side == "chosen" else -11.0 - i
            moved = change * step / 10
            rows.append(
                SPREAD
                | {
                    "pair": i,
                    "prompt_id": f"p{i}",
                    "response_id": 2 * i + (side == "rejected"),
                    "side": side,
                    "score": {"chosen": 9.0 - i % 2, "rejected": 7.0 - 4 * (i % 2)}[side],
                    "asked": "none",
                    "logp": start + moved + (WIGGLE[i] if step else 0.0),
                    "start_logp": start,
                    "length": 5,
                }
            )
    return rows


def planted(directory, *, chosen=-3.0, rejected=-6.0, **probes):
    """A training whose probes move both sides by so many nats each 10 steps, for 20 steps."""
    trained(directory, model="hub/start", beta=0.1)
    probed(
        directory, steps=(0, 10, 20), rows=lambda step: rows_of(step, chosen=chosen, rejected=rejected),
        about={"pairs": N}, **probes,
    )  # fmt: skip
    return directory
