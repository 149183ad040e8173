"""The judge that names the best of all answers, against a server that judges by a rule known here."""

import re
from collections import Counter

import polars as pl
import pytest

from faulty import serving
from pairwright.chat import assistant, user
from pairwright.errors import InputError
from pairwright.evaluate import rewardbench2
from pairwright.preferences import Preferences
from pairwright.scorers import score
from pairwright.scorers.judge.readings import letter_said
from pairwright.served import Answer

pytest.importorskip("openai")


def data(answers):
    return Preferences.of(
        pl.DataFrame({"prompt_id": list(answers), "prompt": [[user(text)] for text in answers]}),
        pl.DataFrame(
            {
                "prompt_id": [text for text, said in answers.items() for _ in said],
                "response": [[assistant(each)] for said in answers.values() for each in said],
            }
        ),
    )


def shown(body):
    """The answers of a call by their letters."""
    found = re.findall(r"<answer_([A-Z])>\n(.*?)\n</answer_\1>", body["messages"][-1]["content"], re.DOTALL)
    return dict(found)


def longest(body):
    return "It is [[" + max(shown(body).items(), key=lambda one: len(one[1]))[0] + "]]"


def first_place(body):
    return "[[A]]"


def column(prefs, name="score"):
    return prefs.responses.select(name).collect()[name].to_list()


def test_the_named_answer_has_one_and_the_others_nothing():
    prefs = data({"p": ["a", "abc", "ab"], "q": ["abcd", "x"], "r": ["alone"]})
    with serving(longest) as server:
        scored = score(prefs, "judge", url=server.url, model="m", kind="best")
        assert len(server.bodies) == 2
    assert column(scored) == [0.0, 1.0, 0.0, 1.0, 0.0, None]
    assert column(scored, "score_why") == [None] * 5 + ["lone_answer"]
    assert scored.lineage[-1].found["choices"] == 2


def test_no_place_is_the_right_one_more_often():
    """A judge that names the first place is right by chance: of 200 first answers it names about a quarter."""
    prefs = data({f"p{n}": [f"{n} {letter}" for letter in "wxyz"] for n in range(200)})
    with serving(first_place) as server:
        scored = score(prefs, "judge", url=server.url, model="m", kind="best")
    by_answer = Counter(at % 4 for at, value in enumerate(column(scored)) if value == 1.0)
    assert sum(by_answer.values()) == 200
    assert all(25 <= by_answer[at] <= 80 for at in range(4))
    assert scored.lineage[-1].found["places"] == {"A": 200}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so [[B]]", ("B", "")),
        ("[[B]] yes [[ B ]]", ("B", "")),
        ("[[A]] or [[B]]", (None, "several_verdicts")),
        ("[[E]]", (None, "unreadable")),
        ("[[A]] [[E]]", (None, "several_verdicts")),
        ("[[b]]", (None, "unreadable")),
        ("[[none]]", (None, "abstained")),
        ("B", (None, "no_verdict")),
        ("<think>[[A]]</think>[[C]]", ("C", "")),
    ],
)
def test_what_a_judge_says(text, expected):
    assert letter_said(Answer(text, "stop"), "ABCD") == expected


def test_expected_is_not_read():
    with pytest.raises(InputError, match="kind 'best' reads what the judge said"):
        score(data({"p": ["a", "b"]}), "judge", url="http://127.0.0.1:1/v1", model="m", kind="best", reading="expected")


def test_rewardbench_with_a_judge_that_names_the_best_and_rates_ties(tmp_path):
    """The right answer is the longest but in one row, where the judge cannot be read: that has 1/4 (3.25 of 4)."""
    import json

    rows = [
        {"id": str(n), "subset": "Math", "num_correct": 1, "prompt": f"p{n}", "chosen": ["long answer"]}
        | {"rejected": ["a", "b", "c"]}
        for n in range(4)
    ]
    rows[2]["prompt"] = "say nothing"
    for kind, right in (("ref", ["good"]), ("tied", ["good", "fine good"])):
        rows.append(
            {"id": f"{kind}:0", "subset": "Ties", "num_correct": len(right), "prompt": "t"}
            | {"chosen": right, "rejected": ["bad", "worse"]}
        )
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def rule(body):
        text = body["messages"][-1]["content"]
        if "<answer_A>" in text:
            return "well" if "say nothing" in text else longest(body)
        return "[[9]]" if "good" in text.split("<answer>\n")[1].split("</answer>")[0] else "[[2]]"

    with serving(rule) as server:
        judge = {"with": "judge", "url": server.url, "model": "m"}
        result = rewardbench2(path, scorer={**judge, "kind": "best"}, ties_scorer=judge, draws=20)
        assert len(server.bodies) == 4 + 4  # of the seven answers of Ties three are the same twice, and asked once
    assert result.metric("Math").value == pytest.approx(3.25 / 4)
    assert result.metric("Ties").value == pytest.approx(1.01)
    assert any("4 answers stay unscored: no_verdict" in note for note in result.notes)
