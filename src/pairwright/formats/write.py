"""Flat files for other trainers, each with its manifest beside it.

    trl             prompt, chosen, rejected as messages, goal in place; scores, models, weight, split and all
                    numbers of the answers (log-probabilities, implicit rewards) beside them
    llama_factory   sharegpt ranking rows, and their entry in dataset_info.json
    openrlhf        whole conversations chosen and rejected, chosen_score, rejected_score, margin (under a goal: how
                    much nearer to it the chosen side is; null where the goal is a list)
    unpaired        prompt, completion, label: two rows for each pair
    prompts         prompts alone

Written beside and renamed; streamed, so that a file may be larger than memory.
"""

import dataclasses
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import orjson
import polars as pl
import zstandard
from polars.io.plugins import register_io_source

from pairwright.errors import InputError, need
from pairwright.formats.files import digest_of
from pairwright.formats.mapping import PROMPT_EXTRAS
from pairwright.plug import nearest
from pairwright.preferences import MESSAGES, PAIR_COLUMNS, Layout, Preferences, Step
from pairwright.runs import write_beside

if TYPE_CHECKING:
    import datasets
    import pandas as pd

Names = Literal["trl", "argilla", "distilabel"]
NAMES: Mapping[str, Mapping[str, str]] = {
    "trl": {},
    "argilla": {
        "score_chosen": "chosen-rating",
        "score_rejected": "rejected-rating",
        "model_chosen": "chosen-model",
        "model_rejected": "rejected-model",
    },
    "distilabel": {
        "score_chosen": "chosen_rating",
        "score_rejected": "rejected_rating",
        "model_chosen": "chosen_model",
        "model_rejected": "rejected_model",
    },
}
"""Other names for the scores and models of the `trl` layout."""
SEVERAL_TURNS = "several_turns"
"""Why a pair has no row in a layout whose answers are one message each."""
_TAG_OF_ROLE = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}
_SAID = ("response_id", "score", "goal")
"""Numbers of answers that a pair has in its own way, or that say nothing outside the tables."""
_NO_JUDGEMENT = (
    "These pairs ask for each answer by itself: the rejected side is just another answer, so train on the chosen side "
    "alone (supervised fine-tuning), with no loss that compares the two."
)
_BATCH = 5_000  # rows of texts that are in hand at once


def export(prefs: Preferences, path: str | Path, layout: Layout = "trl", *, names: Names = "trl") -> Path:
    """Write a flat file, and `<file>.manifest.json` beside it.

    Args:
        prefs: what to write.
        path: a name that ends in .parquet, .jsonl, .json or .csv; the last three may also end in .gz or .zst. In CSV a
            cell that is a list of messages is written as JSON.
        layout: who reads it; see the module's docstring.
        names: in the `trl` layout, whose names the scores and models have.

    Returns:
        The path.

    Raises:
        InputError: there are no pairs, the name's ending is none of these, or labels are wanted of pairs that hold no
            judgement.
    """
    target = Path(path)
    if layout == "unpaired" and not prefs.judged:
        raise InputError(
            "these pairs ask for each answer by itself (relabel modes steerlm, c_rlft, dpa), so nothing says that a "
            "rejected side is unwanted; use another layout, or relabel with a mode such as ra"
        )
    writer, compression = _writer(target)
    frame = _named(flat(prefs, layout), names, layout)
    whole = frame
    if layout == "llama_factory":
        frame = frame.filter(_one_turn())
    with write_beside(target) as temporary:
        writer(_finished(frame, layout), temporary, compression)
        rows = frame.select(pl.len()).collect().item()
        lost = whole.select(pl.len()).collect().item() - rows if layout == "llama_factory" else 0
        if not rows:
            raise InputError(_empty(prefs, layout, lost))
        digest = digest_of(temporary)
    settings = {"layout": layout, "names": names, "file": target.name}
    dropped = {SEVERAL_TURNS: lost} if lost else {}
    notes = (_NO_JUDGEMENT,) if layout != "prompts" and not prefs.judged else ()
    step = Step(name="export", settings=settings, rows_in=rows + lost, rows_out=rows, dropped=dropped, notes=notes)
    manifest = prefs.then(step).manifest() | {"rows": rows, "digest": digest, "layout": layout}
    _write_json(target.with_name(f"{target.name}.manifest.json"), manifest)
    if layout == "llama_factory":
        _declare(target)
    else:
        _undeclare(target)
    return target


def flat(prefs: Preferences, layout: Layout) -> pl.LazyFrame:
    """The rows of a layout, lazily.

    Raises:
        InputError: there is no such layout.
    """
    if layout not in _LAYOUTS:
        raise InputError(
            f"there is no layout {layout!r}{nearest(layout, _LAYOUTS)} (there are {', '.join(get_args(Layout))})"
        )
    return _LAYOUTS[layout](prefs)


def to_pandas(prefs: Preferences) -> "pd.DataFrame":
    """The pairs in the `trl` layout as a pandas frame; conversations are lists of dictionaries."""
    pandas = need("pandas", extra="dev")
    frame: pd.DataFrame = pandas.DataFrame(flat(prefs, "trl").collect().to_dict(as_series=False))
    return frame


def to_dataset(prefs: Preferences) -> "datasets.Dataset":
    """The pairs in the `trl` layout as a `datasets.Dataset`."""
    library = need("datasets", extra="train")
    found: datasets.Dataset = library.Dataset.from_polars(flat(prefs, "trl").collect())
    return found


def _trl(prefs: Preferences) -> pl.LazyFrame:
    """One row for each pair, the standard columns first, then further scores, then what else answers and pairs have."""
    answers = prefs.responses.collect_schema()
    scores = [name for name, kind in answers.items() if name.startswith("score_") and kind.is_numeric()]
    numbers = [name for name, kind in answers.items() if kind.is_numeric() and name not in (*_SAID, *scores)]
    if any(map(_of_model, numbers)) and prefs.has_goals:
        # Those of the answers are under prompts without goals; beside a prompt with one they would pass for its own.
        numbers = [name for name in numbers if not _of_model(name)]
    wide = dataclasses.replace(prefs, pairs=prefs.view(*scores, *numbers)) if scores or numbers else prefs
    rows = wide.texts()
    about = [name for name in PROMPT_EXTRAS if name in prefs.prompts.collect_schema()]
    if about:
        rows = rows.join(prefs.prompts.select("prompt_id", *about), on="prompt_id", how="left", maintain_order="left")
    first = ["prompt", "chosen", "rejected", "score_chosen", "score_rejected", "goal", "model_chosen", "model_rejected"]
    first += ["prompt_id", "weight", "split", "preference", *about]
    first += [f"{name}_{side}" for name in (*scores, *numbers) for side in ("chosen", "rejected")]
    more = [c for c in prefs.pairs.collect_schema() if c not in PAIR_COLUMNS and c not in first]
    return rows.select([*first, *more])


def _of_model(column: str) -> bool:
    return column.startswith(("logp_", "len_"))


def _llama_factory(prefs: Preferences) -> pl.LazyFrame:
    """Sharegpt ranking rows; answers of several turns are filtered out by `export`, which counts them."""
    rows = _trl(prefs)
    return rows.rename({"prompt": "conversations"})


def _openrlhf(prefs: Preferences) -> pl.LazyFrame:
    rows = _trl(prefs)
    margin = pl.col("preference").fill_null(pl.col("score_chosen") - pl.col("score_rejected"))
    # A preference was said without a goal, and so were the scores compared; under one it counts which side is nearer.
    nearer: pl.Expr = pl.lit(None, dtype=pl.Float64)
    if not rows.collect_schema()["goal"].is_nested():
        nearer = (pl.col("score_rejected") - pl.col("goal")).abs() - (pl.col("score_chosen") - pl.col("goal")).abs()
    margin = pl.when(pl.col("goal").is_null()).then(margin).otherwise(nearer)
    whole = [pl.concat_list("prompt", side).cast(MESSAGES).alias(side) for side in ("chosen", "rejected")]
    names = {"score_chosen": "chosen_score", "score_rejected": "rejected_score"}
    return rows.with_columns(*whole, margin=margin).drop("prompt", "preference").rename(names)


def _unpaired(prefs: Preferences) -> pl.LazyFrame:
    """The two answers of each pair, chosen first; without pairs the answers whose label is a yes (1) or a no (0).

    The label is `score_label` where there is one, and else the score.
    """
    if not prefs.counts().pairs:
        marked = "score_label" in prefs.responses.collect_schema()
        said = pl.col("score_label" if marked else "score")
        answers = prefs.responses.filter(said.is_in([0.0, 1.0]))
        rows = answers.join(prefs.prompts, on="prompt_id", how="left", maintain_order="left")
        keep = ["split"] if "split" in prefs.prompts.collect_schema() else []
        keep += ["score"] if marked else []
        label = (said == 1.0).alias("label")
        return rows.select("prompt", pl.col("response").alias("completion"), label, "model", "prompt_id", *keep)
    sides = [
        pl.struct(
            completion=pl.col(side), label=pl.lit(good), score=pl.col(f"score_{side}"), model=pl.col(f"model_{side}")
        )
        for side, good in (("chosen", True), ("rejected", False))
    ]
    rows = prefs.texts().select("prompt", pl.concat_list(sides).alias("side"), "goal", "prompt_id", "weight", "split")
    return rows.explode("side").unnest("side")


def _prompts(prefs: Preferences) -> pl.LazyFrame:
    names = prefs.prompts.collect_schema().names()
    return prefs.prompts.select("prompt", *(name for name in names if name != "prompt"))


_LAYOUTS: Mapping[str, Callable[[Preferences], pl.LazyFrame]] = {
    "trl": _trl,
    "llama_factory": _llama_factory,
    "openrlhf": _openrlhf,
    "unpaired": _unpaired,
    "prompts": _prompts,
}


def _named(frame: pl.LazyFrame, names: str, layout: str) -> pl.LazyFrame:
    if names not in NAMES:
        raise InputError(f"there are no names {names!r}{nearest(names, NAMES)} (there are {', '.join(NAMES)})")
    if names != "trl" and layout != "trl":
        raise InputError(f"names={names!r} belongs to the layout 'trl', not to {layout!r}; leave it out")
    return frame.rename(dict(NAMES[names]))


def _one_turn() -> pl.Expr:
    return (pl.col("chosen").list.len() == 1) & (pl.col("rejected").list.len() == 1)


def _finished(frame: pl.LazyFrame, layout: str) -> pl.LazyFrame:
    """The last form of the rows: sharegpt's own role names and single-message answers."""
    if layout != "llama_factory":
        return frame
    return frame.with_columns(
        pl.col("conversations").list.eval(_sharegpt(pl.element())),
        *(_sharegpt(pl.col(side).list.first()).alias(side) for side in ("chosen", "rejected")),
    )


def _sharegpt(message: pl.Expr) -> pl.Expr:
    role = message.struct.field("role").replace(_TAG_OF_ROLE).alias("from")
    return pl.struct(role, message.struct.field("content").alias("value"))


def _empty(prefs: Preferences, layout: str, lost: int) -> str:
    if lost:
        return f"all {lost:,} pairs have answers of several turns, which the layout {layout!r} cannot hold; use 'trl'"
    counts = prefs.counts()
    last = next((step for step in reversed(prefs.lineage) if step.rows_out == 0), None)
    if last is not None and layout != "prompts":
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in last.dropped.items() if count)
        why = f" ({reasons})" if reasons else ""
        return f"there are no pairs to write: {last.name} kept none{why}; change its settings or the data"
    if layout == "unpaired":
        return "there are no pairs, nor answers whose score is 0 or 1; make pairs first (pairwright pair)"
    if counts.responses and layout != "prompts":
        return f"there are {counts.responses:,} answers and no pairs to write; make pairs first (pairwright pair)"
    if counts.prompts:
        return f"there are {counts.prompts:,} prompts and no answers; use the layout 'prompts', or name more columns"
    return "there is nothing to write: no prompts and no pairs"


def _declare(file: Path) -> None:
    """Put the file's entry into the `dataset_info.json` beside it, where LLaMA-Factory looks; others stay."""
    info = file.with_name("dataset_info.json")
    entries: dict[str, Any] = {}
    if info.is_file():
        try:
            entries = json.loads(info.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{info} is not JSON; correct or remove it") from error
        if not isinstance(entries, dict):
            raise InputError(f"{info} is no JSON object; correct or remove it")
    entries[file.name.split(".")[0]] = {
        "file_name": file.name,
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "observation_tag": "observation",
            "system_tag": "system",
        },
    }
    _write_json(info, entries)


def _undeclare(file: Path) -> None:
    """Remove the entry that an earlier file of this name had: it describes another layout, and readers follow it."""
    info = file.with_name("dataset_info.json")
    try:
        entries = json.loads(info.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return
    if not isinstance(entries, dict):
        return
    others = {
        name: entry
        for name, entry in entries.items()
        if not (isinstance(entry, dict) and entry.get("file_name") == file.name)
    }
    if not others:
        info.unlink()
    elif others != entries:
        _write_json(info, others)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with write_beside(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


_Writer = Callable[[pl.LazyFrame, Path, str], None]


def _writer(path: Path) -> tuple[_Writer, str]:
    """How a file of this name is written, and its compression."""
    name = path.name.lower()
    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower(), "uncompressed")
    ending = Path(name).suffix if compression == "uncompressed" else Path(Path(name).stem).suffix
    if ending not in _WRITERS or (ending == ".parquet" and compression != "uncompressed"):
        raise InputError(
            f"{path}: give a name that ends in .parquet, .jsonl, .json or .csv (all but parquet also .gz, .zst)"
        )
    return _WRITERS[ending], compression


def _in_batches(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The same rows, a few thousand at a time.

    Polars moves a hundred thousand rows at once, which is right for numbers. Of rows with texts that is half a gigabyte
    to each core, and too few pieces for all cores to have one.
    """

    def drawn(*_: object) -> Iterator[pl.DataFrame]:  # nothing is left out or filtered on the way into a file
        yield from frame.collect_batches(chunk_size=_BATCH, maintain_order=True)

    return register_io_source(drawn, schema=frame.collect_schema(), is_pure=True)


def _parquet(frame: pl.LazyFrame, path: Path, compression: str) -> None:
    _in_batches(frame).sink_parquet(path, compression="zstd", row_group_size=50_000, statistics=False)


def _jsonl(frame: pl.LazyFrame, path: Path, compression: Any) -> None:
    _in_batches(frame).sink_ndjson(path, compression=compression, check_extension=False)


def _json(frame: pl.LazyFrame, path: Path, compression: str) -> None:
    with _opened(path, compression) as file:
        lead = b"[\n"
        for batch in frame.collect_batches(chunk_size=_BATCH, maintain_order=True):
            for row in batch.iter_rows(named=True):
                file.write(lead + orjson.dumps(row))
                lead = b",\n"
        file.write(b"\n]\n" if lead == b",\n" else b"[]\n")


def _csv(frame: pl.LazyFrame, path: Path, compression: Any) -> None:
    nested = [name for name, kind in frame.collect_schema().items() if kind.is_nested()]
    cells = [pl.col(name).map_elements(_cell, return_dtype=pl.String) for name in nested]
    frame.with_columns(cells).sink_csv(path, compression=compression, check_extension=False)


def _cell(value: Any) -> str:
    return orjson.dumps(value.to_list() if isinstance(value, pl.Series) else value).decode()


_WRITERS: Mapping[str, _Writer] = {".parquet": _parquet, ".jsonl": _jsonl, ".json": _json, ".csv": _csv}


@contextmanager
def _opened(path: Path, compression: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open("wb") as file:
        if compression == "gzip":
            with gzip.GzipFile(fileobj=file, mode="wb", mtime=0, compresslevel=6) as packed:
                yield packed
        elif compression == "zstd":
            with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed:
                yield packed
        else:
            yield file
