"""Probes of a training on the page: curves of plain means, and its own answers before and after."""

import json

import polars as pl
import pytest

from pairwright.chat import assistant, prompt_id, user
from pairwright.preferences import Preferences
from pairwright.probes.store import About, write_about, write_probe, write_samples
from pairwright.report import report
from pairwright.runs import write_json

STEPS = (0, 50, 100)


def prompts():
    return [[user(f"Question {i}?")] for i in range(3)]


def row(pair, side, asked, step):
    sign = 1.0 if side == "chosen" else -1.0
    return {
        "pair": pair,
        "prompt_id": prompt_id(prompts()[pair]),
        "response_id": 2 * pair + (side == "rejected"),
        "side": side,
        "score": 5.0,
        "asked": asked,
        "logp": -10.0 * (pair + 1) + sign * step / 50 + (0.0 if asked == "none" else 1000.0),
        "length": 4,
        "start_logp": -10.0 * (pair + 1),
        "entropy": 2.0,
        "top_entropy": 1.0 + step / 100 if side == "chosen" else 99.0,
        "raw_top_entropy": 1.0,
        "top_mass": 0.5,
    }


@pytest.fixture
def probed(tmp_path):
    directory = tmp_path / "dpo"
    directory.mkdir()
    write_json(directory / "training.json", {"config": {"loss": "dpo"}, "steps": 100})
    write_about(directory, About(pairs=3, split="test", every=50, vocabulary=40, start="base"))
    for step in STEPS:
        rows = [
            row(p, side, asked, step) for p in range(3) for side in ("chosen", "rejected") for asked in ("none", "top")
        ]
        write_probe(directory, step, pl.DataFrame(rows))
    return directory


def charts_of(page):
    kept = json.loads(page.with_suffix(".json").read_text("utf-8"))
    return {chart["title"]: chart["series"] for chart in kept["charts"]}, kept


def test_the_curves_are_the_means_over_the_same_pairs_without_a_goal(probed):
    """Chosen: -(10 + 20 + 30) / 3 + step / 50; rejected: -20 - step / 50. Prompts with a goal are 1000 higher."""
    charts, kept = charts_of(report(probed))
    (chosen,), (rejected,) = charts["Chosen answers, held-out"], charts["Rejected answers, held-out"]
    assert (chosen["name"], chosen["x"]) == ("dpo", [0, 50, 100])
    assert chosen["y"] == pytest.approx([-20.0, -19.0, -18.0], abs=1e-12)
    assert rejected["y"] == pytest.approx([-20.0, -21.0, -22.0], abs=1e-12)
    assert charts["Entropy over the likeliest next tokens"][0]["y"] == pytest.approx([1.0, 1.5, 2.0], abs=1e-12)
    assert charts["Probability of the likeliest next tokens"][0]["y"] == pytest.approx([0.5] * 3, abs=1e-12)
    assert "probes" not in [lack["part"] for lack in kept["headline"][0]["missing"]]


def test_a_damaged_probe_is_named_and_stops_nothing(probed):
    (probed / "probes" / "000050.parquet").write_bytes(b"PAR1")
    page = report(probed).read_text("utf-8")
    assert "probes of step dpo cannot be read" in page


def sample(step, prompt, text):
    number = {"sample": 0, "length": 2, "logp": -1.0, "start_logp": -1.0, "kl": 0.0, "score": None, "stopped": "end"}
    spread = {"entropy": 1.0, "top_entropy": 1.0, "raw_top_entropy": 1.0, "top_mass": 1.0}
    return {"prompt_id": prompt_id(prompts()[prompt]), "asked": "none", "goal": None, "text": text, **number, **spread}


def test_the_answers_before_and_after_stand_side_by_side(probed):
    held = Preferences.of(
        pl.DataFrame({"prompt_id": [prompt_id(prompt) for prompt in prompts()], "prompt": prompts()}),
        pl.DataFrame(
            {
                "prompt_id": [prompt_id(prompt) for prompt in prompts() for _ in range(2)],
                "response": [[assistant(str(i))] for i in range(6)],
            }
        ),
    )
    held.save(probed / "probes" / "data")
    for step in STEPS:
        rows = [sample(step, i, f"answer {i} at {step} <b>") for i in range(3)]
        write_samples(probed, step, pl.DataFrame(rows, schema_overrides={"goal": pl.Float64, "score": pl.Float64}))
    page = report(probed)
    run = charts_of(page)[1]["runs"][0]
    assert run["columns"] == ["dpo step 0", "dpo step 100"]
    first = run["samples"][0]
    assert first["prompt"] == "Question 0?"
    assert [answer["text"] for answer in first["answers"]] == ["answer 0 at 0 <b>", "answer 0 at 100 <b>"]
    assert "answer 2 at 100 &lt;b&gt;" in page.read_text("utf-8")
