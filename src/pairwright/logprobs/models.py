"""Open a model and its tokenizer from a directory or a hub name.

A directory holds a whole model, or a PEFT adapter (`adapter_config.json`) that names the base model it was put on. A
base may be an adapter's directory itself: that adapter is then merged into its own base before the next is put on top.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pairwright.errors import InputError, need
from pairwright.reader import check_place, open_reader, sentence

if TYPE_CHECKING:
    import torch

Dtype = Literal["float32", "bfloat16", "float16"]

ADAPTER = "adapter_config.json"
"""The file by which a directory is known as an adapter's."""
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model", "vocab.json")


class Parts(NamedTuple):
    """What a model is made of.

    Attributes:
        base: a `save_pretrained` directory or a hub name.
        adapters: directories of the adapters on it, the first put on first; empty for a whole model.
    """

    base: str
    adapters: tuple[Path, ...] = ()


def parts_of(model: str | Path) -> Parts:
    """The base model and the adapters behind a name; a whole model is its own base.

    The base that an adapter names is looked for as it stands (absolute, or from the current directory), then from the
    adapter's own directory; what is neither is taken for a hub name. A name that begins with `./` is looked for from
    the adapter's directory first, and one that begins with `..`, as `train` writes it, from there alone: another run's
    directory of that name may lie beside the current one.

    Raises:
        InputError: an adapter's directory is not whole, or its base is not there.
    """
    adapters: list[Path] = []
    place = str(model)
    while (Path(place) / ADAPTER).is_file():
        folder = Path(place)
        if any(folder.resolve() == other.resolve() for other in adapters):
            raise InputError(f"the adapter {folder} names itself as its base; set base_model_name_or_path in {ADAPTER}")
        if not any((folder / name).is_file() for name in _WEIGHTS):
            raise InputError(f"{folder} has an {ADAPTER} and no {_WEIGHTS[0]}; save the adapter there again")
        adapters.append(folder)
        place = _base_of(folder)
    return Parts(place, tuple(reversed(adapters)))


def _base_of(adapter: Path) -> str:
    """Where the base of an adapter is."""
    said = f"base_model_name_or_path in {adapter / ADAPTER}"
    try:
        name = json.loads((adapter / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{adapter / ADAPTER} is no JSON object; save the adapter there again") from error
    if not isinstance(name, str) or not name:
        raise InputError(f"the adapter {adapter} names no base model; set {said}")
    beside, here = adapter / name, Path(name)
    places = (beside,) if name.startswith("..") else (beside, here) if name.startswith(".") else (here, beside)
    for place in places:
        if place.is_dir():
            return str(place)
    # A hub name is `name` or `owner/name`; anything else can only be a directory.
    if Path(name).is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise InputError(f"the base model of the adapter {adapter} is not at {name!r}; put it there or set {said}")
    return name


def open_model(model: str | Path, *, dtype: Dtype = "float32") -> "torch.nn.Module":
    """A causal language model in evaluation mode, on the CPU.

    Args:
        model: a `save_pretrained` directory, a hub name, or the directory of a PEFT adapter (which is put on its base
            and not merged).
        dtype: precision of its weights.

    Raises:
        InputError: there is no such model or base, it is none for text generation, or the adapter does not fit.
    """
    base, adapters = parts_of(model)
    found = _open_whole(base, dtype)
    for adapter in adapters[:-1]:
        found = merged(put_on(found, adapter))
    return (put_on(found, adapters[-1]) if adapters else found).eval()


def put_on(network: "torch.nn.Module", adapter: Path, *, trainable: bool = False) -> "torch.nn.Module":
    """A model with a saved adapter on it, as a `PeftModel`.

    Raises:
        InputError: the adapter was made for another model.
    """
    peft = need("peft", extra="train")
    try:
        with quiet_peft():
            found = peft.PeftModel.from_pretrained(network, str(adapter), is_trainable=trainable)
    except (OSError, ValueError, KeyError, RuntimeError, UserWarning) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the adapter {adapter} does not fit its base model: {first}") from error
    return found  # type: ignore[no-any-return]


def merged(network: "torch.nn.Module") -> "torch.nn.Module":
    """A plain model with the adapter's weights added to its own."""
    inner: Any = network
    with quiet_peft():
        plain = inner.merge_and_unload()
    if hasattr(plain, "peft_config"):  # else the next adapter would be taken for a second one
        del plain.peft_config
    return plain  # type: ignore[no-any-return]


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without the warnings of peft that no user can do anything about; weights that are missing are an error."""
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5 for a name that it calls deprecated.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        warnings.filterwarnings("error", message="Found missing adapter keys", category=UserWarning)
        yield


def _open_whole(model: str, dtype: Dtype) -> "torch.nn.Module":
    torch: Any = need("torch", extra="train")
    transformers = need("transformers", extra="train")
    from pairwright.logprobs.attention import use_forest_attention

    check_place("model", model)
    try:
        with no_bars():
            found = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise InputError(sentence("model", model, error)) from error
    # The model's numbers stay what they were; trees of answers can then be computed without a mask (attention.py).
    use_forest_attention(found)
    return found  # type: ignore[no-any-return]


def open_config(model: str | Path) -> Any:
    """The configuration of a model (of an adapter: of its base), without its weights.

    Raises:
        InputError: there is no such model.
    """
    transformers = need("transformers", extra="train")
    model = parts_of(model).base
    check_place("model", model)
    try:
        return transformers.AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise InputError(sentence("model", model, error)) from error


def open_tokenizer(tokenizer: str | Path) -> Any:
    """A tokenizer with a chat template, the plain one where it has none (`pairwright.reader`).

    An adapter's tokenizer is in its directory, or else at its base.

    Raises:
        InputError: there is none at that place.
    """
    base, adapters = parts_of(tokenizer)
    own = (str(folder) for folder in reversed(adapters) if any((folder / name).is_file() for name in _TOKENIZER))
    return open_reader(next(own, base))


def name_of(model: str | Path) -> str:
    """The last part of a directory or hub name; of `run/02-train/model` or `.../adapter`, the step's directory."""
    place = Path(model)
    if place.is_dir():
        place = place.resolve()
    return place.parent.name if place.name in ("model", "adapter") and place.parent.name else place.name


def device_for_models() -> "torch.device":
    """CUDA where there is one, else the CPU."""
    torch: Any = need("torch", extra="train")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[no-any-return]


@contextmanager
def no_bars() -> Iterator[None]:
    """Without the bars that transformers draws for each model it opens or saves; ours say what is going on."""
    bars = need("transformers", extra="train").utils.logging
    drawn = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            bars.enable_progress_bar()
