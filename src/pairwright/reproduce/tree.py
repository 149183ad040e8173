"""The claims that a tree of tokens decides, where every value is known by soft value iteration."""

from pairwright.reproduce.claim import Claim

TREE: dict[str, Claim] = {}
