"""The claims that a table of prompts and answers decides: every policy, KL divergence and expectation is exact."""

from pairwright.reproduce.claim import Claim

TABULAR: dict[str, Claim] = {}
