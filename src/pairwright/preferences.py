"""`Preferences`: the noun of the library.

Answers are stored once; a pair is a row of numbers that points at two of them. So relabelling and selection copy no
text, an answer is tokenised once, and its log-probability is computed once.

Three frames (Polars, lazy) and a lineage:

- `prompts`: one row for each prompt: `prompt_id`, `prompt`, and what else the source had.
- `responses`: one row for each answer to a prompt: `response_id`, `prompt_id`, `response`, `model`, `score`, any
  `score_<name>`, any `logp_<model>` and `len_<tokenizer>`.
- `pairs`: one row for each comparison: `prompt_id`, `chosen_id`, `rejected_id`, `goal`, `weight`, `split`,
  `preference`, any metric.

Conventions: a higher score is better everywhere; unscored is null, never zero; row order is file order and every verb
keeps it; nothing here is ever changed in place, and a row that is dropped is counted under a reason.
"""

import hashlib
import io
import json
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pairwright.errors import InputError
from pairwright.gather import fixed_width, gathered
from pairwright.goals import GoalFormat, place
from pairwright.runs import write_beside

if TYPE_CHECKING:
    import datasets
    import pandas as pd

SCHEMA_VERSION = 1
MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
"""The type of a conversation."""

PROMPT_COLUMNS: dict[str, pl.DataType] = {"prompt_id": pl.String(), "prompt": MESSAGES}
RESPONSE_COLUMNS: dict[str, pl.DataType] = {
    "response_id": pl.Int64(),
    "prompt_id": pl.String(),
    "response": MESSAGES,
    "model": pl.String(),
    "score": pl.Float64(),
}
PAIR_COLUMNS: dict[str, pl.DataType] = {
    "prompt_id": pl.String(),
    "chosen_id": pl.Int64(),
    "rejected_id": pl.Int64(),
    "goal": pl.Float64(),
    "weight": pl.Float64(),
    "split": pl.String(),
    "preference": pl.Float64(),
}
_DEFAULTS: dict[str, pl.Expr] = {"weight": pl.lit(1.0), "split": pl.lit("train")}
_REQUIRED = {"prompt_id", "prompt", "response", "chosen_id", "rejected_id"}

_MAKE_ANEW = frozenset({"pair", "generate"})
_FRAMES = ("prompts", "responses", "pairs")

Frame = pl.LazyFrame | pl.DataFrame
Layout = Literal["trl", "llama_factory", "openrlhf", "unpaired", "prompts"]


class Step(BaseModel):
    """One line of a lineage: what was done, with which settings, and what it kept and dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """The verb, for example `relabel`."""
    settings: dict[str, Any] = {}
    """The settings as resolved, JSON values only."""
    inputs: dict[str, str] = {}
    """Digests of what was read, by name."""
    rows_in: int | None = None
    """Rows before: records for `read`, pairs for most verbs."""
    rows_out: int | None = None
    """Rows after."""
    dropped: dict[str, int] = {}
    """Rows that did not pass, by reason; each row counts once."""
    notes: tuple[str, ...] = ()
    """What a reader should know, one sentence each."""
    found: dict[str, Any] = {}
    """What was measured on the way, JSON values only: an overlap, a flip rate."""


class Counts(NamedTuple):
    """How many rows each frame has."""

    prompts: int
    responses: int
    pairs: int


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Preferences:
    """Scored answers to prompts, and comparisons between them. Never changed in place; see the module's docstring."""

    prompts: pl.LazyFrame
    responses: pl.LazyFrame
    pairs: pl.LazyFrame
    lineage: tuple[Step, ...] = ()

    @classmethod
    def of(
        cls,
        prompts: Frame,
        responses: Frame,
        pairs: Frame | None = None,
        lineage: Sequence[Step] = (),
    ) -> "Preferences":
        """Make a `Preferences` from frames: absent optional columns are added as null, types are cast.

        Args:
            prompts: at least `prompt_id`, `prompt`.
            responses: at least `prompt_id`, `response`; without `response_id` the rows are numbered.
            pairs: at least `prompt_id`, `chosen_id`, `rejected_id`; None is no pairs yet.
            lineage: how they came to be.

        Raises:
            InputError: a needed column is missing or has the wrong type.
        """
        answers = responses.lazy()
        if "response_id" not in answers.collect_schema():
            answers = answers.with_row_index("response_id")
        comparisons = pl.LazyFrame(schema=PAIR_COLUMNS) if pairs is None else pairs.lazy()
        return cls(
            _standard(prompts.lazy(), PROMPT_COLUMNS, "prompts"),
            _standard(answers, RESPONSE_COLUMNS, "responses"),
            _standard(comparisons, PAIR_COLUMNS, "pairs"),
            tuple(lineage),
        )

    def then(
        self,
        step: Step,
        *,
        prompts: Frame | None = None,
        responses: Frame | None = None,
        pairs: Frame | None = None,
    ) -> "Preferences":
        """The only way to a new `Preferences` from an old one: some frames replaced, one step added to the lineage."""
        return Preferences.of(
            self.prompts if prompts is None else prompts,
            self.responses if responses is None else responses,
            self.pairs if pairs is None else pairs,
            (*self.lineage, step),
        )

    def counts(self) -> Counts:
        """Rows of prompts, responses and pairs."""
        frames = (self.prompts, self.responses, self.pairs)
        return Counts(*(frame.item() for frame in pl.collect_all([f.select(pl.len()) for f in frames])))

    @property
    def dropped(self) -> dict[str, int]:
        """Rows dropped by reason, summed over the lineage."""
        total: dict[str, int] = {}
        for step in self.lineage:
            for reason, count in step.dropped.items():
                total[reason] = total.get(reason, 0) + count
        return total

    @property
    def goal_format(self) -> GoalFormat | None:
        """How the goals of these pairs are said, from the last relabelling; None where no goal is to be rendered.

        Pairs that were made anew since (`pair`, `generate`) ask for nothing.
        """
        for step in reversed(self.lineage):
            if step.name in _MAKE_ANEW:
                return None
            if step.name == "relabel":
                form = step.settings.get("goal")
                return None if form is None else GoalFormat.model_validate(form)
        return None

    @property
    def judged(self) -> bool:
        """Whether chosen sides are better than rejected ones at what was asked.

        False for pairs that ask for each answer by itself (`relabel` in the modes `steerlm`, `c_rlft`, `dpa`): their
        rejected side is just another answer. A flat file does not say it.
        """
        return _judged(self.lineage)

    @property
    def has_goals(self) -> bool:
        """Whether any pair asks for a score."""
        return bool(self.pairs.select(pl.col("goal").is_not_null().any()).collect().item())

    def digest(self) -> str:
        """SHA-256 of the content of the three frames (rows in order, columns by name), in hex; not of the lineage."""
        total = hashlib.sha256()
        for name, frame in self._frames().items():
            total.update(f"\n{name}\n".encode())
            ordered = frame.select(sorted(frame.collect_schema().names()))
            for batch in _batches(ordered):
                buffer = io.BytesIO()
                batch.write_ndjson(buffer)
                total.update(buffer.getvalue())
        return total.hexdigest()

    def __eq__(self, other: object) -> bool:
        """Equal content: the same columns, types and rows in the same order. The lineage does not count."""
        if not isinstance(other, Preferences):
            return NotImplemented
        for name, mine in self._frames().items():
            theirs = other._frames()[name]
            schema = mine.collect_schema()
            if dict(schema) != dict(theirs.collect_schema()):
                return False
            order = sorted(schema.names())
            if not mine.select(order).collect().equals(theirs.select(order).collect()):
                return False
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Counts, the verbs so far, and what each of them dropped."""
        counts = self.counts()
        verbs = " → ".join(map(_told, self.lineage)) or "made by hand"
        return (
            f"Preferences({counts.prompts:,} prompts, {counts.responses:,} responses, {counts.pairs:,} pairs; {verbs})"
        )

    def save(self, path: str | Path) -> Path:
        """Write the native directory: three parquet files, and `manifest.json` last. An old one is replaced.

        What was opened from the old one stays readable: its files live until nothing scans them any more. A frame that
        is as it was loaded is copied byte for byte, so a step that changes pairs does not pack the texts anew.

        Raises:
            InputError: something else than a native directory stands at `path`, or one that holds other files too.
        """
        target = Path(path)
        if target.exists():
            check_ours(target)
        with write_beside(target) as temporary:
            temporary.mkdir()
            rows: dict[str, int] = {}
            for name, frame in self._frames().items():
                file = temporary / f"{name}.parquet"
                opened = _FILES.get(id(frame))
                if opened is None:
                    frame.sink_parquet(file, compression="zstd", row_group_size=100_000, statistics=False)
                else:
                    _copy(opened, file)
                rows[name] = pl.scan_parquet(file).select(pl.len()).collect().item()
            text = json.dumps(self.manifest() | {"rows": rows}, ensure_ascii=False, indent=2)
            (temporary / "manifest.json").write_text(text + "\n", encoding="utf-8")
        return target

    @classmethod
    def load(cls, path: str | Path) -> "Preferences":
        """Open a native directory; the frames are scanned, not read.

        Raises:
            InputError: it is none, one of a newer pairwright, or damaged.
        """
        root = Path(path)
        manifest = _manifest(root)
        if manifest.get("schema") != SCHEMA_VERSION:
            raise InputError(f"{root} was written by another pairwright (schema {SCHEMA_VERSION} is read here)")
        missing = [name for name in _FRAMES if not (root / f"{name}.parquet").is_file()]
        if missing:
            raise InputError(f"{root} lacks {', '.join(f'{name}.parquet' for name in missing)}; write it again")
        try:
            lineage = _LINEAGE.validate_python(manifest.get("lineage", []))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ("lineage", *first["loc"])))
            raise InputError(f"{root / 'manifest.json'}: {where}: {first['msg']}; write the data again") from error
        prompts, responses, pairs = (_scanned(root / f"{name}.parquet") for name in _FRAMES)
        return cls.of(prompts, responses, pairs, lineage)

    def manifest(self) -> dict[str, Any]:
        """What goes beside the data: schema, version, lineage, rows dropped by reason."""
        return {
            "schema": SCHEMA_VERSION,
            "pairwright": version("pairwright"),
            "dropped": self.dropped,
            "lineage": [step.model_dump(mode="json") for step in self.lineage],
        }

    def view(self, *columns: str) -> pl.LazyFrame:
        """The pairs in order, with columns of their two answers beside them.

        For each name of `columns` (a column of `responses`, such as `score`) there is `<name>_chosen` and
        `<name>_rejected`. Where the pairs already hold both (log-probabilities of goal-conditioned pairs do), those
        are taken; a name that neither has gives nulls for the standard columns and an error for others.

        Raises:
            InputError: neither the pairs nor the responses have a column.
        """
        pair_names = self.pairs.collect_schema().names()
        answer_names = self.responses.collect_schema().names()
        joined = [c for c in dict.fromkeys(columns) if not {f"{c}_chosen", f"{c}_rejected"} <= set(pair_names)]
        for name in joined:
            if name not in answer_names:
                raise InputError(f"there is no column {name!r} in responses; it has {', '.join(answer_names)}")
        view = self.pairs
        if joined:
            view = view.drop([f"{name}_{side}" for name in joined for side in ("chosen", "rejected")], strict=False)
            schema = self.responses.collect_schema()
            if all(fixed_width(schema[name]) for name in joined):
                numbers = gathered(self.pairs, self.responses, joined)
                if numbers is not None:
                    return pl.concat([view, numbers], how="horizontal")
            for side in ("chosen", "rejected"):
                names = [pl.col(name).alias(f"{name}_{side}") for name in joined]
                answers = self.responses.select(pl.col("response_id").alias(f"{side}_id"), *names)
                view = view.join(answers, on=f"{side}_id", how="left", maintain_order="left")
        return view

    def texts(self, *, placement: Literal["system", "user"] | None = None) -> pl.LazyFrame:
        """The pairs in order with their texts: `prompt` (its goal in place), `chosen`, `rejected`, scores, models.

        Args:
            placement: where the goal goes when the goal format says `auto`; `user` when not given.
        """
        view = self.view("response", "score", "model").rename(
            {"response_chosen": "chosen", "response_rejected": "rejected"}
        )
        asked = self.prompts.select("prompt_id", "prompt")
        view = view.join(asked, on="prompt_id", how="left", maintain_order="left")
        form = self.goal_format
        if form is None:
            return view
        where = (placement or "user") if form.placement == "auto" else form.placement
        return view.with_columns(prompt=place(pl.col("prompt"), form.text(pl.col("goal")), where))

    def rows(self, *, placement: Literal["system", "user"] | None = None) -> Iterator[dict[str, Any]]:
        """The rows of `texts`, as dictionaries, batch by batch."""
        for batch in _batches(self.texts(placement=placement)):
            yield from batch.iter_rows(named=True)

    def export(self, path: str | Path, layout: Layout = "trl", **settings: Any) -> Path:
        """Write a flat file for other trainers, with its manifest beside it; see `pairwright.formats.write`."""
        from pairwright.formats.write import export

        return export(self, path, layout, **settings)

    def to_polars(self) -> pl.DataFrame:
        """The pairs as one flat frame in TRL's explicit-prompt conversational shape."""
        from pairwright.formats.write import flat

        return flat(self, "trl").collect()

    def to_pandas(self) -> "pd.DataFrame":
        """`to_polars`, as a pandas frame."""
        from pairwright.formats.write import to_pandas

        return to_pandas(self)

    def to_dataset(self) -> "datasets.Dataset":
        """`to_polars`, as a `datasets.Dataset` that TRL trains on as it is."""
        from pairwright.formats.write import to_dataset

        return to_dataset(self)

    def _frames(self) -> dict[str, pl.LazyFrame]:
        return dict(zip(_FRAMES, (self.prompts, self.responses, self.pairs), strict=True))


_LINEAGE = TypeAdapter(list[Step])


def _manifest(root: Path) -> dict[str, Any]:
    """The manifest of a native directory."""
    file = root / "manifest.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{root} has no manifest.json, so it is no pairwright directory") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); check its permissions") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{file}, line {error.lineno}: not JSON; write the data again") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{file} is damaged ({type(error).__name__}); write the data again") from error
    return found if isinstance(found, dict) else {}


def check_ours(target: Path) -> None:
    """Refuse to replace what is no native directory, or holds what no native directory does."""
    if not (target / "manifest.json").is_file() or not {"schema", "lineage"} <= _manifest(target).keys():
        raise InputError(f"{target} exists and is not a pairwright directory; choose another -o or remove it")
    ours = {"manifest.json", *(f"{name}.parquet" for name in _FRAMES)}
    others = sorted(child.name for child in target.iterdir() if child.name not in ours)
    if others:
        raise InputError(
            f"{target} holds other files than the data ({', '.join(others[:5])}) and would be replaced whole; "
            "choose another -o or move them"
        )


_FILES: dict[int, IO[bytes]] = {}
"""The open files of frames that are as they were loaded, by the frame's `id`; closed when the frame is gone."""


def _scanned(file: Path) -> pl.LazyFrame:
    """A parquet file as a lazy frame that reads the open file, not whatever has its name by then."""
    opened = None
    try:
        opened = file.open("rb")
        frame = pl.scan_parquet(opened)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        if opened is not None:
            opened.close()
        says = str(error).strip().split("\n")[0][:200]
        raise InputError(f"{file} is no readable parquet file ({says}); write the data again") from error
    _FILES[id(frame)] = opened
    weakref.finalize(frame, _close, id(frame))
    return frame


def _close(key: int) -> None:
    _FILES.pop(key).close()


def _copy(opened: IO[bytes], target: Path) -> None:
    """The whole of an open file, whose position others may share, under another name."""
    with target.open("wb") as out:
        at = 0
        while piece := os.pread(opened.fileno(), 1 << 22, at):
            at += out.write(piece)


def _told(step: Step) -> str:
    """`relabel (dropped 12 score_tie)`."""
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in step.dropped.items() if count)
    return f"{step.name} (dropped {dropped})" if dropped else step.name


def _judged(lineage: Sequence[Step]) -> bool:
    for step in reversed(lineage):
        if step.name in _MAKE_ANEW:
            return True
        if step.name == "merge" and not _judged(_LINEAGE.validate_python(step.settings.get("other", []))):
            return False
        if step.name == "relabel":
            return bool(step.settings.get("judged", True))
    return True


def _standard(frame: pl.LazyFrame, columns: Mapping[str, pl.DataType], name: str) -> pl.LazyFrame:
    """Add absent standard columns, put them first, cast them."""
    schema = frame.collect_schema()
    exprs = []
    for column, kind in columns.items():
        if column not in schema:
            if column in _REQUIRED:
                raise InputError(f"{name} lack the column {column!r}; they have {', '.join(schema.names()) or 'none'}")
            exprs.append(_DEFAULTS.get(column, pl.lit(None)).cast(kind).alias(column))
        elif column == "goal" and isinstance(schema[column], pl.List):
            exprs.append(pl.col(column).cast(pl.List(pl.Float64)))
        elif schema[column] != kind:
            exprs.append(_cast(column, schema[column], kind, name))
    order = [*columns, *(c for c in schema.names() if c not in columns)]
    return frame.with_columns(exprs).select(order) if exprs or schema.names() != order else frame


def _cast(column: str, have: pl.DataType, kind: pl.DataType, name: str) -> pl.Expr:
    """A cast that is sure to be right, or a sentence."""
    free = (have == pl.Null) or (have.is_numeric() and kind.is_numeric()) or isinstance(have, pl.List)
    if not free and not (kind == pl.String and isinstance(have, pl.Categorical | pl.Enum)):
        raise InputError(f"{name}: the column {column!r} holds {have}, and must hold {kind}")
    return pl.col(column).cast(kind)


def _batches(frame: pl.LazyFrame, rows: int = 50_000) -> Iterator[pl.DataFrame]:
    """The rows of a lazy frame in order, in frames of a bounded size."""
    yield from frame.collect_batches(chunk_size=rows, maintain_order=True)
