"""What a page shows of a run, as plain records; the JSON file beside the page is made of the same ones."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pairwright.charts import Number
from pairwright.diagnose.finding import Diagnosis
from pairwright.preferences import Step


class Bins(BaseModel):
    """How often each value is there, or how often one in each range."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    labels: list[str]
    """A value such as `7`, or a range such as `0 to 20` (its upper end belongs to the next but for the last)."""
    counts: dict[str, list[int]]
    """By the name of what is counted, one number for each label."""


class Pairs(BaseModel):
    """The pairs of one step's data, counted."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    pairs: int
    splits: dict[str, int]
    """Pairs by split."""
    ties: int
    """Pairs whose gap is 0."""
    against: int
    """Pairs whose gap is below 0: the label is against the score."""
    unscored: int
    """Pairs without a gap."""
    gaps: Bins | None = None
    """Pairs by gap, in score units; None where none is known."""
    lengths: Bins | None = None
    """Pairs by the length of each side, in characters."""


class Selection(BaseModel):
    """What one `select` step did."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    metric: str
    cut: str
    settings: dict[str, Any] = {}
    """Of metric and cut."""
    rows_in: int | None = None
    rows_out: int | None = None
    least: Number = None
    """Smallest and largest value of the metric among the kept pairs."""
    largest: Number = None
    values: Bins | None = None
    """Kept pairs by the metric."""
    gaps: Bins | None = None
    """Pairs by gap: `before` and `kept`."""
    overlap: dict[str, Any] = {}
    """As `metrics.overlap` says it."""


class Example(BaseModel):
    """One pair as the model reads it."""

    goal: str
    prompt: str
    chosen: str
    rejected: str


class Relabelling(BaseModel):
    """What one `relabel` step did."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    mode: str
    rows_in: int | None = None
    rows_out: int | None = None
    dropped: dict[str, int] = {}
    goals: Bins | None = None
    """Pairs by the goal that they ask for: one count for each kind of copy."""
    template: str = ""
    """The goal sentence."""
    examples: list[Example] = []
    """The copies of the first pair, goal in place."""


class Probed(BaseModel):
    """Means over the same held-out pairs, at every probed step of a training."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    pairs: int
    top: int
    """Most likely tokens that entropy and mass are of."""
    steps: list[int]
    means: dict[str, list[Number]]
    """By the name of the mean, one number for each step."""


class StepView(BaseModel):
    """One step of a run, as its `settings.json` and `done.json` tell it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    number: int
    name: str
    verb: str = ""
    done: bool = False
    folder: Path = Field(default=Path(), exclude=True)
    """Where it lies; not in the JSON file, which is the same wherever the run is."""
    settings: dict[str, Any] = {}
    take: str | None = None
    """The step whose data it took."""
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    versions: dict[str, str] = {}
    seconds: float | None = None
    metrics: list[dict[str, Any]] = []
    """Logged rows of a training, from its `metrics.jsonl`."""
    result: dict[str, Any] | None = None
    """An evaluation's `result.json`."""
    audit: dict[str, Any] | None = None
    lineage: list[Step] = []
    """Of its data, from the first file on."""
    scores: dict[str, int] = {}
    """Answers by score, of its data; `unscored` for those without."""
    pairs: Pairs | None = None
    selection: Selection | None = None
    relabelling: Relabelling | None = None
    probed: Probed | None = None
    unread: list[str] = []
    """Its files that could not be read."""


class Answer(BaseModel):
    """One generated answer."""

    column: str
    goal: float | None
    text: str
    score: float | None


class SamplePrompt(BaseModel):
    """A held-out prompt and what the models answered."""

    prompt: str
    answers: list[Answer]


class Lack(BaseModel):
    """A part of the page that a run does not have."""

    part: str
    says: str
    remedy: str
    """The step or command that makes it."""


class RunView(BaseModel):
    """Everything that a page shows of a run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    steps: list[StepView]
    is_training: bool = False
    """Whether it is one training by itself, and no run of a recipe."""
    folder: Path = Field(default=Path(), exclude=True)
    columns: list[str] = []
    """Steps that generated answers, in order."""
    samples: list[SamplePrompt] = []
    prompts_with_answers: int = 0
    diagnosis: Diagnosis | None = None
    """Of `diagnosis.json`, in the run or in the last step that wrote one, whichever is newer."""
    diagnosis_file: str = ""
    """Where it lies in the run."""
    recipe: str = ""
    """Of the run, as written."""
    unread: list[str] = []
    """Files of the run itself that could not be read."""

    def of(self, part: str) -> list[StepView]:
        """The steps that have a part: `metrics`, `result`, `audit`, `lineage`, `scores`, `pairs`, ..."""
        return [step for step in self.steps if getattr(step, part)]
