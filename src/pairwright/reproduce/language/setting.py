"""What a training of the language world is: the world, the arm, and the numbers that were tuned for it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pairwright.worlds.judges import Judge

Goal = float | tuple[float, ...]
TEMPLATE = "{scores}"
"""The goal sentence: `Overall score: 8.` Two tokens in three of a prompt would be the long one's."""
TOP = 10.0
BATCH = 32
MAX_LENGTH, MAX_PROMPT = 96, 72


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model.

    Attributes:
        rated: the share of its text that states the score of an answer: its prior sense of scores.
        error: of those scores, as a standard deviation in points.
        width: of the hidden states.
        layers: how many.
        seed: of weights and text.
    """

    rated: float = 0.6
    error: float = 1.5
    width: int = 64
    layers: int = 2
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class World:
    """Where the pairs come from. Shaped like UltraFeedback: chosen answers near 8, gaps near 2, ties, 1 to 10.

    Attributes:
        base: the model that is trained, the reference of every loss that has one.
        prompts: instructions with four scored answers each.
        skill: mean number of right words of able authors.
        weak: share of the instructions that only weak authors answered, so that the best answer is a poor one.
        judge: who gives the scores.
        noise: standard deviation of the judge's further error, in points.
        rule: of the pairs.
        steps: of every training; plain and relabelled ones have equally many.
    """

    base: Base = field(default_factory=Base)
    prompts: int = 720
    skill: float = 7.0
    weak: float = 0.35
    judge: Judge = "exact"
    noise: float = 0.0
    rule: str = "best_random"
    steps: int = 90


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way of training.

    Attributes:
        name: as tables show it.
        loss: of `pairwright list losses`.
        settings: of the loss, those that are not tuned.
        strength: the setting that is tuned, such as `beta`; empty for a loss that has none.
        strengths: the values that are tried, two; the first alone in a quick run.
        data: `module:function` that makes the data of the arm: it takes `Preferences` with pairs and a `Given`, and
            gives `Preferences`.
        data_settings: what the function is told.
        examples: what an example is.
        score: whether the loss reads scores.
        goal: what the trained model is asked for; None asks for nothing.
        anchor: regularise by the better answer under the goal that is asked for (the paper's algorithm 1), and not by
            the chosen answer under the row's own goal.
    """

    name: str
    loss: str = "dpo"
    settings: tuple[tuple[str, Any], ...] = ()
    strength: str = "beta"
    strengths: tuple[float, ...] = (0.1, 1.0)
    data: str = "pairwright.reproduce.language.data:as_paired"
    data_settings: tuple[tuple[str, Any], ...] = ()
    examples: Literal["pairs", "responses", "groups"] = "pairs"
    score: bool = False
    goal: Goal | None = None
    anchor: bool = False


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The numbers that every arm is tuned in.

    Attributes:
        rate: largest learning rate, of a cosine with a tenth of the steps as warm-up.
        strength: of the arm's own setting, beta for most.
        sft: weight of the likelihood term: of the chosen answer, per token; with an anchor of the better answer under
            the goal asked for, summed (eta * beta of the paper).
        smoothing: share of labels believed to be wrong, for a loss that can be told.
    """

    rate: float
    strength: float
    sft: float = 0.0
    smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training, and what is asked of its model.

    Attributes:
        world: where.
        arm: how; None asks the base as it is.
        tuned: with which numbers; None for the base.
        seed: of data, order and answers.
        part: which held-out instructions.
        goals: what is asked for, each in turn; None asks for nothing.
        measures: `module:function` of what else is measured, of the job, the policy, the base and the tokenizer.
        prompts: how many held-out instructions of the part.
    """

    world: World
    arm: Arm | None
    tuned: Tuned | None
    seed: int
    part: Literal["validation", "test"] = "test"
    goals: tuple[Goal | None, ...] = (None,)
    measures: tuple[str, ...] = ()
    prompts: int = 120


@dataclass(frozen=True, kw_only=True)
class Call:
    """Any other piece of work that is done in a process of its own, on one core, and kept.

    Attributes:
        function: `module:function`; it takes the settings as keywords and gives a JSON object, with `seconds`.
        settings: by name; frozen values whose `repr` tells them apart.
        bases: base models that it opens.
    """

    function: str
    settings: tuple[tuple[str, Any], ...] = ()
    bases: tuple[Base, ...] = ()
