"""The command line: one verb for one function, its flags from that function's signature. No logic lives here.

    menu.py       the verbs, and `pairwright --help`
    flags.py      a signature as flags
    data.py       verbs from preferences to preferences, `convert` and `audit`
    store.py      logprobs, and what its store holds
    models.py     verbs with a model: scratch, train, generate, evaluate
    runs.py       run, quickstart, report
    lists.py      list
    out.py        what is shown and where

Exit codes: 0 done, 1 the job failed, 2 bad usage or bad input, 130 stopped by the user.
"""

from pairwright.cli.menu import main

__all__ = ["main"]
