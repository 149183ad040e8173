"""The verbs of the command line, the start of every command, and the end of one that fails."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple, cast

from pairwright.errors import PairwrightError
from pairwright.plug import nearest


class Command(NamedTuple):
    """A verb of the command line."""

    says: str
    """Its line in `pairwright --help`."""
    runs: str
    """`module:function`, called with the verb and the arguments behind it; gives the exit code."""


COMMANDS: dict[str, Command] = {
    "quickstart": Command("the whole job, offline, from nothing, in minutes", "pairwright.cli.runs:quickstart"),
    "run": Command("run a recipe, or finish one that was stopped", "pairwright.cli.runs:run"),
    "convert": Command("preference data from one format to another", "pairwright.cli.data:convert"),
    "audit": Command("what is wrong with preference data", "pairwright.cli.data:audit"),
    "score": Command("put a number on every answer", "pairwright.cli.data:change"),
    "pair": Command("make pairs of scored answers", "pairwright.cli.data:change"),
    "split": Command("set prompts aside for testing", "pairwright.cli.data:change"),
    "logprobs": Command("log-probabilities of the answers under a model", "pairwright.cli.store:logprobs"),
    "select": Command("keep the pairs that teach most", "pairwright.cli.data:change"),
    "relabel": Command("make pairs that ask for a score", "pairwright.cli.data:change"),
    "scratch": Command("a tokenizer and a small random model", "pairwright.cli.models:scratch"),
    "train": Command("align a model on pairs", "pairwright.cli.models:train"),
    "generate": Command("answers of a model, at a goal if you like", "pairwright.cli.models:generate"),
    "as_asked": Command("put the goal of generated answers into their prompts", "pairwright.cli.data:change"),
    "evolve": Command("new prompts out of old ones, written by a model", "pairwright.cli.prompts:evolve"),
    "merge": Command("two sets of preferences as one", "pairwright.cli.prompts:merge"),
    "evaluate": Command("measures and benchmarks, listed by evaluate --help", "pairwright.cli.evaluate:evaluate"),
    "diagnose": Command("what training did, and what to try", "pairwright.cli.diagnose:diagnose"),
    "report": Command("one HTML file about one or more runs", "pairwright.cli.runs:report"),
    "reproduce": Command("check what papers claim, where it can be known", "pairwright.cli.reproduce:reproduce"),
    "list": Command("what there is: losses, metrics, modes, formats, ...", "pairwright.cli.lists:show"),
}

_END = """
pairwright VERB --help tells what a verb takes. Errors are one sentence; --debug adds the traceback.
Exit codes: 0 done, 1 the job failed, 2 bad usage or bad input."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code.

    Args:
        arguments: the words behind `pairwright`; those of the process when not given.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_menu())
        return 0
    if words[0] in ("-V", "--version", "version"):
        from importlib.metadata import version

        print(f"pairwright {version('pairwright')}")
        return 0
    verb, behind = words[0], words[1:]
    if verb not in COMMANDS:
        hint = nearest(verb, COMMANDS) or "; pairwright --help lists the verbs"
        return _complain(f"there is no verb {verb!r}{hint}", 2)
    return _guarded(verb, behind)


def _guarded(verb: str, behind: list[str]) -> int:
    """Run a verb; whatever goes wrong becomes one sentence and an exit code."""
    module, _, name = COMMANDS[verb].runs.partition(":")
    debug = "--debug" in behind
    try:
        command = cast(Callable[[str, list[str]], int], getattr(import_module(module), name))
        code = command(verb, behind)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # the flags' parser, after its help (0) or its complaint (2)
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        return _complain("stopped", 130)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has gone: nobody is left to complain to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PairwrightError as error:
        if debug:
            traceback.print_exc()
        return _complain(str(error), error.exit_code)
    except BaseException as error:  # not only Exception: a panic inside Polars is none
        if debug:
            traceback.print_exc()
        what = str(error).strip().split("\n", 1)[0] or "no message"
        remedy = "the traceback is above" if debug else "run again with --debug for the traceback"
        return _complain(f"{verb} failed with {type(error).__name__}: {what}; {remedy}", 1)


def _complain(sentence: str, code: int) -> int:
    print(f"pairwright: {sentence}", file=sys.stderr)
    return code


def _menu() -> str:
    width = max(map(len, COMMANDS))
    verbs = "\n".join(f"  {name:<{width}}  {command.says}" for name, command in COMMANDS.items())
    what = "Better preference data out of scored preference data, and models aligned on it."
    return f"usage: pairwright VERB [arguments]\n\n{what}\n\nverbs:\n{verbs}\n{_END}"
