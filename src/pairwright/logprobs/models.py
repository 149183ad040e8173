"""Open a model and its tokenizer from a directory or a hub name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pairwright.errors import InputError, need

if TYPE_CHECKING:
    import torch

Dtype = Literal["float32", "bfloat16", "float16"]


def open_model(model: str | Path, *, dtype: Dtype = "float32") -> "torch.nn.Module":
    """A causal language model in evaluation mode, on the CPU.

    Args:
        model: a `save_pretrained` directory or a hub name.
        dtype: precision of its weights.

    Raises:
        InputError: there is no such model, or it is none for text generation.
    """
    torch: Any = need("torch", extra="train")
    transformers = need("transformers", extra="train")
    try:
        with no_bars():
            found = transformers.AutoModelForCausalLM.from_pretrained(str(model), dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise InputError(_sentence("model", model, error)) from error
    return found.eval()  # type: ignore[no-any-return]


def open_config(model: str | Path) -> Any:
    """The configuration of a model, without its weights.

    Raises:
        InputError: there is no such model.
    """
    transformers = need("transformers", extra="train")
    try:
        return transformers.AutoConfig.from_pretrained(str(model))
    except (OSError, ValueError) as error:
        raise InputError(_sentence("model", model, error)) from error


def open_tokenizer(tokenizer: str | Path) -> Any:
    """A tokenizer with its chat template.

    Raises:
        InputError: there is none at that place.
    """
    transformers = need("transformers", extra="train")
    try:
        return transformers.AutoTokenizer.from_pretrained(str(tokenizer))
    except (OSError, ValueError) as error:
        raise InputError(_sentence("tokenizer", tokenizer, error)) from error


def name_of(model: str | Path) -> str:
    """The last part of a directory or hub name; of `run/02-train/model`, the step's directory."""
    place = Path(model)
    if place.is_dir():
        place = place.resolve()
    return place.parent.name if place.name == "model" and place.parent.name else place.name


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


def _sentence(kind: str, place: str | Path, error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"cannot open the {kind} {str(place)!r}: {first}; give a save_pretrained directory or a hub name"
