"""One way to say a goal, for training and for inference.

A goal is the score that a model is asked for. In the tables it is kept in the units of the scores, so that every gap
knows it; `GoalFormat` turns it into the number and the sentence that the model reads. The same object is stored in a
data set's manifest and in a trained model's `generation_goal.json`, and `place` is the only function that puts a goal
into a prompt: what a model is asked at inference is byte for byte what it was trained on.

Source of the sentence: arXiv 2410.08067, appendix B.1 (the paper's wording; its code says "scores").
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pairwright.chat import Conversation, Message
from pairwright.errors import InputError

Placement = Literal["system", "user", "auto"]
Goal = float | Sequence[float]

TEMPLATE = (
    "You are an assistant that generates responses for the instruction while implicitly achieving the following "
    "target score (on a scale of 1-{scale}, where 1 is lowest and {scale} is highest):\n{scores}"
)
"""`{scale}` is the top of the scale, `{scores}` one line for each goal: `Overall score: 8.`"""


class GoalFormat(BaseModel):
    """How a goal in score units becomes the sentence that a model reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    template: str = TEMPLATE
    """The sentence, with the fields `{scale}` and `{scores}`, or in place of `{scores}` one for each attribute, such as
    `{helpfulness}`, where its bare number goes."""
    placement: Placement = "user"
    """Where it goes: a system message, the head of the first user message, or what the chat template supports."""
    scale: Annotated[int, Field(ge=2)] = 10
    """The number printed runs from `lowest` to this."""
    lowest: int = 1
    """The smallest number printed; the usual sentence says that it is 1."""
    ranges: tuple[tuple[float, float], ...] = ((1.0, 10.0),)
    """Scores that are printed as `lowest` and as `scale`; one range, or one for each attribute."""
    decimals: Annotated[int, Field(ge=0, le=6)] = 1
    """Decimals of the printed number; whole numbers are printed without any."""
    attributes: tuple[str, ...] = ()
    """Names of the score columns that a vector goal speaks of, in its order; empty for one overall score."""
    asks: Literal["scores", "class", "direction"] = "scores"
    """What the numbers are: scores to attain, the class of an answer, or weights of the scores. Only answers that were
    asked for scores have a gap."""
    angles: tuple[float, float] | None = None
    """Of directions between two scores: the least and the largest angle of training, in degrees; None: not known."""

    @model_validator(mode="after")
    def _consistent(self) -> "GoalFormat":
        named = [f"{{{name}}}" for name in self.attributes]
        if "{scores}" not in self.template and not (named and all(field in self.template for field in named)):
            also = f" (or each of {', '.join(named)})" if named else ""
            raise ValueError(f"the goal template must contain {{scores}}, where the number goes{also}")
        if not self.lowest < self.scale:
            raise ValueError(f"the numbers printed must rise from lowest to scale, not {self.lowest} to {self.scale}")
        if self.angles is not None and (self.asks != "direction" or len(self.attributes) != 2):
            raise ValueError("angles are of directions between two scores")
        if len(self.ranges) != max(1, len(self.attributes)):
            raise ValueError(f"{len(self.ranges)} score ranges for {max(1, len(self.attributes))} goals")
        for low, high in self.ranges:
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"a score range must rise from its first number to its second, not {low} to {high}")
        return self

    @property
    def best(self) -> float | list[float]:
        """The top goal, in score units; of directions the one along the first attribute."""
        if self.asks == "direction":
            return [1.0] + [0.0] * (len(self.attributes) - 1)
        tops = [high for _, high in self.ranges]
        return tops if self.attributes else tops[0]

    def value(self, goal: pl.Expr) -> pl.Expr:
        """The number printed for a goal: score units to lowest..scale, clipped there, rounded to `decimals`.

        A vector goal gives a list of numbers. Null stays null.
        """
        if not self.attributes:
            return self._number(goal, 0)
        return pl.concat_list([self._number(goal.list.get(i), i) for i in range(len(self.attributes))])

    def text(self, goal: pl.Expr) -> pl.Expr:
        """The whole goal sentence; null for a null goal."""
        numbers = [
            _printed(self._number(goal.list.get(i) if self.attributes else goal, i)) for i in range(len(self.ranges))
        ]
        lines = [
            pl.format("{} score: {}.", pl.lit(_title(name)), number)
            for name, number in zip(self.attributes or ("overall",), numbers, strict=True)
        ]
        fields = {f"{{{name}}}": number for name, number in zip(self.attributes, numbers, strict=False)}
        fields["{scores}"] = lines[0]
        for line in lines[1:]:
            fields["{scores}"] = fields["{scores}"] + "\n" + line
        pieces = re.split(f"({'|'.join(map(re.escape, fields))})", self.template.replace("{scale}", str(self.scale)))
        sentence = pl.lit("")
        for piece in pieces:
            sentence = sentence + fields.get(piece, pl.lit(piece))
        return pl.when(goal.is_not_null()).then(sentence)

    def say(self, goal: Goal) -> str:
        """The sentence for one goal in score units, as `canonical` reads it.

        Raises:
            InputError: the goal is not finite, or has another number of parts than there are attributes.
        """
        return str(_goal_frame(self.canonical(goal)).select(self.text(pl.col("goal"))).item())

    def canonical(self, goal: Goal) -> float | list[float]:
        """The one form of a goal: a number where no attributes are named, else a list of one number for each.

        A number is also a list of one, and the other way round. A direction is brought to the length 1 that all
        directions of training have: only the ratio of its weights is asked for.

        Raises:
            InputError: the goal is not finite, has another number of parts than there are attributes, or is a direction
                of length 0.
        """
        parts = [float(part) for part in goal] if isinstance(goal, Sequence) else [float(goal)]
        if len(parts) != len(self.ranges) or not all(map(math.isfinite, parts)):
            wanted = f"one number for each of {', '.join(self.attributes)}" if self.attributes else "one number"
            raise InputError(f"the goal {goal!r} does not fit this model: it takes {wanted}")
        if self.asks == "direction":
            length = math.hypot(*parts)
            if not length:
                raise InputError(f"the goal {goal!r} is no direction: give one of its weights another value than 0")
            if abs(length - 1.0) > 1e-9:  # one of length 1 stays to the last bit
                parts = [part / length for part in parts]
        return parts if self.attributes else parts[0]

    def beyond(self, goal: Goal) -> str | None:
        """A sentence about a goal that no training row could have; None for a goal as in training.

        Raises:
            InputError: as `canonical`.
        """
        asked = self.canonical(goal)
        parts = asked if isinstance(asked, list) else [asked]
        last = self.say(asked).rstrip().rsplit("\n", 1)[-1]
        if self.angles is not None and not _within(math.degrees(math.atan2(parts[1], parts[0])), *self.angles):
            least, largest = self.angles
            return (
                f"The goal {_shown(goal)} lies outside the directions of training ({least:g} to {largest:g} degrees); "
                f"the model reads {last!r}."
            )
        if all(low <= part <= high for part, (low, high) in zip(parts, self.ranges, strict=True)):
            return None
        ranges = ", ".join(f"{low:g} to {high:g}" for low, high in self.ranges)
        return f"The goal {_shown(goal)} lies outside the scores of training ({ranges}); the model reads {last!r}."

    def _number(self, goal: pl.Expr, which: int) -> pl.Expr:
        low, high = self.ranges[which]
        share = ((goal - low) / (high - low)).clip(0.0, 1.0)
        return (self.lowest + share * (self.scale - self.lowest)).round(self.decimals)


def place(prompt: pl.Expr, text: pl.Expr, placement: Literal["system", "user"]) -> pl.Expr:
    """Put a goal sentence into a prompt, row by row; a null text leaves the prompt as it is.

    `system`: before an existing system message's text, else as a new first message. `user`: before the text of the
    first user message, with an empty line between (a prompt without a user message gets one, after its system
    messages).

    Args:
        prompt: a column of messages, `List(Struct(role, content))`.
        text: a String column.
        placement: where.
    """
    head = prompt.list.first().struct
    if placement == "system":
        is_there = (head.field("role") == "system").fill_null(False)
        old = pl.concat_list(_message("system", text + "\n\n" + head.field("content")), prompt.list.slice(1))
        new = pl.concat_list(_message("system", text), prompt)
        placed = pl.when(is_there).then(old).otherwise(new)
    else:
        is_user = prompt.list.eval((pl.element().struct.field("role") == "user").cast(pl.Int8))
        at = is_user.list.arg_max()
        first = prompt.list.get(at, null_on_oob=True).struct
        before, after = prompt.list.slice(0, at), prompt.list.slice(at + 1)
        old = pl.concat_list(before, _message("user", text + "\n\n" + first.field("content")), after)
        is_other = prompt.list.eval((pl.element().struct.field("role") != "system").cast(pl.Int8))
        has_other = is_other.list.max().fill_null(0) == 1
        after_system = pl.when(has_other).then(is_other.list.arg_max()).otherwise(prompt.list.len())
        lead, rest = prompt.list.slice(0, after_system), prompt.list.slice(after_system)
        new = pl.concat_list(lead, _message("user", text), rest)
        placed = pl.when(is_user.list.max().fill_null(0) == 1).then(old).otherwise(new)
    return pl.when(text.is_not_null()).then(placed).otherwise(prompt)


def with_goal(
    conversation: Conversation, goal: Goal | None, form: GoalFormat, placement: Literal["system", "user"]
) -> list[Message]:
    """`place` for one conversation: a new list of messages that asks for `goal` (None: as it is)."""
    if goal is None:
        return [{"role": message["role"], "content": message["content"]} for message in conversation]
    kind = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    row = pl.DataFrame({"prompt": [list(conversation)], "text": [form.say(goal)]}, schema_overrides={"prompt": kind})
    placed: list[Message] = row.select(place(pl.col("prompt"), pl.col("text"), placement)).item().to_list()
    return placed


def _shown(goal: Goal) -> str:
    """A goal as a person writes it: `8`, `[0.8, 0.6]`."""
    return f"[{', '.join(f'{part:g}' for part in goal)}]" if isinstance(goal, Sequence) else f"{goal:g}"


def _within(angle: float, least: float, largest: float) -> bool:
    """Whether an angle lies between two others, in degrees, whichever turn it is counted in; rounding is forgiven."""
    return least - 1e-6 + (angle - least + 1e-6) % 360.0 <= largest + 1e-6


def _goal_frame(goal: float | list[float]) -> pl.DataFrame:
    kind = pl.List(pl.Float64) if isinstance(goal, list) else pl.Float64()
    return pl.DataFrame({"goal": [goal]}, schema={"goal": kind})


def _message(role: str, content: pl.Expr) -> pl.Expr:
    return pl.struct(role=pl.lit(role), content=content)


def _printed(number: pl.Expr) -> pl.Expr:
    whole = number == number.round(0)
    return pl.when(whole).then(number.cast(pl.Int64).cast(pl.String)).otherwise(number.cast(pl.String))


def _title(name: str) -> str:
    words = name.removeprefix("score_").replace("_", " ").replace("-", " ")
    return words[:1].upper() + words[1:]
