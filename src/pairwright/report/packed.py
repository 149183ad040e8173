"""Columns and texts of many rows, packed small enough for one page: the page's script unpacks what it needs.

A column is a short list of distinct values with a code for each row, or plain 64-bit floats; both keep every digit.
Texts are JSON in pieces of about 128 KiB, each deflated (zlib, RFC 1950) and in base64, so that a page of 10,000 pairs
is opened without reading a single one of them.
"""

import base64
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

CHUNK = 128 * 1024
"""Characters of JSON after which a piece is closed."""
_FEW = 256


@dataclass(frozen=True)
class Texts:
    """A list of JSON values in pieces.

    Attributes:
        starts: index of the first value of each piece.
        chunks: base64 of each piece: the deflated JSON list of its values.
    """

    starts: tuple[int, ...]
    chunks: tuple[str, ...]


def packed_column(values: pl.Series) -> dict[str, Any]:
    """`{"values": [...], "codes": base64}` (one byte a row) or, for many different numbers, `{"floats": base64}`.

    Null, NaN and infinity are null in `values` and NaN in `floats`. Floats and codes are little-endian.

    Args:
        values: numbers or strings; strings always get codes, of one or two bytes (`"wide": true`).
    """
    known = values.cast(pl.Float64) if values.dtype.is_numeric() else values.cast(pl.String)
    if known.dtype == pl.Float64:
        known = known.to_frame("v").select(pl.when(pl.col("v").is_finite()).then(pl.col("v"))).to_series()
        if known.n_unique() > _FEW:
            return {"floats": _base64(known.fill_null(math.nan).to_numpy().astype("<f8"))}
    distinct = known.unique(maintain_order=True).sort(nulls_last=True).to_list()
    code = {value: i for i, value in enumerate(distinct)}
    wide = len(distinct) > _FEW
    codes = np.array([code[value] for value in known], dtype="<u2" if wide else "u1")
    return {"values": distinct, "codes": _base64(codes), "wide": wide}


def packed_indices(values: Iterable[int]) -> str:
    """Base64 of unsigned 32-bit numbers, little-endian."""
    return _base64(np.array(list(values), dtype="<u4"))


def packed_texts(values: Sequence[Any]) -> Texts:
    """JSON values in order, in pieces; a value that is longer than `CHUNK` has a piece of its own."""
    starts: list[int] = []
    chunks: list[str] = []
    piece: list[str] = []
    size = 0
    for i, value in enumerate(values):
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if piece and size + len(text) > CHUNK:
            chunks.append(_deflated(piece))
            piece, size = [], 0
        if not piece:
            starts.append(i)
        piece.append(text)
        size += len(text)
    if piece:
        chunks.append(_deflated(piece))
    return Texts(tuple(starts), tuple(chunks))


def _deflated(piece: Sequence[str]) -> str:
    return base64.b64encode(zlib.compress(f"[{','.join(piece)}]".encode(), 6)).decode("ascii")


def _base64(values: "np.ndarray[Any, Any]") -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
