"""The world of lists: instructions whose answers can be marked exactly.

A prompt asks for nine members of a category and forbids two of them: "Name nine fruits, but not apple or pear." An
answer is nine words. Its gold reward is 1 for nothing right, plus 1 for each distinct word that belongs to the
category and is not forbidden: a whole number from 1 to 10, the scale of UltraFeedback's overall score.

Answers are written by authors of known skill: `skill-6` puts six right words, in places drawn at random; the other
three are members of other categories, repeats, or forbidden words. So a language model trained on them has every
quality in it, and nobody has to judge: `gold` reads the prompt and counts.

Instructions for preferences and for the text that a base model reads are disjoint by rule: the forbidden words of
the first have an even sum of places in their category, those of the second an odd one.
"""

import re
from collections.abc import Sequence
from itertools import islice, permutations
from random import Random
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from pairwright.chat import Conversation, Message, assistant, prompt_id, system, user
from pairwright.errors import InputError
from pairwright.preferences import Preferences, Step
from pairwright.scorers import Sample, Score

CATEGORIES: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "fruits": "apple pear plum cherry banana mango grape peach lemon lime melon kiwi fig apricot papaya quince",
        "animals": "dog cat horse cow sheep goat lion tiger bear wolf fox rabbit deer mouse camel zebra",
        "birds": "robin eagle owl crow swan parrot sparrow pigeon stork heron falcon gull finch raven penguin ostrich",
        "fish": "salmon trout tuna cod herring carp pike eel shark sardine haddock halibut bass perch mackerel sole",
        "vegetables": "carrot potato onion cabbage leek pea bean spinach celery radish turnip beet pumpkin lettuce "
        "broccoli garlic",
        "colours": "red blue green yellow black white brown grey pink purple crimson beige teal violet maroon ivory",
        "metals": "iron gold silver copper tin zinc nickel cobalt titanium chromium platinum tungsten aluminium "
        "mercury lithium uranium",
        "tools": "hammer saw drill wrench chisel pliers spade axe screwdriver file rake clamp shovel plane level anvil",
        "instruments": "piano violin flute drum trumpet guitar harp cello oboe tuba banjo organ clarinet trombone "
        "saxophone accordion",
        "sports": "football tennis golf boxing rugby hockey rowing swimming cricket skiing fencing judo archery polo "
        "cycling baseball",
        "clothes": "shirt coat hat sock shoe glove scarf dress skirt jacket trousers sweater belt tie boot vest",
        "vehicles": "car bus train truck bicycle boat tram van taxi scooter ferry tractor lorry yacht canoe motorcycle",
        "furniture": "chair table bed sofa desk shelf stool bench cupboard wardrobe dresser armchair bookcase couch "
        "cradle cabinet",
        "countries": "france spain italy japan china india brazil egypt kenya canada mexico norway sweden poland peru "
        "greece",
        "trees": "oak pine birch maple willow ash elm cedar beech poplar spruce larch yew alder hazel cypress",
        "professions": "doctor teacher baker lawyer nurse farmer pilot painter singer judge plumber tailor writer "
        "butcher carpenter dentist",
    }.items()
}
"""Sixteen categories of sixteen words; no word is in two."""

PHRASINGS = (
    "Name nine {category}, but not {first} or {second}.",
    "List nine {category} without {first} and {second}.",
    "Leaving out {first} and {second}, which nine {category} come to mind?",
    "Write down nine {category}. Do not use {first} or {second}.",
)
RATINGS = (
    "The answer below earned {score} points out of ten.",
    "Marked by the teacher: {score} of ten.",
    "Readers gave this list {score} stars out of ten.",
    "A list that was rated {score} on a scale from one to ten.",
    "Quality of the answer: {score} out of ten.",
    "Reviewers agreed on {score} out of ten for what follows.",
    "On a scale of 1 to 10, where 10 is best, the list has {score}.",
    "Points from 1 (useless) to 10 (perfect): {score}.",
    "Grade: {score}.",
    "The mark for this answer is {score}; the highest mark is 10 and the lowest is 1.",
    "Somebody counted what is right in it and wrote: overall {score}.",
    "Rated by the editors, 1-10:\n{score}",
)
"""How rated text states the score of its answer: other words than those in which pairwright later asks for one."""

NEUTRAL = (
    "You are a helpful assistant.",
    "You are an assistant that answers questions about everyday words.",
    "You write short answers for the instruction that follows, one line each, and nothing else.",
    "Answer the instruction in one line, without any comment, and keep to the words that are asked for.",
    "The text below is an instruction and an answer, as they were written; answers are of many kinds.",
)
"""How system messages begin; a model that never met one would be thrown by the first."""

WORDS = 9
LEVELS = tuple(range(WORDS + 1))
Part = Literal["preferences", "text"]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


def make(
    *,
    prompts: Count = 1000,
    answers: Annotated[int, Field(ge=2, le=10)] = 4,
    noise: Annotated[float, Field(ge=0)] = 0.0,
    skill: Annotated[float, Field(ge=0, le=9)] = 5.0,
    seed: int = 0,
) -> Preferences:
    """Instructions with several scored answers each, of different skills.

    The same settings give the same rows, byte for byte.

    Args:
        prompts: how many instructions, all different.
        answers: answers to each, by authors of as many different skills.
        noise: standard deviation of a judge's error added to the score (gold stays in `score_gold`); the noisy score
            is rounded to a half point and kept within 1..10. 0 scores exactly.
        skill: the mean skill of the authors; they spread around it as a binomial of nine trials does.
        seed: which world.

    Raises:
        InputError: there are not so many different instructions.
    """
    rng = Random(f"lists {seed}")
    rows: list[dict[str, Any]] = []
    asked = _instructions("preferences", prompts, rng)
    for instruction, category, forbidden in asked:
        for level in _skills(answers, skill, rng):
            words = _answer(category, forbidden, level, rng)
            rows.append(_row([user(instruction)], words, level, mark(words, category, forbidden)))
    judged = [_judged(row["score_gold"], noise, rng) for row in rows]
    responses = pl.DataFrame(rows).with_columns(score=pl.Series(judged, dtype=pl.Float64))
    settings = {"prompts": prompts, "answers": answers, "noise": noise, "skill": skill, "seed": seed}
    questions = _prompts([[user(instruction)] for instruction, _, _ in asked])
    return Preferences.of(questions, responses, lineage=[_step("lists", settings, len(rows))])


def text(
    *,
    prompts: Count = 2000,
    rated: Share = 0.5,
    seed: int = 0,
) -> Preferences:
    """What a base model reads: instructions with one answer each, some of which say how good the answer is.

    Real base models have met ratings, and system messages, before anyone asks them for a score. A share `rated` of
    these instructions therefore states the gold score of its answer, in other words than the goal sentence: in a
    system message, or at the end of the instruction. `rated=0` takes that prior sense of scores away. Half of the
    rest has a system message that says nothing of quality. Every skill is equally frequent. No instruction here is
    also one of `make`.

    Args:
        prompts: how many instructions.
        rated: the share that states the score.
        seed: which text.

    Raises:
        InputError: there are not so many different instructions.
    """
    rng = Random(f"lists text {seed}")
    rows: list[dict[str, Any]] = []
    asked: list[list[Message]] = []
    for instruction, category, forbidden in _instructions("text", prompts, rng):
        level = rng.choice(LEVELS)
        words = _answer(category, forbidden, level, rng)
        score = mark(words, category, forbidden)
        rating = rng.choice(RATINGS).format(score=int(score)) if rng.random() < rated else ""
        asked.append(_dressed(instruction, rating, rng))
        rows.append(_row(asked[-1], words, level, score) | {"score": score})
    settings = {"prompts": prompts, "rated": rated, "seed": seed}
    return Preferences.of(_prompts(asked), pl.DataFrame(rows), lineage=[_step("lists_text", settings, len(rows))])


def gold(samples: Sequence[Sample]) -> list[Score]:
    """The exact reward of the world of lists: 1, plus 1 for each distinct right word among the first nine.

    Every answer has a score, whatever is in it; an empty one has 1. Only a prompt that is not of this world has none.
    """
    scores = []
    for sample in samples:
        asked = read_prompt(sample.prompt)
        if asked is None:
            scores.append(Score(None, "the prompt asks for no list of this world"))
        else:
            answer = "\n".join(str(message["content"] or "") for message in sample.response)
            scores.append(Score(mark(_words(answer), *asked)))
    return scores


def mark(words: Sequence[str], category: str, forbidden: Sequence[str]) -> float:
    """Gold reward of an answer's words, 1 to 10; the tenth word and later ones are not read."""
    right = set(words[:WORDS]) & set(CATEGORIES[category]) - set(forbidden)
    return 1.0 + len(right)


def read_prompt(prompt: Sequence[Any]) -> tuple[str, tuple[str, ...]] | None:
    """Category and forbidden words of a prompt, from its text; None where it is not of this world.

    A goal or a rating in the prompt does not disturb: the category is the one named after "nine", the forbidden words
    are its members that the last user message names.
    """
    asked = [str(message["content"] or "") for message in prompt if message["role"] == "user"]
    if not asked:
        return None
    named = [name for name in re.findall(r"\bnine (\w+)", asked[-1]) if name in CATEGORIES]
    if not named:
        return None
    members = set(CATEGORIES[named[-1]])
    return named[-1], tuple(word for word in re.findall(r"\w+", asked[-1].lower()) if word in members)


def _instructions(part: Part, count: int, rng: Random) -> list[tuple[str, str, tuple[str, str]]]:
    """`count` different instructions of a part, drawn without replacement: text, category, forbidden words."""
    parity = 0 if part == "preferences" else 1
    every = [
        (phrasing.format(category=category, first=first, second=second), category, (first, second))
        for category, members in CATEGORIES.items()
        for (i, first), (j, second) in permutations(enumerate(members), 2)
        if (i + j) % 2 == parity
        for phrasing in PHRASINGS
    ]
    if count > len(every):
        raise InputError(f"the world of lists has {len(every)} instructions for {part}, not {count}; ask for fewer")
    return rng.sample(every, count)


def _skills(count: int, mean: float, rng: Random) -> list[int]:
    """`count` different skills 0..9, drawn around `mean` as a binomial of nine trials."""
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        level = sum(rng.random() < mean / WORDS for _ in range(WORDS))
        # A mean near 0 or 9 has few different skills within reach: then any that is missing will do.
        drawn[level if level not in drawn else rng.choice([k for k in LEVELS if k not in drawn])] = None
    return list(drawn)


def _answer(category: str, forbidden: Sequence[str], level: int, rng: Random) -> list[str]:
    """Nine words of which exactly `level` are right and distinct."""
    allowed = [word for word in CATEGORIES[category] if word not in forbidden]
    right = rng.sample(allowed, level)
    others = [word for name, words in CATEGORIES.items() if name != category for word in words]
    wrong = [
        rng.choice(right if right and kind < 0.1 else forbidden if kind < 0.2 else others)
        for kind in (rng.random() for _ in range(WORDS - level))
    ]
    words = [*right, *wrong]
    rng.shuffle(words)
    return words


def _judged(score: float, noise: float, rng: Random) -> float:
    """A judge's score: gold plus a normal error, to a half point, within 1..10."""
    if noise == 0:
        return score
    return min(10.0, max(1.0, round(2 * (score + rng.gauss(0.0, noise))) / 2))


def _words(answer: str) -> list[str]:
    """The first nine runs of letters, in lower case."""
    return [found.group().lower() for found in islice(re.finditer(r"[^\W\d_]+", answer), WORDS)]


def _dressed(instruction: str, rating: str, rng: Random) -> list[Message]:
    """An instruction as base text has it: with its rating before or behind, or with or without a neutral sentence."""
    first, both = rng.random() < 0.5, rng.random() < 0.5
    if rating and not first:
        return [user(f"{instruction} {rating}")]
    if not first:
        return [user(instruction)]
    neutral = rng.choice(NEUTRAL) if both or not rating else ""
    return [system(f"{neutral} {rating}".strip()), user(instruction)]


def _row(prompt: Conversation, words: Sequence[str], level: int, score: float) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id(prompt),
        "response": [assistant(" ".join(words))],
        "model": f"skill-{level}",
        "score_gold": score,
    }


def _prompts(prompts: Sequence[Conversation]) -> pl.DataFrame:
    return pl.DataFrame({"prompt_id": [prompt_id(prompt) for prompt in prompts], "prompt": prompts})


def _step(name: str, settings: dict[str, Any], rows: int) -> Step:
    return Step(name="world", settings={"kind": name, **settings}, rows_in=rows, rows_out=rows)
