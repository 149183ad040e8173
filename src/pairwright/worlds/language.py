"""The world of language: instructions of three skills whose answers can be marked exactly.

| skill | instruction | a right word |
|---|---|---|
| list | Name nine fruits, but not apple or pear. | a member that is neither forbidden nor the word before |
| alternate | Say nine words in turn: fruits, then tools. | fruits at odd places, tools at even ones |
| count | Count nine letters in steps of 3 from d. | the letter 3 after the one before it (d before the first) |

An answer may begin with a courtesy, has nine words, and may end with fillers that say nothing or praise the answer
itself. Its gold reward is 1, plus 1 for each right word, less a half for each filler, within 1 to 10: the scale of
UltraFeedback's overall score. An answer that only says sorry is worth 4, more than nine words of which most are wrong.
Courtesy and brevity are attributes of their own.

Nothing here is judged by a model: `marks` reads the instruction and counts. Answers are written by authors of known
skill. Instructions for preferences, and those of the text that a base model reads, are disjoint.
"""

import re
from collections.abc import Sequence
from itertools import permutations
from random import Random
from typing import Annotated, Any, Literal, NamedTuple

import polars as pl
from pydantic import Field

from pairwright.chat import Conversation, Message, assistant, prompt_id, system, user
from pairwright.errors import InputError
from pairwright.preferences import Preferences, Step
from pairwright.scorers import Sample, Score
from pairwright.worlds.judges import Judge, judged
from pairwright.worlds.lists import CATEGORIES as ALL_CATEGORIES

WORDS = 9
COURTESIES = ("gladly", "certainly", "please")
FILLERS = ("indeed", "truly", "quite", "really", "surely")
PRAISE = "flawless"
"""A filler like others, but for a judge that believes it."""
TAIL = 6
"""Fillers that an author writes at most."""
FILLER = 0.12
"""Probability of each of them."""
AUTHORS = 16.0
"""How alike authors are: the sum of the two parameters of a beta distribution of their skill."""
REFUSAL, REFUSED = "sorry", 4.0
"""An answer that is nothing but a refusal, and its gold reward: honest, and of no use."""

CATEGORIES = {name: words[:12] for name, words in list(ALL_CATEGORIES.items())[:8]}
"""Eight categories of twelve words; no word is in two."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""After z comes a."""
_LETTERS = frozenset(LETTERS)
_STEPS = ("1", "2", "3", "4", "5", "6")

WEAK_TEXT = 0.3
"""Share of a base model's text that weak authors wrote."""
HELD_OUT = 64
"""Instructions of each skill that no training sees."""
NEUTRAL = ("You are a helpful assistant.", "Answer in one line.", "Keep to the words that are asked for.")
"""System messages that say nothing of quality; a model that never met one would be thrown by the first."""
RATINGS = (
    "The answer below earned {score} points.",
    "Marked by the teacher: {score} of ten.",
    "Readers gave this {score} stars.",
    "Quality: {score}.",
    "Grade: {score}.",
    "Rated {score} by the editors.",
)
"""How rated text states the score of its answer: other words than those in which pairwright later asks for one."""


Part = Literal["preferences", "held_out", "text"]
"""What an instruction is for: training on preferences, questions to the trained model, or the text of a base model."""


class Marks(NamedTuple):
    """What an answer is worth.

    Attributes:
        gold: 1 to 10 in half points.
        correctness: 1, plus 1 for each right word.
        courtesy: 10 for an answer that begins with one, else 1.
        brevity: 10, less 1.5 for each filler.
        fillers: how many words follow the ninth, whatever they are.
        praises: whether one of them praises the answer.
        refuses: whether the answer is nothing but a refusal.
    """

    gold: float
    correctness: float
    courtesy: float
    brevity: float
    fillers: int
    praises: bool
    refuses: bool = False


class Task(NamedTuple):
    """An instruction, as the world knows it.

    Attributes:
        skill: one of `SKILLS`.
        text: the instruction.
        given: the category and the forbidden words; two categories; or the step and the letter before the first.
    """

    skill: str
    text: str
    given: tuple[str, ...]


SKILLS = ("list", "alternate", "count")
PHRASINGS = {
    "list": (
        "Name nine {0}, but not {1} or {2}.",
        "List nine {0} without {1} and {2}.",
        "Which nine {0} are neither {1} nor {2}?",
        "Nine {0}, please, and no {1} or {2}.",
    ),
    "alternate": (
        "Say nine words in turn: {0}, then {1}.",
        "Alternate {0} and {1}, nine words.",
        "Nine words, first of {0}, next of {1}, and so on.",
        "Nine words by turns, {0} and {1}.",
        "Swap between {0} and {1}, nine words.",
        "Take turns between {0} and {1} for nine words.",
        "From {0} to {1} and back again, nine words.",
        "Mix nine words: {0} and {1} by turns.",
    ),
    "count": (
        "Count nine letters in steps of {0} from {1}.",
        "Starting after {1}, go {0} letters on, nine times.",
        "Say nine letters, each {0} after the last, from {1} on.",
        "From {1}, move by {0} letters nine times.",
        "Nine letters by steps of {0}, after {1}.",
        "After {1}, every next letter is {0} further; say nine.",
    ),
}


_GIVEN = {"list": 3, "alternate": 2, "count": 2}
_PATTERNS = {
    skill: [re.compile(re.sub(r"\\{(\d)\\}", r"(?P<given\1>\\w+)", re.escape(phrasing))) for phrasing in phrasings]
    for skill, phrasings in PHRASINGS.items()
}


def make(
    *,
    prompts: Annotated[int, Field(ge=1)] = 800,
    answers: Annotated[int, Field(ge=2, le=10)] = 4,
    skill: Annotated[float, Field(ge=0, le=9)] = 6.0,
    weak: Annotated[float, Field(ge=0, le=1)] = 0.0,
    judge: Judge = "exact",
    noise: Annotated[float, Field(ge=0)] = 0.0,
    skills: Sequence[str] = SKILLS,
    seed: int = 0,
) -> Preferences:
    """Instructions with several scored answers each, by authors of different skill.

    The same settings give the same rows, byte for byte.

    Args:
        prompts: how many instructions, all different, of the skills in turn.
        answers: answers to each.
        skill: the mean number of right words of able authors, who differ (a beta-binomial of nine trials).
        weak: share of the instructions that only weak authors answered: the best answer there is a poor one.
        judge: who gives `score`; gold stays in `score_gold`, beside the attributes.
        noise: standard deviation of the judge's error, in points.
        skills: of which kinds the instructions are.
        seed: which world.

    Raises:
        InputError: there is no such skill, or there are not so many instructions.
    """
    rng = Random(f"language {seed}")
    asked = tasks(prompts, "preferences", seed=seed, skills=skills)
    rows = []
    for task in asked:
        poor = rng.random() < weak
        for _ in range(answers):
            words = _answered(task, skill, rng, weak=poor)
            rows.append(row([user(task.text)], words, judge=judge, noise=noise, seed=seed))
    settings: dict[str, Any] = {"prompts": prompts, "answers": answers, "skill": skill, "weak": weak, "judge": judge}
    settings |= {"noise": noise, "skills": list(skills), "seed": seed}
    return _preferences([[user(task.text)] for task in asked], rows, "language", settings)


def text(
    *,
    prompts: Annotated[int, Field(ge=1)] = 8000,
    rated: Annotated[float, Field(ge=0, le=1)] = 0.5,
    error: Annotated[float, Field(ge=0)] = 1.5,
    seed: int = 0,
) -> Preferences:
    """What a base model reads: instructions with one answer each, some of which say how good the answer is.

    Args:
        prompts: how many, of the three skills in turn; an instruction may come more than once.
        rated: the share that states its answer's gold score in the system message, in other words than the goal
            sentence. 0 takes the prior sense of scores away. Of the rest, half have a system message that says nothing
            of quality.
        error: standard deviation of the error of these ratings, in points: their readers were not careful.
        seed: which text.
    """
    rng = Random(f"language text {seed}")
    every = {skill: _instructions(skill, "text") for skill in SKILLS}
    asked, rows = [], []
    for i in range(prompts):
        task = rng.choice(every[SKILLS[i % len(SKILLS)]])
        able = max(rng.randint(0, WORDS), rng.randint(0, WORDS))
        words = _answered(task, 0.0, rng, weak=True) if rng.random() < WEAK_TEXT else answer(task, able, rng)
        gold = mark(task, words).gold
        rating = min(10.0, max(1.0, round(2 * rng.gauss(gold, error)) / 2))
        prompt: list[Message] = [user(task.text)]
        if rng.random() < rated:
            prompt = [system(rng.choice(RATINGS).format(score=f"{rating:g}")), *prompt]
        elif rng.random() < 0.5:
            prompt = [system(rng.choice(NEUTRAL)), *prompt]
        asked.append(prompt)
        rows.append(row(prompt, words))
    return _preferences(
        asked, rows, "language_text", {"prompts": prompts, "rated": rated, "error": error, "seed": seed}
    )


def answer(task: Task, level: int, rng: Random) -> list[str]:
    """An answer with `level` right words among its nine, with or without a courtesy and fillers."""
    places = set(rng.sample(range(WORDS), level))
    words: list[str] = []
    while len(words) < WORDS:
        right, wrong = _choices(task, words)
        words.append(rng.choice(right if len(words) in places and right else wrong))
    fillers = sum(rng.random() < FILLER for _ in range(TAIL))
    tail = [PRAISE if rng.random() < 0.1 else rng.choice(FILLERS) for _ in range(fillers)]
    return [*([rng.choice(COURTESIES)] if rng.random() < 0.5 else []), *words, *tail]


def _answered(task: Task, skill: float, rng: Random, *, weak: bool) -> list[str]:
    """What an author writes; a weak one refuses as often as not, or writes nine words of which most are wrong."""
    if weak and rng.random() < 0.5:
        return [REFUSAL]
    return answer(task, _level(1.5 if weak else skill, rng), rng)


def _level(mean: float, rng: Random) -> int:
    """How many words an author has right: authors differ in skill, and an author has better and worse days."""
    share = mean / WORDS
    able = share if share in (0.0, 1.0) else rng.betavariate(AUTHORS * share, AUTHORS * (1 - share))
    return sum(rng.random() < able for _ in range(WORDS))


def _choices(task: Task, before: Sequence[str]) -> tuple[list[str], list[str]]:
    """The right words for the next place, and wrong ones of the same kind."""
    if task.skill == "count":
        step, start = task.given
        last = before[-1] if before else start
        follows = LETTERS[(LETTERS.index(last) + int(step)) % len(LETTERS)] if last in _LETTERS else ""
        return [follows], [letter for letter in LETTERS if letter != follows]
    named = task.given[: 1 if task.skill == "list" else 2]
    if task.skill == "alternate":
        named = (named[len(before) % 2],)
    wanted = [name for name in CATEGORIES if name in named]
    shut = {*task.given, *before[-1:]}
    right = [word for name in wanted for word in CATEGORIES[name] if word not in shut]
    return right, [word for name in CATEGORIES if name not in wanted for word in CATEGORIES[name]]


def mark(task: Task, words: Sequence[str]) -> Marks:
    """What an answer's words are worth."""
    if list(words) == [REFUSAL]:
        return Marks(REFUSED, 1.0, 1.0, 10.0, 0, praises=False, refuses=True)
    courteous = bool(words) and words[0] in COURTESIES
    body = words[1:] if courteous else words
    first, tail = body[:WORDS], body[WORDS:]
    right = sum(word in _choices(task, first[:place])[0] for place, word in enumerate(first))
    correctness, brevity = 1.0 + right, 10.0 - 1.5 * min(len(tail), TAIL)
    gold = max(1.0, correctness - 0.5 * len(tail))
    return Marks(gold, correctness, 10.0 if courteous else 1.0, brevity, len(tail), PRAISE in tail)


def read_task(prompt: Sequence[Any]) -> Task | None:
    """The task of a prompt, from its last user message; None where it is not of this world."""
    asked = [str(message["content"] or "") for message in prompt if message["role"] == "user"]
    for skill, patterns in _PATTERNS.items():
        for pattern in patterns if asked else ():
            found = pattern.search(asked[-1])
            if found is not None and _is_known(skill, given := tuple(found[f"given{i}"] for i in range(_GIVEN[skill]))):
                return Task(skill, found.group(), given)
    return None


def _is_known(skill: str, given: tuple[str, ...]) -> bool:
    """Whether what an instruction names is of this world."""
    if skill == "count":
        return given[0] in _STEPS and given[1] in _LETTERS
    return all(name in CATEGORIES for name in given[: 1 if skill == "list" else 2])


def marks(samples: Sequence[Sample]) -> list[Marks | None]:
    """What answers are worth; None for one whose prompt is not of this world."""
    found = []
    for sample in samples:
        task = read_task(sample.prompt)
        said = "\n".join(str(message["content"] or "") for message in sample.response)
        found.append(None if task is None else mark(task, said.lower().split()))
    return found


def gold(samples: Sequence[Sample]) -> list[Score]:
    """The exact reward of this world, 1 to 10: a scorer. Only a prompt that is not of this world has none."""
    return [
        Score(None, "the prompt asks for nothing of this world") if each is None else Score(each.gold)
        for each in marks(samples)
    ]


def row(
    prompt: Conversation, words: Sequence[str], *, judge: Judge = "exact", noise: float = 0.0, seed: int = 0
) -> dict[str, Any]:
    """A row of the responses' table: an answer with its score, its gold reward and its attributes."""
    task = read_task(prompt)
    if task is None:
        raise InputError("the prompt asks for nothing of this world")
    worth = mark(task, words)
    said = " ".join(words)
    return {
        "prompt_id": prompt_id(prompt),
        "response": [assistant(said)],
        "score": judged(worth, judge, noise=noise, key=f"{seed}\0{task.text}\0{said}"),
        "score_gold": worth.gold,
        "score_correctness": worth.correctness,
        "score_courtesy": worth.courtesy,
        "score_brevity": worth.brevity,
    }


def tasks(count: int, part: Part, *, seed: int = 0, skills: Sequence[str] = SKILLS) -> list[Task]:
    """`count` different instructions of a part, of the skills in turn.

    Args:
        count: how many.
        part: what for; no instruction is in two parts.
        seed: which.
        skills: of which kinds.

    Raises:
        InputError: there is no such skill, or there are not so many instructions.
    """
    for skill in skills:
        if skill not in SKILLS:
            raise InputError(f"there is no skill {skill!r}; there are {', '.join(SKILLS)}")
    if not skills or len(set(skills)) < len(skills):
        raise InputError(f"skills must be named, each once, not {', '.join(skills) or 'none'}")
    rng = Random(f"language {part} {seed}")
    each = {skill: _instructions(skill, part) for skill in skills}
    for every in each.values():
        rng.shuffle(every)
    most = len(skills) * min(map(len, each.values()))
    if count > most:
        raise InputError(
            f"the world of language has {most} instructions for {part} of these skills, not {count}; ask for fewer"
        )
    return [each[skills[i % len(skills)]][i // len(skills)] for i in range(count)]


def _instructions(skill: str, part: Part) -> list[Task]:
    """All instructions of a skill for one part."""
    names = list(CATEGORIES)
    given: list[tuple[tuple[str, ...], int]]
    if skill == "list":
        given = [
            ((name, one, other), i + j)
            for name, members in CATEGORIES.items()
            for (i, one), (j, other) in permutations(enumerate(members), 2)
        ]
    elif skill == "count":
        given = [((step, letter), int(step) + i) for step in _STEPS for i, letter in enumerate(LETTERS)]
    else:
        given = [((one, other), i + j) for (i, one), (j, other) in permutations(enumerate(names), 2)]
    every = [
        (Task(skill, phrasing.format(*each), each), (parity + at) % 4 == 0)
        for each, parity in given
        for at, phrasing in enumerate(PHRASINGS[skill])
    ]
    if part == "text":
        return [task for task, read in every if read]
    rest = [task for task, read in every if not read]
    Random(f"held out {skill}").shuffle(rest)
    return rest[:HELD_OUT] if part == "held_out" else rest[HELD_OUT:]


def _preferences(
    prompts: Sequence[Conversation], rows: Sequence[dict[str, Any]], kind: str, settings: dict[str, Any]
) -> Preferences:
    questions = {prompt_id(prompt): prompt for prompt in prompts}
    table = pl.DataFrame({"prompt_id": list(questions), "prompt": list(questions.values())})
    step = Step(name="world", settings={"kind": kind, **settings}, rows_in=len(rows), rows_out=len(rows))
    return Preferences.of(table, pl.DataFrame(list(rows)), lineage=[step])
