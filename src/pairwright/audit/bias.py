"""Checks for what the label follows besides quality."""

from pairwright.audit.facts import Facts
from pairwright.audit.finding import ROWS, Finding
from pairwright.preferences import Preferences
from pairwright.stats import log_odds, wilson

Data = Preferences | Facts

REMEDY = (
    "Compare with a length-controlled metric, balance the pairs by `length_gap`, or train with a loss that normalises "
    "by length."
)


def length_bias(data: Data) -> Finding:
    """The chosen answer is longer (in characters) more often than not.

    `count` is the pairs whose chosen answer is longer, `share` their part of the pairs whose lengths differ, and
    `interval` the log-odds of that share: 0 is no bias, positive is a label that likes length, negative one that likes
    brevity. It is a warning where the interval of the share leaves out one half, and a note where it does not. That
    longer answers are preferred need not be wrong: they may be better.
    """
    facts = Facts.of(data)
    chosen, rejected = facts.side("chosen", "chars"), facts.side("rejected", "chars")
    longer, differ = (chosen > rejected).fill_null(False), (chosen != rejected).fill_null(False)
    k, n = int(longer.sum()), int(differ.sum())
    share, odds = wilson(k, n), log_odds(k, n)
    says = (
        f"The chosen answer is the longer one in {k:,} of {n:,} pairs whose lengths differ: {share.value:.1%} "
        f"(95% interval {share.low:.1%} to {share.high:.1%}), log-odds {odds.value:+.2f} ({odds.low:+.2f} to "
        f"{odds.high:+.2f})."
        if n
        else "No pair has answers of different lengths."
    )
    biased = bool(share.low > 0.5 or share.high < 0.5)
    rows = longer.arg_true()
    return Finding(
        check="length_bias",
        count=k,
        share=share.value,
        rows=tuple(rows.head(ROWS).to_list()),
        says=says,
        remedy=REMEDY if biased else "",
        level="warning" if biased else "note" if n else "fine",
        interval=odds,
        rows_left_out=max(0, k - ROWS),
    )
