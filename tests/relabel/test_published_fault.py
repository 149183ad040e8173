"""The fault of the published script that must not come back.

Source: the user-prefix function `add_neg_goal_nosys` of the code released with arXiv 2410.08067
(scripts/reward_augmentation.py 44-51), as its behaviour is described: it edits message 0 of both sides, which is the
user's turn, so the answers are never exchanged; and the two sides share one dictionary, so the prefix stands twice in
the rejected one. `faulty` does that; ours must differ from it in each point.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from pairwright.preferences import Preferences
from pairwright.relabel import relabel

Made = Callable[..., Preferences]
Example = dict[str, list[dict[str, str]]]


def faulty(example: Example, prefix: str) -> Example:
    """The negative copy as the published function makes it, aliasing included."""
    new_chosen, new_rejected = example["rejected"][0], example["chosen"][0]
    new_chosen["content"] = prefix + "\n\n" + new_chosen["content"]
    example["chosen"][0] = deepcopy(new_chosen)
    new_rejected["content"] = prefix + "\n\n" + new_rejected["content"]
    example["rejected"][0] = new_rejected
    return example


@pytest.fixture
def example() -> Example:
    question = {"role": "user", "content": "question 0"}
    return {
        "chosen": [question, {"role": "assistant", "content": "answer 0"}],
        "rejected": [question, {"role": "assistant", "content": "answer 1"}],
    }


@pytest.fixture
def ours(made: Made) -> list[dict[str, Any]]:
    return list(relabel(made([(9.0, 5.0)]), placement="user").rows())


def test_the_fault_is_what_it_is_said_to_be(example: Example) -> None:
    wrong = faulty(example, "<g=5>")
    assert wrong["chosen"][1]["content"] == "answer 0"  # asked for 5, and still the answer with 9
    assert wrong["chosen"][0]["content"] == "<g=5>\n\nquestion 0"
    assert wrong["rejected"][0]["content"] == "<g=5>\n\n<g=5>\n\nquestion 0"


def test_ours_exchanges_the_answers(ours: list[dict[str, Any]]) -> None:
    positive, negative = ours
    assert positive["chosen"] == negative["rejected"] == [{"role": "assistant", "content": "answer 0"}]
    assert positive["rejected"] == negative["chosen"] == [{"role": "assistant", "content": "answer 1"}]
    assert (positive["goal"], negative["goal"]) == (9.0, 5.0)
    assert (positive["score_chosen"], negative["score_chosen"]) == (9.0, 5.0)


def test_ours_says_the_goal_once_and_in_one_prompt(ours: list[dict[str, Any]]) -> None:
    for row in ours:
        [message] = row["prompt"]
        assert message["content"].count("Overall score:") == 1
        assert message["content"].count("question 0") == 1
        for side in ("chosen", "rejected"):
            assert "Overall score" not in row[side][0]["content"]


def test_ours_leaves_the_callers_data_alone(made: Made) -> None:
    prefs = made([(9.0, 5.0)])
    before = list(prefs.rows())
    list(relabel(prefs, placement="user").rows())
    list(relabel(prefs, placement="system").rows())
    assert list(prefs.rows()) == before
