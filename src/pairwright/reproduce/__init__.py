"""What papers claim, tested in worlds where every quantity can be known.

`CLAIMS` lists the claims; `reproduce` checks them and says of each whether it holds, does not hold, or is not
identified by what was done. A claim says what it found in an `Outcome`; `Setup` says how many seeds it may use.
"""

from pairwright.reproduce.claim import Claim, Outcome, Setup, Verdict
from pairwright.reproduce.table import CLAIMS
from pairwright.reproduce.verb import Reproduction, reproduce

__all__ = ["CLAIMS", "Claim", "Outcome", "Reproduction", "Setup", "Verdict", "reproduce"]
