"""Whether two models are one, seen before either is opened."""

from pathlib import Path

from pairwright.runs import digest_file

_PARTS = ("config.json", "adapter_config.json", "*.safetensors", "*.bin")
"""What a log-probability depends on: the shape and the weights. A tokenizer's files and a README may differ."""


def same_model(one: str | Path, other: str | Path) -> bool:
    """Whether two names stand for one model: the same words, one place (links followed), or files of equal content.

    Files are read only where their names and sizes agree. False is no proof of the opposite: weights can be stored in
    other pieces or another precision, which only their log-probabilities tell.

    Args:
        one: a directory or a hub name.
        other: another.
    """
    if str(one) == str(other):
        return True
    first, second = Path(one), Path(other)
    if not (first.is_dir() and second.is_dir()):
        return False
    if first.samefile(second):
        return True
    ours, theirs = _parts(first), _parts(second)
    if not ours or {name: path.stat().st_size for name, path in ours.items()} != {
        name: path.stat().st_size for name, path in theirs.items()
    }:
        return False
    return all(
        path.samefile(theirs[name]) or digest_file(path) == digest_file(theirs[name]) for name, path in ours.items()
    )


def _parts(place: Path) -> dict[str, Path]:
    return {path.name: path for pattern in _PARTS for path in sorted(place.glob(pattern)) if path.is_file()}
