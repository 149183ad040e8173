"""A process that works for another one says nothing: no bars, no advice of libraries."""

import logging
import warnings
from typing import Any

from pairwright.errors import need


def hush() -> None:
    """From here on this process prints nothing but its errors."""
    transformers: Any = need("transformers", extra="train")

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
