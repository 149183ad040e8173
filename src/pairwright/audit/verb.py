"""`audit`: run every check on a data set."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from pairwright import plug
from pairwright.audit.facts import Facts
from pairwright.audit.finding import Audit, Finding
from pairwright.audit.scores import Scale
from pairwright.audit.table import CHECKS, DATA_CHECKS, TOKEN_CHECKS, Check
from pairwright.audit.tokens import load
from pairwright.errors import InputError
from pairwright.preferences import Preferences


def audit(
    prefs: Preferences,
    *,
    tokenizer: Any = None,
    max_length: Annotated[int, Field(gt=0)] | None = None,
    max_prompt_length: Annotated[int, Field(gt=0)] | None = None,
    scale: Scale | None = None,
    also: Sequence[str] = (),
) -> Audit:
    """Look for what is wrong with preference data before a model learns it. Changes nothing.

    Args:
        prefs: the data.
        tokenizer: a Hugging Face tokenizer or the path of one; with it, the checks of what a model reads run too.
        max_length: tokens of prompt and answer together at which a trainer cuts; the tokenizer's own limit if None.
        max_prompt_length: tokens of the prompt at which a trainer cuts; None is no limit of its own.
        scale: lowest and highest score that there may be.
        also: your own checks, each `"module:function"` of the shape `check(prefs, *, settings) -> Finding`.

    Returns:
        One finding for each check, those that found nothing included.

    Raises:
        InputError: a check of yours does not exist or gives no `Finding`, the tokenizer cannot be used, or the scale
            does not rise.
    """
    facts = Facts(prefs)
    settings: dict[str, dict[str, Any]] = {"out_of_scale": {"scale": scale}}
    checks = dict(DATA_CHECKS)
    if tokenizer is not None:
        limits = {"tokenizer": load(tokenizer), "max_length": max_length, "max_prompt_length": max_prompt_length}
        settings |= {name: limits for name in TOKEN_CHECKS}
        checks |= TOKEN_CHECKS
    findings = [check(facts, **settings.get(name, {})) for name, check in checks.items()]
    findings += [_own(plug.find(CHECKS, spec, kind="check"), prefs, spec) for spec in also]
    sizes = (len(facts.pairs), len(facts.prompts), len(facts.responses))
    return Audit(*sizes, findings=tuple(findings))


def _own(check: Check, prefs: Preferences, spec: str) -> Finding:
    found = check(prefs)
    if not isinstance(found, Finding):
        raise InputError(f"check {spec!r} gave {type(found).__name__}, and must give a pairwright.audit.Finding")
    return found
