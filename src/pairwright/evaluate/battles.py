"""Files of Arena-Hard-Auto: judgments of two games for each prompt, and answers with what is counted of their style."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from pairwright.errors import InputError
from pairwright.evaluate.judgments import Count, listed, rows_of, verdict
from pairwright.evaluate.style import FEATURES, Floats, markdown
from pairwright.stats import Interval

WHAT = "evaluate arena"
NO_CATEGORY = "all"
"""The category of judgments that name none, as those of the first version do."""


class Outcome(NamedTuple):
    """What a verdict gives the answer in place A."""

    share: float
    """1 where A wins, 0 where B does, 1/2 for a tie."""
    strong: bool = False
    """Whether it counts several times."""


VERDICTS: dict[str, Outcome] = {
    "A>>B": Outcome(1.0, True),
    "A>B": Outcome(1.0),
    "A=B": Outcome(0.5),
    "B=A": Outcome(0.5),
    "B>A": Outcome(0.0),
    "B>>A": Outcome(0.0, True),
    "A<B": Outcome(0.0),
    "A<<B": Outcome(0.0, True),
    "B<A": Outcome(1.0),
    "B<<A": Outcome(1.0, True),
}
"""Every verdict that counts; anything else is a game that could not be read."""


class Judgment(NamedTuple):
    """Two games of a model and the opponent at one prompt."""

    category: str
    prompt: str
    model: str
    opponent: str | None
    judge: str
    games: tuple[Outcome | None, Outcome | None]
    """What the answer in place A got: the opponent's in the first game, the model's in the second."""


class Category(NamedTuple):
    """The readable judgments of one category as columns; a row is one prompt of one model by one judge."""

    name: str
    opponent: str | None
    models: list[str]
    model: NDArray[np.intp]
    """Number of the model, `[rows]`."""
    prompts: list[str]
    wins: Floats
    """Battles that the model won, ties as half, `[rows]`."""
    battles: Floats
    """`[rows]`; a strong verdict is several."""
    outcomes: list[tuple[float, ...]]
    """Of each battle, `[rows]`."""
    failed: Counter[str]
    """Prompts of each model of which a game could not be read."""
    agreeing: Counter[str]
    """Prompts of each model in which both games have the same winner, or both a tie."""

    def of_models(self, found: Sequence[Interval]) -> dict[str, Interval]:
        """One estimate for each model by its name; the cases are the prompts at which that model was read.

        Of a single prompt there is no interval: it is in every draw that has the model at all.
        """
        read = set(zip(self.model.tolist(), self.prompts, strict=True))
        judged = Counter(model for model, _ in read)
        return {
            model: Interval(each.value, *((each.low, each.high) if judged[at] > 1 else (np.nan, np.nan)), judged[at])
            for at, (model, each) in enumerate(zip(self.models, found, strict=True))
        }


class _Game(BaseModel):
    model_config = ConfigDict(extra="ignore")

    score: str | None = None
    judgment: str | dict[str, Any] | None = None

    def text(self) -> str | None:
        """What the judge wrote, if it is there."""
        found = self.judgment.get("answer") if isinstance(self.judgment, dict) else self.judgment
        return found if isinstance(found, str) else None

    def label(self) -> str | None:
        """The verdict that was recorded; that of the text where nothing was recorded."""
        if "score" in self.model_fields_set:
            return self.score
        text = self.text()
        return None if text is None else verdict(text)


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, protected_namespaces=())

    prompt: str = Field(validation_alias=AliasChoices("uid", "question_id"))
    model: str
    games: tuple[_Game | None, _Game | None]
    category: str | None = None
    opponent: str | None = Field(default=None, validation_alias="baseline")
    judge: str = ""


def _words(content: Any) -> Any:
    """The text of an answer: as it is, under `answer`, or in parts."""
    if isinstance(content, dict):
        return content.get("answer")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            raise ValueError("a part of the answer is no text")
        return "".join(texts)
    return content


def _counted(metadata: Any) -> Any:
    """What is counted of an answer, without what else stands beside it."""
    known = ("token_len", *_METADATA.values())
    return {name: metadata[name] for name in known if name in metadata} if isinstance(metadata, dict) else metadata


def _of_text(turn: Any) -> Any:
    return {"content": turn} if isinstance(turn, str) else turn


class _Said(BaseModel):
    """A message, or a turn of a choice, of which a file may have the text alone."""

    model_config = ConfigDict(extra="ignore")

    content: Annotated[str | None, BeforeValidator(_words)] = None
    token_len: Count | None = None


class _Choice(BaseModel):
    model_config = ConfigDict(extra="ignore")

    turns: list[Annotated[_Said, BeforeValidator(_of_text)]] = []


_METADATA = {"headers": "header_count", "lists": "list_count", "bolds": "bold_count"}


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, protected_namespaces=())

    prompt: str = Field(validation_alias=AliasChoices("uid", "question_id"))
    model: str = Field(validation_alias=AliasChoices("model", "model_id"))
    metadata: Annotated[dict[str, Count | dict[str, Count]] | None, BeforeValidator(_counted)] = None
    messages: list[_Said] = []
    choices: list[_Choice] = []

    def turn(self) -> tuple[str | None, float | None]:
        """The last answer's text, and its tokens where the file has them, in either layout of the files."""
        if self.messages:
            return self.messages[-1].content, None
        turns = self.choices[0].turns if self.choices else []
        return (turns[-1].content, turns[-1].token_len) if turns else (None, None)


class Style(NamedTuple):
    """Of one answer."""

    tokens: float | None
    characters: float | None
    counts: tuple[float, ...]


def judgments_of(paths: Sequence[Path]) -> tuple[list[Judgment], list[str]]:
    """The judgments of some files, and notes. Of two of the same judge, model and prompt the later one counts.

    Raises:
        InputError: a row is no judgment of two games, or only some rows have a category.
    """
    found: dict[tuple[str, str, str, str, str | None], Judgment] = {}
    rows, counts = 0, Counter[str]()
    bare: list[str] = []
    for place, row in rows_of(paths, _Row, what=WHAT):
        rows += 1
        labels = [None if game is None else game.label() for game in row.games]
        counts["unknown"] += sum(label is not None and label not in VERDICTS for label in labels)
        for game, label in zip(row.games, labels, strict=True):
            text = None if game is None else game.text()
            counts["other"] += text is not None and verdict(text) != label
        if row.category is None:
            bare.append(place)
        one, two = (VERDICTS.get(label) if label else None for label in labels)
        category = row.category or NO_CATEGORY
        found[(row.judge, category, row.prompt, row.model, row.opponent)] = Judgment(
            category, row.prompt, row.model, row.opponent, row.judge, (one, two)
        )
    if bare and len(bare) < rows:
        raise InputError(f"{WHAT}: {bare[0]} has no category and others have one; give the files of one version")
    notes = [f"{rows - len(found):,} judgments stand there again later; the later one counts."] * (len(found) < rows)
    if counts["unknown"]:
        notes.append(f"{counts['unknown']:,} games have a verdict that is none of the five; they count as not read.")
    if counts["other"]:
        notes.append(
            f"{counts['other']:,} games were recorded with another verdict than their text has by the rule of the "
            "second version (the last one counts); what was recorded is used."
        )
    return list(found.values()), notes


def styles_of(paths: Sequence[Path]) -> dict[tuple[str, str], Style]:
    """Length and markdown of the answers in some files, by model and prompt.

    The counts of `metadata` are taken where they are there, as the benchmark wrote them; else they are counted in the
    text.

    Raises:
        InputError: an answer has neither text nor counts.
    """
    found = {}
    for place, row in rows_of(paths, _Answer, what=WHAT):
        text, tokens = row.turn()
        known = row.metadata or {}
        if "token_len" in known:
            tokens = _total(known["token_len"])
        if text is None and not set(_METADATA.values()) <= known.keys():
            raise InputError(f"{WHAT}: {place} has no text and no counts of its style; give the file with the answers")
        counted = markdown(text) if text is not None else {}
        counts = tuple(
            _total(known[theirs]) if theirs in known else float(counted[name]) for name, theirs in _METADATA.items()
        )
        characters = None if text is None else float(len(text))
        found[(row.model, row.prompt)] = Style(None if tokens is None else float(tokens), characters, counts)
    return found


def columns(styles: Mapping[tuple[str, str], Style], keys: Iterable[tuple[str, str]]) -> tuple[Floats, str]:
    """Length and counts of some answers, `[rows, 4]`, and the unit of the lengths.

    Tokens where every answer has them, else characters of all: both sides of a difference need one unit.

    Raises:
        InputError: there is no such answer, or neither unit is known of all.
    """
    wanted = list(keys)
    if missing := [key for key in wanted if key not in styles]:
        model, prompt = missing[0]
        raise InputError(
            f"{WHAT}: the answers have none of {model} to prompt {prompt} (nor to {len(set(missing)) - 1:,} others); "
            "give with --answers the files of all models and of the opponent"
        )
    rows = [styles[key] for key in wanted]
    units = {"tokens": [row.tokens for row in rows], "characters": [row.characters for row in rows]}
    unit = next((name for name, lengths in units.items() if None not in lengths), None)
    if unit is None:
        bad = [key[0] for key, row in zip(wanted, rows, strict=True) if row.tokens is None or row.characters is None]
        raise InputError(f"{WHAT}: some answers ({listed(bad)}) have tokens only and others text only; add the text")
    lengths = np.array(units[unit], dtype=np.float64)
    table = np.column_stack([lengths, np.array([row.counts for row in rows], dtype=np.float64)])
    assert table.shape[1] == len(FEATURES)
    return table, unit


def _total(counts: float | Mapping[str, float]) -> float:
    return float(sum(counts.values())) if isinstance(counts, Mapping) else float(counts)
