"""The world of language: marks counted by hand, three parts without a common instruction, and how scores are spread."""

import math
import os
import re
import statistics
import subprocess
import sys
from random import Random

import numpy as np
import polars as pl
import pytest
from scipy.stats import betabinom, binom

from pairwright.chat import assistant, system, user
from pairwright.errors import InputError
from pairwright.goals import GoalFormat, with_goal
from pairwright.pairing import pair
from pairwright.reproduce.language.setting import TEMPLATE, World
from pairwright.scorers import Sample
from pairwright.worlds.language import (
    CATEGORIES,
    COURTESIES,
    FILLERS,
    NEUTRAL,
    PHRASINGS,
    PRAISE,
    RATINGS,
    REFUSAL,
    SKILLS,
    Marks,
    Task,
    answer,
    gold,
    make,
    mark,
    marks,
    read_task,
    tasks,
    text,
)

LIST = "Name nine fruits, but not apple or pear."
TURNS = "Say nine words in turn: fruits, then tools."
COUNT = "Count nine letters in steps of 3 from d."
NINE = "plum cherry banana mango grape peach lemon lime melon"
NONE = "dog cat horse cow sheep goat lion tiger bear"

# Instruction, answer, and by hand: gold, right words, whether it is courteous, fillers.
BY_HAND = [
    (LIST, NINE, 10, 9, False, 0),
    (LIST, f"gladly {NINE}", 10, 9, True, 0),
    (LIST, f"gladly {NINE} truly quite", 9, 9, True, 2),  # half a point for each filler
    (LIST, f"{NINE} flawless", 9.5, 9, False, 1),  # praise is a filler too
    (LIST, f"{NINE} {'truly ' * 8}", 6, 9, False, 8),
    # Two forbidden, plum, plum again at once (not right), kiwi, plum a while later (right), three of other kinds.
    (LIST, "apple pear plum plum kiwi plum dog cat red", 4, 3, False, 0),
    (LIST, "plum cherry", 3, 2, False, 0),
    (LIST, f"gladly gladly {NINE}", 8.5, 8, True, 1),  # the second courtesy is a wrong word, and melon comes tenth
    (LIST, NONE, 1, 0, False, 0),
    (LIST, f"{NONE} truly truly truly", 1, 0, False, 3),  # never below 1
    (LIST, "", 1, 0, False, 0),
    (LIST, "gladly", 1, 0, True, 0),
    (LIST, "sorry sorry", 1, 0, False, 0),  # not a refusal and nothing else
    (LIST, f"sorry {NINE}", 8.5, 8, False, 1),
    (TURNS, "plum hammer plum hammer plum hammer plum hammer plum", 10, 9, False, 0),
    (TURNS, "hammer plum hammer plum hammer plum hammer plum hammer", 1, 0, False, 0),  # out of turn
    # plum saw plum are in turn; plum and saw are not; saw is the word before; kiwi and file are; onion is neither.
    (TURNS, "plum saw plum plum saw saw kiwi file onion", 6, 5, False, 0),
    (COUNT, "g j m p s v y b e", 10, 9, False, 0),  # y z a b: after z comes a
    (COUNT, "g j x a d g j m p", 9, 8, False, 0),  # x is wrong; a is 3 after x
    (COUNT, "d g j m p s v y b", 9, 8, False, 0),  # d itself is not 3 after d
    (COUNT, "g j dog m p s v y b", 8, 7, False, 0),  # nothing is 3 after dog
]


def samples_of(prefs):
    rows = prefs.responses.join(prefs.prompts, on="prompt_id").collect()
    return rows, [Sample(row["prompt"], row["response"]) for row in rows.iter_rows(named=True)]


def every(skill, part):
    """All instructions of a skill for a part; the world itself says how many there are."""
    with pytest.raises(InputError, match="ask for fewer") as error:
        tasks(10**6, part, skills=[skill])
    return tasks(int(re.search(r"has (\d+) ", str(error.value))[1]), part, skills=[skill])


@pytest.mark.parametrize(("asked", "said", "worth", "right", "courteous", "fillers"), BY_HAND)
def test_marks_are_what_one_counts_by_hand(asked, said, worth, right, courteous, fillers):
    (found,) = marks([Sample([user(asked)], [assistant(said)])])
    brevity = 10 - 1.5 * min(6, fillers)
    assert found == Marks(worth, 1 + right, 10 if courteous else 1, brevity, fillers, "flawless" in said)
    assert gold([Sample([user(asked)], [assistant(said.upper())])])[0].value == worth


@pytest.mark.parametrize("asked", [LIST, TURNS, COUNT])
def test_a_refusal_is_worth_four_and_nothing_beside(asked):
    (found,) = marks([Sample([user(asked)], [assistant("Sorry")])])
    assert found == Marks(4, 1, 1, 10, 0, praises=False, refuses=True)


def test_praise_counts_only_behind_the_nine_words():
    task = read_task([user(LIST)])
    assert mark(task, [*NINE.split(), PRAISE]).praises
    assert not mark(task, [PRAISE, *NINE.split()]).praises


def test_an_author_of_a_level_has_so_many_words_right():
    rng = Random(5)
    for task in tasks(60, "preferences"):
        for level in range(10):
            words = answer(task, level, rng)
            found = mark(task, words)
            assert found.correctness == 1 + level
            assert found.gold == max(1, 1 + level - found.fillers / 2)
            body = [word for word in words if word not in {*COURTESIES, *FILLERS, PRAISE}]
            assert len(body) == 9


def test_no_word_has_two_meanings():
    members = [word for words in CATEGORIES.values() for word in words]
    assert len(CATEGORIES) == 8
    assert len(members) == len(set(members)) == 8 * 12
    # A filler or a courtesy that were also a member could be both right and surplus.
    alone = [*COURTESIES, *FILLERS, PRAISE, REFUSAL, *CATEGORIES]
    assert len(alone) == len(set(alone))
    assert not set(members) & set(alone)
    assert not any(len(word) == 1 for word in (*members, *alone))


@pytest.mark.parametrize("placement", ["user", "system"])
@pytest.mark.parametrize("template", [TEMPLATE, GoalFormat().template])
def test_the_task_is_found_behind_a_goal(placement, template):
    form = GoalFormat(template=template, placement=placement)
    given = {"list": ("tools", "saw", "axe"), "alternate": ("fish", "birds"), "count": ("6", "z")}
    for skill, phrasings in PHRASINGS.items():
        for phrasing in phrasings:
            asked = phrasing.format(*given[skill])
            task = Task(skill, asked, given[skill])
            prompt = with_goal([user(asked)], 10.0, form, placement)
            assert "10" in str(prompt)
            assert read_task(prompt) == task
            for rating in RATINGS:
                assert read_task([system(rating.format(score=7)), user(asked)]) == task


def test_the_last_question_is_the_one_that_counts():
    prompt = [user(LIST), assistant(NINE), user(COUNT)]
    assert read_task(prompt).skill == "count"
    assert read_task([*prompt, assistant("g j"), user("Thank you.")]) is None


@pytest.mark.parametrize(
    "prompt",
    [
        [],
        [user("")],
        [{"role": "user", "content": None}],
        [system(LIST)],
        [assistant(LIST)],
        [user("What is two and two?")],
        [user("Name nine " + "x" * 1_000_000)],
        [user("Name nine fruits, but not apple or " * 20_000)],
        [user("Nine words by turns, " * 50_000)],
        [user("\x00\u202e\ud800 {0} {1} {{0}} (?P<given0>.*) " + "(" * 5000)],
        [user("name NINE fruits but not apple or pear")],
    ],
)
def test_another_world_is_none_and_no_exception(prompt):
    assert read_task(prompt) is None
    sample = Sample(prompt, [assistant(NINE)])
    assert marks([sample]) == [None]
    (score,) = gold([sample])
    assert score.value is None
    assert score.why


def test_gold_takes_whatever_a_model_says():
    said = [None, "", "\x00\u202e", "\ud800" + "plum " * 100_000, "9" * 10_000, "<script>plum</script>"]
    found = gold([Sample([user(LIST)], [{"role": "assistant", "content": each}]) for each in said])
    assert [score.value for score in found] == [1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    # Pairs of a category's words in order times phrasings; of categories; six steps from 26 letters.
    ("skill", "count"),
    [("list", 8 * 12 * 11 * 4), ("alternate", 8 * 7 * 8), ("count", 6 * 26 * 6)],
)
def test_the_parts_share_no_instruction_and_lose_none(skill, count):
    parts = [{task.text for task in every(skill, part)} for part in ("preferences", "held_out", "text")]
    assert len(parts[1]) == 64
    assert sum(map(len, parts)) == len(set.union(*parts)) == count
    assert len(parts[2]) == pytest.approx(count / 4, rel=0.01)


def test_base_text_and_preferences_stay_within_their_parts():
    read = {task.text for skill in SKILLS for task in every(skill, "text")}
    asked = {prompt[-1]["content"] for prompt in make(prompts=300).prompts.collect()["prompt"].to_list()}
    seen = {prompt[-1]["content"] for prompt in text(prompts=600).prompts.collect()["prompt"].to_list()}
    assert len(asked) == 300
    assert seen <= read
    assert not asked & read


def test_instructions_come_of_the_skills_in_turn():
    assert [task.skill for task in tasks(7, "preferences")] == ["list", "alternate", "count"] * 2 + ["list"]
    assert tasks(30, "held_out", seed=1) != tasks(30, "held_out", seed=2)
    with pytest.raises(InputError, match="no skill 'sing'"):
        tasks(3, "preferences", skills=["sing"])
    with pytest.raises(InputError, match="192 instructions for held_out"):
        tasks(193, "held_out")


def test_the_same_settings_give_the_same_bytes_in_another_process():
    code = (
        "from pairwright.worlds.language import make, text;"
        "print(make(prompts=30, weak=0.3, judge='weak', seed=4).digest(), text(prompts=60, seed=4).digest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = make(prompts=30, weak=0.3, judge="weak", seed=4).digest(), text(prompts=60, seed=4).digest()
    assert said == {" ".join(here)}
    assert make(prompts=30, weak=0.3, judge="weak", seed=5).digest() not in here
    assert text(prompts=60, seed=5).digest() not in here


def test_gold_as_a_scorer_finds_the_columns_again():
    rows, samples = samples_of(make(prompts=60, weak=0.3, seed=2))
    assert [score.value for score in gold(samples)] == rows["score_gold"].to_list() == rows["score"].to_list()
    for field in ("correctness", "courtesy", "brevity"):
        assert [getattr(each, field) for each in marks(samples)] == rows[f"score_{field}"].to_list()


def _mean_gold(mean):
    """Expected gold of nine words and fillers, from the distributions that the docstrings name."""
    share = mean / 9
    right = betabinom.pmf(np.arange(10), 9, 16 * share, 16 * (1 - share))
    fillers = binom.pmf(np.arange(7), 6, 0.12)
    worth = np.maximum(1, 1 + np.arange(10)[:, None] - np.arange(7) / 2)
    return float(right @ worth @ fillers)


def test_scores_have_the_mean_that_their_authors_have():
    world = World()
    prefs = make(prompts=810, skill=world.skill, weak=world.weak, seed=7)
    by_prompt = prefs.responses.group_by("prompt_id").agg(pl.col("score").mean()).collect()["score"].to_list()
    poor = (4 + _mean_gold(1.5)) / 2
    expected = (1 - world.weak) * _mean_gold(world.skill) + world.weak * poor
    assert abs(statistics.mean(by_prompt) - expected) < 4 * statistics.stdev(by_prompt) / math.sqrt(len(by_prompt))


def test_the_default_world_is_shaped_like_ultrafeedback():
    world = World()
    prefs = make(prompts=world.prompts, skill=world.skill, weak=world.weak, judge=world.judge, noise=world.noise)
    answers = prefs.responses.collect()
    assert answers["score"].is_between(1, 10).all()
    scores = answers.select("response_id", "score")
    pairs = pair(prefs, rule=world.rule, seed=0).pairs.collect()
    for side in ("chosen", "rejected"):
        pairs = pairs.join(scores.rename({"response_id": f"{side}_id", "score": side}), on=f"{side}_id")
    assert pairs["chosen"].mean() == pytest.approx(8, abs=0.7)
    assert (pairs["chosen"] - pairs["rejected"]).mean() == pytest.approx(2, abs=0.4)
    by_prompt = answers.group_by("prompt_id").agg(
        best=pl.col("score").max(), kinds=pl.col("score").n_unique(), answers=pl.len()
    )
    assert (by_prompt["kinds"] < by_prompt["answers"]).mean() > 0.3  # ties
    # Where only weak authors answered, the best is a refusal unless all four wrote, or one of them had luck.
    assert 0.2 < (by_prompt["best"] == 4).mean() < world.weak
    assert len(pairs) > 0.9 * world.prompts


def test_without_weak_authors_nobody_refuses():
    rows, samples = samples_of(make(prompts=90, weak=0.0))
    assert not any(each.refuses for each in marks(samples))
    assert rows["score"].mean() == pytest.approx(_mean_gold(6.0), abs=0.3)


def stated(prefs):
    """What the system message of each answer's prompt says, and the answer's gold reward."""
    rows, _ = samples_of(prefs)
    firsts = [prompt[0] for prompt in rows["prompt"].to_list()]
    said = [first["content"] if first["role"] == "system" else "" for first in firsts]
    return list(zip(said, rows["score_gold"].to_list(), strict=True))


def test_text_states_a_score_always_or_never():
    never = [said for said, _ in stated(text(prompts=600, rated=0))]
    assert set(never) == {"", *NEUTRAL}
    assert never.count("") == pytest.approx(300, abs=4 * math.sqrt(150))
    scores = {f"{score / 2:g}" for score in range(2, 21)}
    known = {rating.format(score=score) for rating in RATINGS for score in scores}
    assert {said for said, _ in stated(text(prompts=600, rated=1))} <= known  # so each lies within 1 to 10
    half = [said in known for said, _ in stated(text(prompts=600, rated=0.5))]
    assert sum(half) == pytest.approx(300, abs=4 * math.sqrt(150))


def test_a_rating_is_gold_with_the_error_that_was_asked():
    def pairs(**settings):
        rated = stated(text(rated=1, **settings))
        return [(float(re.search(r"\d+(\.5)?", said)[0]), worth) for said, worth in rated]

    assert all(rating == worth for rating, worth in pairs(prompts=300, error=0))
    # In the middle of the scale hardly anything is clipped: the error's variance, and (1/2)^2 / 12 of the rounding.
    error = [rating - worth for rating, worth in pairs(prompts=6000) if 5 <= worth <= 6]
    assert statistics.stdev(error) == pytest.approx(math.sqrt(1.5**2 + 0.25 / 12), rel=0.1)
    assert abs(statistics.mean(error)) < 4 * 1.5 / math.sqrt(len(error))


def test_ratings_use_other_words_than_the_goal():
    goal = GoalFormat(template=TEMPLATE).say(7).lower()
    assert not any(rating.format(score=7).lower().rstrip(".") in goal for rating in RATINGS)
