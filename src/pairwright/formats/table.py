"""FORMATS: every shape that is read, in the order in which a source is tried against them."""

from collections.abc import Mapping, Sequence
from typing import Any

from pairwright.errors import InputError
from pairwright.formats import (
    compared,
    helpsteer,
    judged,
    llama_factory,
    rated,
    trl,
    ultrafeedback,
)
from pairwright.formats.record import Format, Row
from pairwright.plug import find, nearest

FORMATS: Mapping[str, Format] = {
    # Shapes that no other shares come first, the general ones last: the first that fits is taken.
    "ultrafeedback": ultrafeedback.RAW,
    "princeton": ultrafeedback.PRINCETON,
    "nectar": ultrafeedback.NECTAR,
    "helpsteer3": helpsteer.HELPSTEER3,
    "helpsteer": helpsteer.HELPSTEER,
    "shp": compared.SHP,
    "pku_saferlhf": compared.PKU,
    "halos": compared.HALOS,
    "alpaca_eval": compared.ALPACA_EVAL,
    "alpaca_eval_outputs": judged.ALPACA_OUTPUTS,
    "mt_bench_single": judged.MT_BENCH,
    "prometheus_ratings": judged.RATINGS,
    "auto_j": compared.AUTO_J,
    "llmbar": compared.LLMBAR,
    "pandalm": compared.PANDALM,
    "judgebench": compared.JUDGEBENCH,
    "rm_bench": compared.RM_BENCH,
    "nemo_rl": rated.NEMO_RL,
    "llama_factory_v1": llama_factory.V1,
    "llama_factory": llama_factory.SHAREGPT,
    "stack_exchange_paired": rated.TORCHTUNE,
    "argilla_average": rated.ARGILLA_AVERAGE,
    "nemo_aligner": rated.NEMO_ALIGNER,
    "llama_factory_alpaca": llama_factory.ALPACA,
    "orca_pairs": rated.ORCA,
    "argilla": rated.ARGILLA,
    "distilabel": rated.DISTILABEL,
    "hh_rlhf": rated.HH_RLHF,
    "openrlhf": rated.OPENRLHF,
    "ultrafeedback_binarized": trl.ULTRAFEEDBACK_BINARIZED,
    "skywork": rated.SKYWORK,
    "trl": trl.PREFERENCE,
    "trl_implicit": trl.IMPLICIT,
    "unpaired_scored": trl.UNPAIRED_SCORED,
    "unpaired": trl.UNPAIRED,
    "unpaired_messages": trl.UNPAIRED_MESSAGES,
    "prompt_completion": trl.COMPLETION,
    "scored": trl.SCORED,
    "messages": trl.CONVERSATION,
    "prompts": trl.PROMPTS,
}

_SHOWN = 20


def listing() -> list[dict[str, Any]]:
    """The table for `pairwright list formats`: name, one line, source, columns."""
    return [
        {"name": name, "says": form.says, "source": form.source, "columns": list(form.columns), "settings": []}
        for name, form in FORMATS.items()
    ]


def named(spec: str) -> Format:
    """The format called `spec`, or the user's own `module:function` from a row to a `Record`.

    Raises:
        InputError: there is none; the message has the nearest right name.
    """
    if ":" in spec:
        rows = find({}, spec, kind="format")
        return Format(name=spec, says="the user's own", source=spec, columns=(), rows=rows)
    if spec not in FORMATS:
        hint = nearest(spec, FORMATS) or f"; there are {', '.join(FORMATS)}"
        raise InputError(f"there is no format {spec!r}{hint} (your own is 'module:function')")
    return FORMATS[spec]


def detected(rows: Sequence[Row], name: str) -> Format:
    """The first format of the table that fits the first rows of a source.

    Args:
        rows: the first readable rows.
        name: the source, for the message.

    Raises:
        InputError: none fits; it names the columns found, the nearest format, and the remedy.
    """
    columns = frozenset(column for row in rows for column in row)
    for form in FORMATS.values():
        if form.detect(columns, rows):
            return form
    near = max(FORMATS.values(), key=lambda form: _likeness(form.columns, columns))
    if not columns.intersection(near.columns):
        near = FORMATS["trl"]
    shown = sorted(map(str, columns))
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    raise InputError(
        f"{name}: no known format has the columns {', '.join(shown[:_SHOWN]) or 'none'}{more}; "
        f"the nearest is {near.name} ({', '.join(near.columns)}); name the columns, for example "
        'columns={"prompt": "...", "chosen": "...", "rejected": "..."}'
    )


def _likeness(wanted: Sequence[str], found: frozenset[str]) -> float:
    """Share of names in common (Jaccard)."""
    return len(found.intersection(wanted)) / len(found.union(wanted))
