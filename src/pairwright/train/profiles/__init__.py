"""Settings files for `accelerate launch --config_file`: one process for each GPU, and how they share one model.

`pairwright list profiles` shows where they are; `python -m pairwright.train.profiles fsdp2` prints one path.
"""

from pathlib import Path

PROFILES: dict[str, Path] = {
    name: Path(__file__).with_name(f"{name}.yaml") for name in ("ddp", "fsdp2", "zero2", "zero3")
}
"""The file of each profile."""


def says(profile: Path) -> str:
    """What a profile is: the first line of its file, without the mark of a comment."""
    return profile.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
