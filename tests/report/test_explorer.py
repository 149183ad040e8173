"""The pair explorer holds every pair with what is known of it; its packing is unpacked here by other means."""

import base64
import json
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from explored import HOSTILE, audit_of, explored_run, made_step, pairs_of
from pairwright.preferences import Step
from pairwright.report import explorer as room
from pairwright.report.collect import collect
from pairwright.report.explorer import explorer_of
from pairwright.report.packed import CHUNK, packed_column, packed_texts
from pairwright.runs import write_json


class Islands(HTMLParser):
    """The JSON elements of the explorer, and every tag there is."""

    def __init__(self, markup):
        super().__init__(convert_charrefs=False)
        self.tags, self.found, self._at = [], [], None
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._at = dict(attrs)

    def handle_data(self, data):
        if data.strip():
            self.found.append((self._at, json.loads(data)))


class Unpacked:
    """One set of an explorer, read as the page's script reads it."""

    def __init__(self, explorer, which=0):
        islands = Islands(explorer.island)
        assert set(islands.tags) == {"script"}
        (_, self.head), *pieces = islands.found
        self.set = self.head["sets"][which]
        self.texts = {}
        for attrs, piece in pieces:
            if attrs["data-set"] == str(which):
                values = json.loads(zlib.decompress(base64.b64decode(piece)))
                self.texts.setdefault(attrs["data-series"], []).extend(values)

    def column(self, name):
        (packed,) = [one for one in self.set["columns"] if one["name"] == name]
        if "floats" in packed:
            raw = base64.b64decode(packed["floats"])
            return [None if x != x else x for x in struct.unpack(f"<{len(raw) // 8}d", raw)]
        raw = base64.b64decode(packed["codes"])
        codes = struct.unpack(f"<{len(raw) // 2}H", raw) if packed["wide"] else raw
        return [packed["values"][code] for code in codes]

    def places(self, name):
        raw = base64.b64decode(self.set[name])
        return struct.unpack(f"<{len(raw) // 4}I", raw)

    def text(self, row, which):
        series = "prompts" if which == "prompt" else "answers"
        return self.texts[series][self.places(which)[row]][1][0][1]

    def finding(self, check):
        (found,) = [one for one in self.set["findings"] if one["check"] == check]
        raw = base64.b64decode(found["rows"])
        return list(struct.unpack(f"<{len(raw) // 4}I", raw))


def of(run):
    return explorer_of(collect(run).steps)


@pytest.fixture
def run(tmp_path):
    return explored_run(tmp_path / "run")


def test_every_pair_is_there_with_its_scores_goal_and_texts(run):
    """Pair i of 32: chosen scored i + 2, rejected 1. Relabelled: rows i ask for i + 2, rows 32 + i for 1, reversed.

    The gap under a goal is |other - goal| - 0: i + 1 for both copies.
    """
    seen = Unpacked(of(run))
    assert (seen.set["name"], seen.set["pairs"], seen.set["of"]) == ("relabel", 64, 64)
    assert seen.column("score_chosen") == [i + 2.0 for i in range(32)] + [1.0] * 32
    assert seen.column("score_rejected") == [1.0] * 32 + [i + 2.0 for i in range(32)]
    assert seen.column("goal") == [i + 2.0 for i in range(32)] + [1.0] * 32
    assert seen.column("gap") == [i + 1.0 for i in range(32)] * 2
    assert seen.column("split") == (["train"] * 3 + ["test"]) * 16
    assert seen.column("chars_chosen")[7] == 1_000_000
    for i in range(32):
        assert seen.text(i, "prompt") == f"Question {i}?"
        assert seen.text(i, "chosen") == seen.text(32 + i, "rejected") == HOSTILE[i % 8]
        assert seen.text(i, "rejected") == f"plain answer {i}"


def test_the_model_is_asked_in_the_words_of_the_goal_format(run):
    asks = Unpacked(of(run)).set["asks"]
    assert asks["2.0"].endswith("Overall score: 2.")
    assert set(asks) == {f"{float(i)}" for i in range(1, 34)}


def test_log_probabilities_of_later_steps_give_the_margin(run):
    """logp is -1 (ra, chosen), -2 (ra, rejected), -3, -4 (base): margin = (-1 + 3) - (-2 + 4) = 0."""
    seen = Unpacked(of(run))
    assert seen.column("logp_ra_rejected") == [-2.0] * 64
    assert seen.column("margin ra − base") == [0.0] * 64


def test_the_margin_is_the_log_ratio_of_chosen_minus_that_of_rejected(tmp_path):
    """(-5 + 9) - (-11 + 8) = 7 by hand; with any sign flipped it is another number."""
    prefs = pairs_of(["a"], ["b"])
    logps = {"logp_p": [-5.0, -11.0], "logp_q": [-9.0, -8.0]}
    more = pl.concat([prefs.responses.collect(), pl.DataFrame(logps)], how="horizontal")
    made_step(tmp_path, 1, "data", "read", lambda d: prefs.save(d / "data"))
    made_step(tmp_path, 2, "train", "train", lambda d: None, **{"from": "data"})
    later = prefs.then(Step(name="logprobs"), responses=more)
    made_step(tmp_path, 3, "logprobs", "logprobs", lambda d: later.save(d / "data"), **{"from": "data"})
    settings = {"from": "logprobs", "policy": "p", "reference": "q"}
    made_step(tmp_path, 4, "pairs", "evaluate pairs", lambda d: write_json(d / "result.json", {}), **settings)
    seen = Unpacked(of(tmp_path))
    assert seen.set["name"] == "data"
    assert seen.column("margin p − q") == [7.0]


def test_findings_follow_their_rows_through_relabelling(run):
    """Pairs 0 and 3 of the audited data are rows 0, 3 and, as copies with exchanged sides, 32 and 35.

    Answers 8 and 10 are the chosen ones of pairs 4 and 5.
    """
    seen = Unpacked(of(run))
    assert seen.finding("score_tie") == [0, 3, 32, 35]
    assert seen.finding("control_characters") == [4, 5, 36, 37]


def test_findings_of_prompts_reach_their_pairs(tmp_path):
    prefs = pairs_of(["a", "b", "c"], ["d", "e", "f"])
    audit = audit_of(prefs, duplicate_prompt=("prompts", [2]), none=("pairs", []))
    made_step(tmp_path, 1, "data", "read", lambda d: prefs.save(d / "data"))
    made_step(tmp_path, 2, "audit", "audit", lambda d: write_json(d / "audit.json", audit), **{"from": "data"})
    seen = Unpacked(of(tmp_path))
    assert seen.finding("duplicate_prompt") == [2]
    assert len(seen.set["findings"]) == 1


def test_findings_on_other_data_are_not_laid_upon_these(tmp_path):
    """The audited data have the same ids, but another lineage: their rows say nothing of these pairs."""
    other = pairs_of(["a", "b"], ["c", "d"])
    prefs = other.then(Step(name="own"))
    unlike = type(prefs)(prefs.prompts, prefs.responses, prefs.pairs, (Step(name="another"),))
    audit = audit_of(other, score_tie=("pairs", [0]))
    made_step(tmp_path, 1, "other", "read", lambda d: unlike.save(d / "data"))
    made_step(tmp_path, 2, "audit", "audit", lambda d: write_json(d / "audit.json", audit), **{"from": "other"})
    made_step(tmp_path, 3, "data", "read", lambda d: prefs.save(d / "data"))
    made_step(tmp_path, 4, "train", "train", lambda d: None, **{"from": "data"})
    assert Unpacked(of(tmp_path)).set["findings"] == []


def test_held_out_pairs_have_the_credit_of_each_token(run):
    """After three probes the chosen answer lost 2 nats and the rejected one 4: the margin is -2 + 4 = 2."""
    explorer = of(run)
    assert [one.name for one in explorer.sets] == ["relabel", "held out, train"]
    seen = Unpacked(explorer, 1)
    assert seen.column("logp_end_chosen") == [-12.0 - pair for pair in range(4)]
    assert seen.column("logp_end_rejected") == [-14.0 - pair for pair in range(4)]
    assert seen.column("margin train − start") == [2.0] * 4
    first, *others = seen.texts["details"]
    assert first["credit"]["none"]["chosen"] == [
        ["<b>one", " two", "\u202e", " <script>", "\n"],
        [0, 0.25, 0.5, 0.75, 1.0],
    ]
    assert first["credit"]["none"]["rejected"][1] == [0, -0.5, -1, -1.5, -2]
    assert first["course"] == {"steps": [0, 50, 100], "chosen": [-10, -11, -12], "rejected": [-10, -12, -14]}
    assert all("credit" not in other for other in others)


def test_a_training_by_itself_has_its_held_out_pairs(run):
    training = run / "04-train"
    (training / "done.json").unlink()
    (training / "settings.json").unlink()
    write_json(training / "training.json", {"config": {"loss": "dpo"}})
    explorer = of(training)
    assert [(one.pairs, one.of) for one in explorer.sets] == [(4, 4)]


def test_too_many_pairs_are_sampled_and_it_is_said(run):
    steps = collect(run).steps
    explorer = explorer_of(steps, pairs=20)
    assert explorer.about() == [
        {"name": "relabel", "says": "data of step relabel, from which train was trained", "pairs": 16, "of": 64},
        {
            "name": "held out, train",
            "says": "held-out pairs on which train was probed, as it was at step 100",
            "pairs": 4,
            "of": 4,
        },
    ]
    seen = Unpacked(explorer)
    rows = [int(row) for row in seen.column("row")]
    assert rows == sorted(set(rows))
    assert rows != list(range(16))  # a draw, not the first ones
    assert [seen.column("score_chosen")[i] for i in range(16)] == [row + 2 if row < 32 else 1 for row in rows]
    assert [seen.text(i, "prompt") for i in range(16)] == [f"Question {row % 32}?" for row in rows]
    assert seen.finding("score_tie") == [i for i, row in enumerate(rows) if row in {0, 3, 32, 35}]
    assert explorer_of(steps, pairs=20).island == explorer.island


def test_texts_that_are_too_long_for_a_page_are_sampled_too(run, monkeypatch):
    """Four of 32 answers have a million characters and stand in two pairs each: a page of 3.5 million holds three."""
    monkeypatch.setattr(room, "CHARACTERS", 3_500_000)
    seen = Unpacked(of(run))
    long = [n for n in seen.column("chars_chosen") + seen.column("chars_rejected") if n > 1000]
    assert len(long) == 3
    assert 3 <= seen.set["pairs"] < 64


def test_a_text_that_is_too_long_is_cut_and_says_how_much_is_missing(run, monkeypatch):
    monkeypatch.setattr(room, "LONGEST", 999_990)
    seen = Unpacked(of(run))
    (role, content, missing) = seen.texts["answers"][seen.places("chosen")[7]][1][0]
    assert (role, len(content), missing) == ("assistant", 999_990, 10)
    assert len(seen.texts["answers"][seen.places("chosen")[0]][1][0]) == 2


def test_a_score_that_only_repeats_the_score_is_left_out(tmp_path):
    prefs = pairs_of(["a"], ["b"])
    more = prefs.responses.with_columns(score_same=pl.col("score"), score_other=pl.col("score") + 1.0)
    made_step(tmp_path, 1, "data", "read", lambda d: prefs.then(Step(name="own"), responses=more).save(d / "data"))
    seen = Unpacked(of(tmp_path))
    names = {one["name"] for one in seen.set["columns"]}
    assert "score_same_chosen" not in names
    assert seen.column("score_other_chosen") == [3.0]


def test_without_pairs_there_is_no_explorer(tmp_path):
    made_step(tmp_path, 1, "data", "read", lambda d: None)
    assert of(tmp_path) is None


@pytest.mark.parametrize("name", ["pairs.parquet", "responses.parquet", "manifest.json"])
def test_damaged_data_are_left_out(run, name):
    (run / "03-relabel" / "data" / name).write_bytes(b"PAR1 no")
    (run / "04-train" / "probes" / "probes.json").write_text("[", encoding="utf-8")
    explorer = of(run)
    assert [one.name for one in explorer.sets] in (["logprobs"], ["data"])


def test_no_text_of_the_data_is_markup_of_the_page(run):
    island = str(of(run).island)
    assert island.count("<") == 2 * island.count("</script>")
    assert "hacked" not in island
    assert re.fullmatch(r"[\x20-\x7e\n]*", island)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([1.5, None, float("nan"), float("inf"), -2.0], [1.5, None, None, None, -2.0]),
        ([i / 7 for i in range(300)] + [None], [i / 7 for i in range(300)] + [None]),
        (["b", None, "a", "b"], ["b", None, "a", "b"]),
        ([f"s{i:03d}" for i in range(400)], [f"s{i:03d}" for i in range(400)]),
        ([2**53 - 1, -3], [float(2**53 - 1), -3.0]),
    ],
)
def test_columns_keep_every_digit_and_unknown_stays_unknown(values, kept):
    packed = packed_column(pl.Series("x", values, strict=False))
    seen = Unpacked.__new__(Unpacked)
    seen.set = {"columns": [{"name": "x", **packed}]}
    assert seen.column("x") == kept


def test_texts_are_in_pieces_that_can_be_found_again():
    rng = np.random.default_rng(3)
    values = [["x" * int(size), i] for i, size in enumerate(rng.integers(1, CHUNK, 40))] + [["y" * (3 * CHUNK), 40]]
    packed = packed_texts(values)
    pieces = [json.loads(zlib.decompress(base64.b64decode(chunk))) for chunk in packed.chunks]
    assert [one for piece in pieces for one in piece] == values
    assert [piece[0][1] for piece in pieces] == list(packed.starts)
    assert len(pieces) > 20
    assert packed_texts([]).chunks == ()
