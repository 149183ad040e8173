"""`reproduce`: check claims, one after another, and keep what is found."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pairwright.errors import InputError
from pairwright.plug import nearest
from pairwright.progress import Ticker
from pairwright.report.claims import claims_page
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.language.pool import make_bases
from pairwright.reproduce.language.seeds import bases
from pairwright.reproduce.page import ABOUT, FIRST_LOOK, WORLDS, page, summary
from pairwright.reproduce.table import CLAIMS, LANGUAGE
from pairwright.runs import check_writable, digest_of, digests, lock, write_json, write_text

QUICK_SEEDS = 3
OUTCOME, PAGE = "outcome.json", "reproduction.md"
DRAWN, NUMBERS = "reproduction.html", "reproduction.json"


class Kept(BaseModel):
    """An outcome with all that it depends on, as it stands in `OUT/<claim>/outcome.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: str
    seeds: int
    quick: bool
    code: str
    outcome: Outcome


@dataclass(frozen=True)
class Reproduction:
    """What was found of several claims.

    Attributes:
        outcomes: by the claim's name.
        seeds: how often each repeated its experiment, by the claim's name.
        quick: as asked.
        output: where it is kept, or None.
        again: claims whose outcome was there already and was not computed again.
    """

    outcomes: dict[str, Outcome]
    seeds: dict[str, int]
    quick: bool
    output: Path | None = None
    again: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        found = {name: outcome.model_dump(mode="json") for name, outcome in self.outcomes.items()}
        return {"seeds": self.seeds, "quick": self.quick, "output": self.output and str(self.output), "claims": found}

    def __str__(self) -> str:
        """A line for each claim."""
        width = max(map(len, self.outcomes), default=0)
        rows = (
            f"{name:<{width}}  {found.verdict:<14}  {found.seconds or 0:6.1f} s  {found.says}"
            for name, found in self.outcomes.items()
        )
        return "\n".join(rows)


def reproduce(
    claims: Sequence[str] = (),
    *,
    seeds: Annotated[int, Field(ge=2)] | None = None,
    quick: bool = False,
    output: str | Path | None = None,
) -> Reproduction:
    """Check what papers claim, in worlds where every quantity is known.

    A claim that was checked with the same settings and the same code is not checked again: a job that was stopped goes
    on where it was. Equal settings give equal numbers.

    Args:
        claims: names, as `pairwright list claims` shows them, also with hyphens; all of them when none are given.
        seeds: how often a claim about samples repeats its experiment. When not given, three for a first look, else ten
            for RA's lead over plain DPO and what it needs, which differs most from base to base, and five for the rest.
        quick: smaller worlds and fewer settings, for a first look.
        output: a directory for the outcomes, one folder for each claim, and for `reproduction.md`, `reproduction.html`
            (the same with drawings) and `reproduction.json`; None keeps nothing.

    Raises:
        InputError: there is no such claim, there are fewer than two seeds, or nothing can be written to `output`.
    """
    names = list(dict.fromkeys(name.replace("-", "_") for name in claims)) or list(CLAIMS)
    for name in names:
        if name not in CLAIMS:
            hint = nearest(name, CLAIMS) or "; pairwright list claims shows them"
            raise InputError(f"there is no claim {name!r}{hint}")
    if seeds is not None and seeds < 2:
        raise InputError(f"intervals need at least two seeds, not {seeds}")
    times = {name: seeds or (QUICK_SEEDS if quick else CLAIMS[name].seeds) for name in names}
    root = None if output is None else Path(output)
    if root is not None:
        check_writable(root)
    code = digest_of(digests(Path(__file__).parents[1], skip=("cli", "report")))
    ticker = Ticker("reproduce", len(names), "claims")
    found: dict[str, Outcome] = {}
    again = []
    first = next(iter(LANGUAGE))
    with nullcontext() if root is None else lock(root):
        for name in names:
            place = None if root is None else root / name
            outcome = None if place is None else _kept(place / OUTCOME, name, times[name], quick, code)
            if outcome is not None:
                again.append(name)
            else:
                if name == first and set(LANGUAGE) <= set(names):
                    make_bases(bases(Setup(seeds=min(times.values()), quick=quick)))
                began = time.perf_counter()
                outcome = CLAIMS[name].run(Setup(seeds=times[name], quick=quick, out=place))
                if outcome.seconds is None:  # a check whose work is spread over cores, or was kept, says it itself
                    outcome = outcome.model_copy(update={"seconds": round(time.perf_counter() - began, 2)})
                if place is not None:
                    kept = Kept(claim=name, seeds=times[name], quick=quick, code=code, outcome=outcome)
                    write_json(place / OUTCOME, kept.model_dump(mode="json"))
            found[name] = outcome
            ticker.add(1)
        if root is not None:
            _write_pages(root)
    return Reproduction(found, times, quick, root, tuple(again))


def _write_pages(root: Path) -> None:
    """The pages of all outcomes in a directory, and their numbers as JSON."""
    every = _all_kept(root)
    found = {name: (kept.outcome, command(name, seeds=kept.seeds, quick=kept.quick)) for name, kept in every.items()}
    about = (*ABOUT, FIRST_LOOK) if any(kept.quick for kept in every.values()) else ABOUT
    numbers = {
        name: {field: getattr(CLAIMS[name], field) for field in ("says", "paper", "source", "world")}
        | {"command": line, "outcome": outcome.model_dump(mode="json")}
        for name, (outcome, line) in found.items()
    }
    write_json(root / NUMBERS, numbers)
    says = (summary(found, CLAIMS), *about)
    write_text(root / DRAWN, claims_page(found, CLAIMS, worlds=WORLDS, says=says))
    write_text(root / PAGE, page(found, CLAIMS, says=about))


def _kept(path: Path, name: str, seeds: int, quick: bool, code: str) -> Outcome | None:
    """The outcome of an earlier run that is still that of this one."""
    kept = _read(path)
    return (
        kept.outcome if kept and (kept.claim, kept.seeds, kept.quick, kept.code) == (name, seeds, quick, code) else None
    )


def _all_kept(root: Path) -> dict[str, Kept]:
    """Every outcome in a directory, also of claims that this call was not about."""
    return {name: kept for name in CLAIMS if (kept := _read(root / name / OUTCOME))}


def command(name: str, *, seeds: int, quick: bool) -> str:
    """The command line that checks a claim again."""
    return f"pairwright reproduce {name} --seeds {seeds}" + (" --quick" if quick else "")


def _read(path: Path) -> Kept | None:
    try:
        return Kept.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
