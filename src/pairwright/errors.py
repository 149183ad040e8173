"""What can go wrong, and the exit code that each kind has on the command line.

    PairwrightError      1   the job was right but failed
    └── InputError       2   the request or the data is wrong: one sentence, with the remedy
        └── MissingExtra 2   a part of pairwright that is not installed

An error message is one plain sentence. It names the file, the line or the column, and what to do.
"""

from importlib import import_module
from types import ModuleType


class PairwrightError(Exception):
    """The job failed, though the request was right."""

    exit_code = 1


class InputError(PairwrightError):
    """The request or its input is wrong; the message says what, where, and the remedy."""

    exit_code = 2


class MissingExtra(InputError):
    """A library of an optional part is not installed; the message gives the command that installs it."""


def need(module: str, *, extra: str) -> ModuleType:
    """Import an optional library, or say in one sentence how to install it.

    Args:
        module: dotted name of the module, for example `"torch"`.
        extra: the part of pairwright that brings it, for example `"train"`.

    Raises:
        MissingExtra: the library is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra(
            f"{module.split('.')[0]} is not installed; run: pip install 'pairwright[{extra}]'"
        ) from error
