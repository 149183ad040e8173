"""What a model is, apart from where it lies: a digest of all that decides its log-probabilities.

Weights and shape count, and the code of a model that brings its own; a tokenizer, a README or a trainer's files do not.
The digest of a large file is remembered by its place, size and time of change, so that it is read once.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from pairwright.errors import InputError, need
from pairwright.logprobs.models import ADAPTER, parts_of
from pairwright.place import store_place, write_small
from pairwright.runs import digest_file, digest_of

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model*.bin", "*.index.json", "*.py")
_SETTINGS = ("config.json", ADAPTER)
_NO_MATTER = frozenset(
    {
        "_name_or_path",
        "base_model_name_or_path",  # the base counts by its content
        "transformers_version",
        "peft_version",
        "dtype",  # the one that a model is opened with counts
        "torch_dtype",
        "use_cache",
        "inference_mode",
        "task_type",
        "revision",
    }
)
"""Entries of a configuration that change no number."""
_FRESH = 3.0
"""Seconds; a file that was changed so shortly ago may change again without a new time, and is not remembered."""


def model_digest(model: str | Path) -> str:
    """Digest of a model's content: of its base, and of each adapter on it, in their order.

    A directory is known by what its files hold, wherever it lies; a name of the hub by the commit that it stands for.

    Raises:
        InputError: there is no such model.
    """
    base, adapters = parts_of(model)
    parts = [_of_directory(Path(base)) if Path(base).is_dir() else _of_hub(base), *map(_of_directory, adapters)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def same_model(one: str | Path, other: str | Path) -> bool:
    """Whether two names stand for one model: the same words, one place (links followed), or equal content.

    False is no proof of the opposite: the same weights in other pieces or another precision have another digest, and
    only their log-probabilities tell.

    Raises:
        InputError: there is no such model.
    """
    if str(one) == str(other):
        return True
    places = Path(one), Path(other)
    if all(place.is_dir() for place in places) and places[0].samefile(places[1]):
        return True
    return model_digest(one) == model_digest(other)


def _of_directory(folder: Path) -> str:
    files = {
        path.name: _of_file(path) for pattern in _WEIGHTS for path in sorted(folder.glob(pattern)) if path.is_file()
    }
    files |= {name: _of_settings(folder / name) for name in _SETTINGS if (folder / name).is_file()}
    return digest_of(files)


def _of_settings(file: Path) -> str:
    """A configuration by what it says; the order of its names, and of a list that was a set, does not count."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is no JSON ({type(error).__name__}); save the model there again") from error
    return hashlib.sha256(json.dumps(_plain(said), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        found = {key: _plain(inside) for key, inside in value.items() if key not in _NO_MATTER}
        for key in ("target_modules", "modules_to_save"):  # peft writes a set, in any order
            if isinstance(found.get(key), list):
                found[key] = sorted(map(str, found[key]))
        return found
    return [_plain(inside) for inside in value] if isinstance(value, list) else value


def _of_file(file: Path) -> str:
    """Digest of a file, out of the store where the file is still what it was."""
    seen = file.stat()
    there: dict[str, Any] = {
        "path": str(file.resolve()),
        "size": seen.st_size,
        "changed": seen.st_mtime_ns,
        "inode": seen.st_ino,
    }
    note = (
        store_place()
        / "digests"
        / f"{hashlib.sha256(there['path'].encode('utf-8', 'surrogateescape')).hexdigest()}.json"
    )
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if {key: known.get(key) for key in there} == there:
            return str(known["digest"])
    except (OSError, ValueError, KeyError, AttributeError):
        pass  # never read before, or the note is damaged: the file is read
    found = digest_file(file)
    if time.time() - seen.st_mtime > _FRESH:
        write_small(note, json.dumps(there | {"digest": found}))
    return found


def _of_hub(name: str) -> str:
    """A name of the hub by the commit whose files are, or will be, opened."""
    hub: Any = need("transformers", extra="train").utils.hub
    try:
        config = hub.cached_file(name, "config.json")
        commit = hub.extract_commit_hash(config, None)
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"cannot open the model {name!r}: {first}; give a save_pretrained directory or a hub name"
        ) from error
    if commit is None:
        return _of_directory(Path(config).parent)
    return hashlib.sha256(f"hub\0{name}\0{commit}".encode()).hexdigest()
