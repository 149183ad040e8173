"""CLAIMS: what can be reproduced. Each world has its own table beside its checks."""

from pairwright.reproduce.claim import Claim
from pairwright.reproduce.tabular import TABULAR
from pairwright.reproduce.tree import TREE

CLAIMS: dict[str, Claim] = {**TABULAR, **TREE}
