"""Scores of a model that compares two answers: by hand, and against a plain loop over all ordered pairs."""

import json
import math
import os
import random
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import classifiers
import tiny
from pairwright.chat import assistant, prompt_id, system, user
from pairwright.cli import main
from pairwright.errors import InputError, MissingExtra
from pairwright.preferences import Preferences
from pairwright.scorers import score
from pairwright.scorers.ranker import win_rates

SCORER = "ranker"
TEMPLATE = "<|user|>{prompt}<|assistant|>{first}<|assistant|>{second}<|end|>"
WORDS = ["one", "red green", "a {first} b", "four four four", "blue", "long word list " * 3, "seven", "ten"]


def several(answers: dict[str, list[str]]) -> Preferences:
    """Prompts with these answers."""
    prompts = {text: prompt_id([user(text)]) for text in answers}
    return Preferences.of(
        pl.DataFrame({"prompt_id": prompts.values(), "prompt": [[user(text)] for text in answers]}),
        pl.DataFrame(
            {
                "prompt_id": [prompts[text] for text, each in answers.items() for _ in each],
                "response": [[assistant(said)] for each in answers.values() for said in each],
            }
        ),
    )


PREFS = several({"ask": WORDS[:4], "ask again": WORDS[4:7], "two": ["same", "same"]})


def scored(prefs: Preferences, place: Path, **settings: Any) -> list[float | None]:
    result = score(prefs, SCORER, model=place, **{"template": TEMPLATE} | settings)
    found: list[float | None] = result.responses.collect()["score"].to_list()
    return found


def loop(place: Path, asked: str, answers: list[str]) -> list[float]:
    """The score of each answer, by transformers alone, one text after the other."""
    from transformers import AutoTokenizer

    reader = AutoTokenizer.from_pretrained(place)
    orders = list(permutations(range(len(answers)), 2))
    texts = [f"<|user|>{asked}<|assistant|>{answers[a]}<|assistant|>{answers[b]}<|end|>" for a, b in orders]
    logits = classifiers.one_by_one(place, [reader(text)["input_ids"] for text in texts])
    odds = dict(zip(orders, (row[0] for row in logits), strict=True))
    others = [[j for j in range(len(answers)) if j != i] for i in range(len(answers))]
    return [
        float(np.mean([1 / (1 + math.exp(-(odds[i, j] - odds[j, i]) / 2)) for j in others[i]]))
        for i in range(len(answers))
    ]


def test_the_mean_probability_by_hand() -> None:
    # Answers 7, 8 and 9 of strength 2, 1, 0, and a liking of 3 for the first place: forth d + 3, back -d + 3.
    pairs = [(7, 8), (7, 9), (8, 9)]
    found = win_rates(pairs, np.array([4.0, 5.0, 4.0]), np.array([2.0, 1.0, 2.0]))
    one, two = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))
    assert found == pytest.approx({7: (one + two) / 2, 8: (1 - one + one) / 2, 9: (2 - one - two) / 2})
    assert found[7] > 0.5 > found[9]
    extreme = win_rates([(0, 1)], np.array([1e4]), np.array([-1e4]))
    assert extreme == {0: 1.0, 1: 0.0}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("batch_tokens", [1, 200, 100_000])
def test_it_is_what_a_plain_loop_says(kind: classifiers.Kind, batch_tokens: int, tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm", kind=kind)
    found = scored(PREFS, place, batch_tokens=batch_tokens)
    expected = [*loop(place, "ask", WORDS[:4]), *loop(place, "ask again", WORDS[4:7]), 0.5, 0.5]
    assert found == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 2) for value in expected}) > 3
    assert np.mean(expected[:4]) == pytest.approx(0.5)


def test_the_order_of_the_rows_and_the_padding_side_change_nothing(tmp_path: Path) -> None:
    right, left = classifiers.model(tmp_path / "right"), classifiers.model(tmp_path / "left", side="left")
    first = scored(PREFS, right)
    assert scored(PREFS, left) == first
    order = list(range(9))
    random.Random(5).shuffle(order)
    mixed = Preferences.of(PREFS.prompts, PREFS.responses.collect()[order])
    assert scored(mixed, right) == pytest.approx([first[i] for i in order], abs=1e-12)


def test_the_place_is_said_to_decide_where_it_does(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    place = classifiers.model(tmp_path / "rm", kind="bert")
    step = score(PREFS, SCORER, model=place, template=TEMPLATE).lineage[-1]
    before = step.found["liking_for_first"]
    assert step.found["comparisons"] == 6 + 3 + 1
    file = place / "model.safetensors"
    weights = load_file(file)
    weights["classifier.bias"] += 50.0
    save_file(weights, file, metadata={"format": "pt"})
    result = score(PREFS, SCORER, model=place, template=TEMPLATE)
    found = result.lineage[-1].found
    assert found["position_flips"] == 10
    assert found["position_flip_rate"] == 1.0
    assert found["liking_for_first"] == pytest.approx(before + 50, abs=1e-4)
    expected = score(PREFS, SCORER, model=classifiers.model(tmp_path / "plain", kind="bert"), template=TEMPLATE)
    # The planted liking is gone from the scores, up to what float32 keeps of 50 and a bit.
    values, plain = (each.responses.collect()["score"].to_list() for each in (result, expected))
    assert values == pytest.approx(plain, abs=1e-4)
    assert "The place decided 10 of 10 comparisons (100.0%)" in result.lineage[-1].notes[0]


def test_answers_that_meet_nobody_are_null_and_counted(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm")
    prefs = several({"alone": ["one"], "ask": ["yes", "no", "  "], "empty": ["", "one"]})
    lost = pl.DataFrame(
        {"prompt_id": ["nowhere", prompt_id([user("ask")])], "response": [[assistant("lost")], None]},
        schema=prefs.responses.select("prompt_id", "response").collect_schema(),
    )
    answers = pl.concat([prefs.responses.collect().drop("response_id"), lost], how="diagonal")
    data = Preferences.of(prefs.prompts, answers)
    result = score(data, SCORER, model=place, template=TEMPLATE)
    values = result.responses.collect()["score"]
    assert values.is_null().to_list() == [True, False, False, True, True, True, True, True]
    assert values.to_list()[1:3] == pytest.approx(loop(place, "ask", ["yes", "no"]), abs=1e-5)
    assert result.lineage[-1].settings["unscored"] == {
        "empty": 2,
        "missing_prompt": 1,
        "missing_answer": 1,
        "fewer_than_two_answers": 2,
    }


def test_answers_that_are_too_long_are_left_out_so_that_all_others_meet(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm")
    # With the template's five tokens: the two long ones are too long for each other alone, "x" * 90 for everyone.
    answers = ["y" * 30, "no", "z" * 31, "x" * 90, "yes"]
    result = score(several({"ask": answers}), SCORER, model=place, template=TEMPLATE, max_length=60)
    values = result.responses.collect()["score"]
    assert values.is_null().to_list() == [False, False, True, True, False]
    assert result.lineage[-1].settings["unscored"] == {"too_long": 2}
    kept = loop(place, "ask", [answers[i] for i in (0, 1, 4)])
    assert values.drop_nulls().to_list() == pytest.approx(kept, abs=1e-5)
    none = score(several({"ask": answers[:2]}), SCORER, model=place, template=TEMPLATE, max_length=20)
    assert none.responses.collect()["score"].to_list() == [None, None]
    assert none.lineage[-1].settings["unscored"] == {"too_long": 2}


def test_a_prompt_of_several_messages_says_who_spoke(tmp_path: Path) -> None:
    place = classifiers.model(tmp_path / "rm")
    prompt = [system("be kind"), user("ask")]
    answers = [[assistant("yes")], [assistant("no")], [assistant("four")]]
    prefs = Preferences.of(
        pl.DataFrame({"prompt_id": ["a"], "prompt": [prompt]}),
        pl.DataFrame({"prompt_id": ["a"] * 3, "response": answers}),
    )
    expected = loop(place, "System: be kind\n\nUser: ask", ["yes", "no", "four"])
    assert scored(prefs, place) == pytest.approx(expected, abs=1e-5)


def test_the_template_may_be_a_file_and_the_tokenizer_puts_its_special_tokens_round_it(tmp_path: Path) -> None:
    import tokenizers
    from transformers import AutoTokenizer

    place = classifiers.model(tmp_path / "rm")
    file = tmp_path / "form.txt"
    file.write_text(TEMPLATE)
    before = scored(PREFS, place)
    assert scored(PREFS, place, template=str(file)) == before
    marked = scored(PREFS, place, template="<|begin|>" + TEMPLATE)
    assert marked != pytest.approx(before, abs=1e-3)
    reader = AutoTokenizer.from_pretrained(place)
    reader.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 1)]
    )
    reader.save_pretrained(place)
    assert scored(PREFS, place) == marked


def test_bad_requests_are_sentences(tmp_path: Path) -> None:
    one, two = classifiers.model(tmp_path / "one"), classifiers.model(tmp_path / "two", heads=2)
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (one, {"template": "{prompt} {first}"}, r"has no \{second\}; it must have"),
        (one, {"template": "form.txt"}, "and is no file"),
        (two, {}, "has 2 numbers for a text; a ranker has one"),
        (one, {"field": "scores"}, "has no field 'scores'; there are logits"),
        (tmp_path / "nowhere", {}, "there is no directory"),
        (tiny.model(tmp_path / "causal"), {}, "no weights for score.weight"),
    ]
    for place, settings, says in cases:
        with pytest.raises(InputError, match=says):
            scored(PREFS, place, **settings)
    with pytest.raises(InputError, match="template: Field required"):
        score(PREFS, SCORER, model=one)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, source = classifiers.model(tmp_path / "rm"), tiny.preferences(4).save(tmp_path / "in")
    words = ["score", str(source), "-o", str(tmp_path / "out"), "--with", "ranker", "--model", str(place)]
    assert main([*words, "--template", TEMPLATE, "--into", "score_ranker", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"]["comparisons"] == 4
    frame = Preferences.load(tmp_path / "out").responses.collect()
    assert frame["score_ranker"].to_list() == scored(tiny.preferences(4), place)
    assert frame["score"].to_list() == [8.0, 3.0] * 4


def test_a_cluster_is_the_same_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="ray is not installed"):
        scored(PREFS, classifiers.model(tmp_path / "rm"), ray=True)


CLUSTER = """
import sys
import ray
from pairwright.cli import main
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_cluster_of_two_workers_gives_the_bytes_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    place, source = classifiers.model(tmp_path / "rm"), PREFS.save(tmp_path / "in")
    own = ["--with", SCORER, "--model", str(place), "--template", TEMPLATE, "--batch-tokens", "120"]
    for name, more in (("ray", ["--ray"]), ("alone", [])):
        words = ["score", str(source), "-o", str(tmp_path / name), *own, *more]
        done = subprocess.run(
            [sys.executable, "-c", CLUSTER, *words],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
        )
        assert done.returncode == 0, done.stderr
    both = [(tmp_path / name / "responses.parquet").read_bytes() for name in ("ray", "alone")]
    assert both[0] == both[1]
    found = [Preferences.load(tmp_path / name).lineage[-1].found for name in ("ray", "alone")]
    assert found[0] == found[1]
    assert found[0]["comparisons"] == 10
