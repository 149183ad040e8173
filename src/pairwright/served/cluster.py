"""The same calls from a cluster: each worker makes its share, at its share of the pace, and none is made twice."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from pairwright.cluster import Row, each_on_cluster
from pairwright.errors import PairwrightError
from pairwright.progress import Ticker
from pairwright.served.ask import ask, usage_of
from pairwright.served.cache import Cache, cache_place, key_of
from pairwright.served.keys import check_url, find_key
from pairwright.served.record import Answer, Asked, Call, Failure, Manners, Prices, Sampling, Server

_PARTS = 8
"""Parts of a job, at least, where it has so many calls."""


def ask_on_cluster(
    calls: Sequence[Call],
    *,
    server: Server,
    sampling: Sampling,
    manners: Manners,
    prices: Prices,
    cache: str | Path | None = None,
    version: str = "",
    label: str = "calls",
) -> Asked:
    """As `ask`, with the calls made by the workers of a Ray cluster, and the same answers.

    Kept answers are looked up here. Different calls go to the workers in parts; the workers together keep to the
    concurrency and the rate of `manners`. A worker keeps its answers in the file of the same name on its own machine,
    which on one machine is the one file, and gives them back to be kept here. So a killed job loses the calls in
    flight, and, where the workers are other machines, the parts in flight.

    A worker takes the API key from its own environment: a key is never sent through the cluster. A cluster that was
    started before must have it there; one that is made for this job has this process's environment.

    Args:
        calls: what is asked.
        server: which model.
        sampling: how answers are drawn.
        manners: of all workers together.
        prices: of tokens.
        cache: the file of kept answers, as in `ask`.
        version: as in `ask`.
        label: of the progress line.

    Raises:
        InputError: as `ask`.
        PairwrightError: as `ask`, or a worker failed.
        MissingExtra: `ray`, or `openai` at a worker, is not installed.
    """
    check_url(server.url)
    find_key(server.url, server.key)
    keys = [key_of(call, server, sampling, version) for call in calls]
    distinct = dict(zip(reversed(keys), reversed(calls), strict=True))
    place = (cache_place() if cache is None else Path(cache)).resolve()
    store = Cache(place)
    try:
        outcomes: dict[bytes, Answer | Failure] = dict(store.known(distinct))
        left = [key for key in dict.fromkeys(keys) if key not in outcomes]
        ticker, made, retried = Ticker(label, len(left), "calls"), 0, Counter[str]()
        settings = {
            "server": server,
            "sampling": replace(sampling, extra=dict(sampling.extra)),
            "manners": manners,
            "cache": str(place),
            "version": version,
            "label": label,
        }
        rows = _rows([(key, distinct[key]) for key in left], manners.concurrency)
        for row in (
            each_on_cluster(
                rows,
                _Worker,
                settings,
                gpus=False,
                most=manners.concurrency,
                by_workers=lambda number: {"share": number},
            )
            if rows
            else ()
        ):
            for key, outcome in row["outcomes"]:
                outcomes[key] = store.put(key, outcome) if isinstance(outcome, Answer) else outcome
            made, retried = made + row["made"], retried + row["retried"]
            ticker.add(len(row["outcomes"]))
    finally:
        store.close()
    if missing := len(distinct) - len(outcomes):
        raise PairwrightError(f"{label}: {missing} calls did not come back from the cluster; run the same again")
    usage = usage_of([each for each in outcomes.values() if isinstance(each, Answer)], prices)
    return Asked([outcomes[key] for key in keys], usage, made, dict(retried))


def _rows(wanted: Sequence[tuple[bytes, Call]], concurrency: int) -> list[Row]:
    """The work in parts: several for each worker, none so small that a worker waits for its last call all the time."""
    size = max(1, min(4 * concurrency, ceil(len(wanted) / _PARTS)))
    return [{"calls": wanted[at : at + size]} for at in range(0, len(wanted), size)]


class _Worker:
    """One of several processes that ask."""

    def __init__(self, share: int, manners: Manners, **settings: Any) -> None:
        rate = None if manners.rate is None else manners.rate / share
        self._manners = replace(manners, concurrency=max(1, manners.concurrency // share), rate=rate)
        self._settings = settings

    def __call__(self, row: Row) -> Mapping[str, Any]:
        keys, calls = zip(*row["calls"], strict=True)
        asked = ask(calls, manners=self._manners, **self._settings)
        outcomes = list(zip(keys, asked.answers, strict=True))
        return {"outcomes": outcomes, "made": asked.made, "retried": Counter(asked.retried)}
