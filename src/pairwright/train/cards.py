"""The model card: what a trained model is, in a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairwright.goals import GoalFormat
from pairwright.logprobs.models import name_of
from pairwright.preferences import Step
from pairwright.train.config import TrainConfig


def model_card(
    config: TrainConfig,
    *,
    lineage: tuple[Step, ...],
    examples: int,
    dropped: Mapping[str, int],
    notes: Sequence[str],
    reference: str,
    origin: str,
    goal: GoalFormat | None,
    last: Mapping[str, Any],
) -> str:
    """The README of a model directory. It tells no time and no host, so that equal runs have equal cards.

    Args:
        config: the run, resolved.
        lineage: how the data came to be.
        examples: pairs or answers trained on.
        dropped: what was not, by reason.
        notes: what a reader should know of the data and of how they were written, a sentence each.
        reference: what the policy was compared with.
        origin: where the reference's numbers come from, in words; empty where there are none.
        goal: how goals are said; None where the model takes none.
        last: the last line of metrics.
    """
    parts = [
        _front(config),
        f"# {_title(config)}",
        _what(config, examples, _reference(config, lineage, reference, origin)),
    ]
    if goal is not None:
        parts.append(_goals(goal))
    parts += [_data(lineage, dropped, notes), _terms(config), _settings(config), _numbers(last)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(config: TrainConfig) -> str:
    tags = "\n".join(f"- {tag}" for tag in dict.fromkeys(["pairwright", *(term.name for term in config.terms)]))
    return f"---\nlibrary_name: transformers\nbase_model: {_base(config)}\ntags:\n{tags}\n---"


def _base(config: TrainConfig) -> str:
    """The hub name, or a directory's own name: where a directory stood is nobody's business."""
    return name_of(config.model) if Path(config.model).is_dir() else config.model


def _title(config: TrainConfig) -> str:
    return f"{name_of(config.model)}, trained with {config.loss_name}"


def _reference(config: TrainConfig, lineage: Sequence[Step], reference: str, origin: str) -> str:
    """The reference and its model. Directories are called by their own names."""
    makers = (step.settings.get("model") for step in lineage if step.name == "logprobs")
    for place in sorted({str(each) for each in (config.model, config.reference_model, *makers) if each}, key=len)[::-1]:
        if "/" in place and (Path(place).is_dir() or Path(place).is_absolute()):
            origin = origin.replace(place, name_of(place))
    return f"{reference}: {origin}" if origin else reference


def _what(config: TrainConfig, examples: int, reference: str) -> str:
    adapter = f" through a LoRA adapter of rank {config.lora.r}, merged in," if config.lora else ""
    return (
        f"`{_base(config)}` trained{adapter} on {examples:,} {config.examples} of the split `{config.split}` "
        f"with the loss `{config.loss_name}` of pairwright. Reference: {reference}."
    )


def _terms(config: TrainConfig) -> str:
    """A table of the terms, where the loss is a sum."""
    if isinstance(config.loss, str):
        return ""
    rows = []
    for term in config.loss:
        beside = {"divergence": term.divergence, "weighting": term.weighting}
        said = term.settings | {name: value for name, value in beside.items() if value is not None}
        rows.append(f"| {term.weight:g} | {term.name} | {', '.join(f'{key}={value}' for key, value in said.items())} |")
    return "## Loss\n\nThe sum of\n\n| weight | loss | settings |\n|---|---|---|\n" + "\n".join(rows)


def _goals(goal: GoalFormat) -> str:
    said = goal.say(goal.best).replace("\n", "\n> ")
    what, best = _ASKED[goal.asks]
    return (
        f"## Asking for {what}\n\nThis model can be asked for {what}. The sentence goes into the {goal.placement} "
        f"message; {best} is asked for so (`generation_goal.json` has the format):\n\n> {said}"
    )


_ASKED = {
    "scores": ("a score", "the best score"),
    "class": ("a class of answers", "the best class"),
    "direction": ("a direction (weights of several scores)", "the direction of the first score alone"),
}
"""What a model with goals can be asked for, and what the example asks for."""


def _data(lineage: tuple[Step, ...], dropped: Mapping[str, int], notes: Sequence[str]) -> str:
    lines = [f"- {step.name}: {_count(step.rows_in)} in, {_count(step.rows_out)} out" for step in lineage]
    lines += [f"- dropped while tokenising: {count:,} {reason}" for reason, count in dropped.items()]
    lines += [f"- {note}" for note in notes]
    return "## Data\n\n" + ("\n".join(lines) or "Made by hand.")


def _settings(config: TrainConfig) -> str:
    left_out = {"model", "tokenizer", "reference_model", "loss", "loss_settings", "trainer"}
    own = config.model_dump(mode="json", exclude=left_out)
    rows = {**config.loss_settings, **own, **config.trainer}
    return "## Settings\n\n| setting | value |\n|---|---|\n" + "\n".join(
        f"| {name} | {value} |" for name, value in rows.items()
    )


def _numbers(last: Mapping[str, Any]) -> str:
    if not last:
        return ""
    rows = "\n".join(f"| {name} | {_number(value)} |" for name, value in last.items())
    return f"## Last logged step\n\nMeasured on the training pairs themselves.\n\n| metric | value |\n|---|---|\n{rows}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _count(rows: int | None) -> str:
    return "?" if rows is None else f"{rows:,}"
