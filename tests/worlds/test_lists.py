"""The world of lists: gold marked by hand, determinism, noise, and the line between its two parts."""

import math
import statistics

import polars as pl
import pytest

from pairwright.chat import assistant, system, user
from pairwright.errors import InputError
from pairwright.goals import GoalFormat, with_goal
from pairwright.scorers import Sample
from pairwright.worlds.lists import CATEGORIES, NEUTRAL, PHRASINGS, RATINGS, gold, make, read_prompt, text

PROMPT = [user("Name nine fruits, but not apple or pear.")]
NINE = "plum cherry banana mango grape peach lemon lime melon"

# Marked by hand: 1 plus the distinct right words among the first nine.
BY_HAND = [
    (NINE, 10),
    ("apple pear plum dog cat red oak iron hammer", 2),  # two forbidden, one right
    ("plum plum plum plum plum plum plum plum plum", 2),  # one word nine times
    ("plum, Cherry; BANANA.\nmango", 5),  # marks, case and fewer words
    ("", 1),
    ("dog cat horse cow sheep goat lion tiger bear " + NINE, 1),  # the right words come too late
    (NINE + " apple pear", 10),  # the tenth word and later ones are not read
    ("<script>alert(1)</script>", 1),  # three words that are no fruits
    ("plum\u202e cherry\x00banana\u200bmango", 5),  # bidi, NUL and zero width between right words
    ("\ud800" + "9" * 50 + " \U0001f34e \u2028 plum" + "x" * 1_000_000, 1),
]


@pytest.mark.parametrize(("answer", "score"), BY_HAND)
def test_gold_is_what_one_counts_by_hand(answer, score):
    assert gold([Sample(PROMPT, [assistant(answer)])])[0].value == score


def test_gold_does_not_see_the_goal_or_a_rating_in_the_prompt():
    form = GoalFormat()
    prompts = [
        with_goal(PROMPT, 10, form, "user"),
        with_goal(PROMPT, 3, form, "system"),
        [system("You are kind to fruits such as plum."), *PROMPT],
        [user(f"{PROMPT[0]['content']} {RATINGS[0].format(score=7)}")],
    ]
    found = gold([Sample(prompt, [assistant(NINE)]) for prompt in prompts])
    assert [score.value for score in found] == [10, 10, 10, 10]


def test_a_prompt_of_another_world_has_no_gold_and_says_so():
    for prompt in ([user("What is two and two?")], [user("Name nine dragons.")], [system("Name nine fruits.")], []):
        (score,) = gold([Sample(prompt, [assistant(NINE)])])
        assert score.value is None
        assert score.why


def test_no_word_is_in_two_categories_or_in_any_sentence_around_them():
    words = [word for members in CATEGORIES.values() for word in members]
    assert len(words) == len(set(words)) == 16 * 16
    around = " ".join((*PHRASINGS, *RATINGS, *NEUTRAL, GoalFormat().template, *CATEGORIES)).lower()
    assert not set(words) & set(around.replace(".", " ").replace(",", " ").split())


@pytest.mark.parametrize("phrasing", PHRASINGS)
def test_every_phrasing_is_read_back(phrasing):
    asked = phrasing.format(category="trees", first="yew", second="oak")
    category, forbidden = read_prompt([user(asked)])
    assert category == "trees"
    assert set(forbidden) == {"yew", "oak"}


def test_the_skill_of_an_author_is_the_number_of_right_words():
    prefs = make(prompts=60, answers=5, seed=3)
    rows = prefs.responses.collect()
    assert rows["model"].str.strip_prefix("skill-").cast(pl.Float64).to_list() == [s - 1 for s in rows["score"]]
    texts = {row["prompt_id"]: row["prompt"] for row in prefs.prompts.collect().iter_rows(named=True)}
    samples = [Sample(texts[row["prompt_id"]], row["response"]) for row in rows.iter_rows(named=True)]
    assert [score.value for score in gold(samples)] == rows["score"].to_list()
    assert {len(sample.answer.split()) for sample in samples} == {9}
    assert rows.group_by("prompt_id").agg(pl.col("score").n_unique())["score"].to_list() == [5] * 60


def test_the_same_seed_gives_the_same_world_and_another_seed_another():
    assert make(prompts=50, seed=1).digest() == make(prompts=50, seed=1).digest()
    assert make(prompts=50, seed=1).digest() != make(prompts=50, seed=2).digest()
    assert text(prompts=50, seed=1).digest() == text(prompts=50, seed=1).digest()


def test_noise_has_the_level_that_was_asked_and_leaves_gold_alone():
    rows = make(prompts=800, answers=4, noise=1.0, seed=0).responses.collect()
    # Away from the ends of the scale nothing is clipped, so the error has its own mean and spread there:
    # variance 1 of the judge plus (1/2)^2 / 12 of the rounding to half points.
    inner = rows.filter(pl.col("score_gold").is_between(5, 6))
    error = (inner["score"] - inner["score_gold"]).to_list()
    assert abs(statistics.mean(error)) < 4 / math.sqrt(len(error))
    assert statistics.stdev(error) == pytest.approx(math.sqrt(1 + 0.25 / 12), rel=0.08)
    assert rows["score"].is_between(1, 10).all()
    assert rows["score_gold"].to_list() == [float(m.removeprefix("skill-")) + 1 for m in rows["model"]]


def test_base_text_and_preferences_share_no_instruction():
    def bare(prefs):
        prompts = prefs.prompts.collect()["prompt"].to_list()
        return {read_prompt(prompt) for prompt in prompts}

    mine, theirs = bare(make(prompts=7168)), bare(text(prompts=8192))
    assert not mine & theirs
    with pytest.raises(InputError, match="7168 instructions"):
        make(prompts=7169)


def test_rated_text_states_the_gold_score_in_other_words():
    def stated(prefs):
        rows = prefs.prompts.join(prefs.responses, on="prompt_id").collect()
        pairs = []
        for row in rows.iter_rows(named=True):
            words = "\n".join(message["content"] for message in row["prompt"])
            pairs.append((words, row["score"]))
        return pairs

    for words, score in stated(text(prompts=200, rated=1.0)):
        assert any(rating.format(score=int(score)) in words for rating in RATINGS)
    assert not any(character.isdigit() for words, _ in stated(text(prompts=200, rated=0.0)) for character in words)
    goal = GoalFormat().say(7).lower()
    assert not any(rating.format(score=7).lower() in goal for rating in RATINGS)
