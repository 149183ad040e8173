"""CLAIMS: what can be reproduced. Each world has its own table beside its checks."""

from pairwright.reproduce.claim import Claim
from pairwright.reproduce.language.claims_controls import CONTROLS
from pairwright.reproduce.language.claims_overoptimised import OVEROPTIMISED
from pairwright.reproduce.language.claims_rivals import RIVALS
from pairwright.reproduce.language.claims_selecting import SELECTING
from pairwright.reproduce.language.claims_variants import VARIANTS
from pairwright.reproduce.tabular import TABULAR
from pairwright.reproduce.tree import TREE

LANGUAGE: dict[str, Claim] = {**CONTROLS, **VARIANTS, **RIVALS, **SELECTING, **OVEROPTIMISED}

CLAIMS: dict[str, Claim] = {**TABULAR, **TREE, **LANGUAGE}
