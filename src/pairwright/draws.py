"""Seeded draws that depend on what is drawn for, and on nothing else.

A draw belongs to a prompt or to a pair of answers: it stays the same when rows are added, removed or put in another
order, and in every version of Polars (whose own `hash` changes between versions).
"""

import hashlib

import polars as pl

_MASK = 2**64 - 1


def draw_of_text(texts: pl.Series, *, seed: int) -> pl.Series:
    """A uniform number in [0, 1) for each text: the first 53 bits of the SHA-256 of `"<seed>:<text>"`.

    Args:
        texts: String, most often prompt ids.
        seed: another seed gives independent draws.
    """
    head = f"{seed}:".encode()
    draws = [
        (int.from_bytes(hashlib.sha256(head + text.encode("utf-8", "backslashreplace")).digest()[:8]) >> 11) / 2**53
        for text in texts
    ]
    return pl.Series(texts.name, draws, dtype=pl.Float64)


def draw_of_ids(*ids: pl.Expr, seed: int) -> pl.Expr:
    """A uniform number in [0, 1) for each row, from its whole numbers (in that order) and the seed.

    Source: splitmix64, Steele, Lea and Flood, OOPSLA 2014; unsigned 64-bit arithmetic wraps around.
    """
    state = pl.lit(_mixed(seed & _MASK), dtype=pl.UInt64)
    for part in ids:
        state = _mix(part.cast(pl.Int64).cast(pl.UInt64, wrap_numerical=True) ^ state)
    return (state // 2**11).cast(pl.Float64) / 2**53


def _mix(z: pl.Expr) -> pl.Expr:
    z = z + pl.lit(0x9E3779B97F4A7C15, dtype=pl.UInt64)
    z = (z ^ (z // 2**30)) * pl.lit(0xBF58476D1CE4E5B9, dtype=pl.UInt64)
    z = (z ^ (z // 2**27)) * pl.lit(0x94D049BB133111EB, dtype=pl.UInt64)
    return z ^ (z // 2**31)


def _mixed(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
