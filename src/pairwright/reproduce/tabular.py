"""The claims that a table of prompts and answers decides: every policy, KL divergence and expectation is exact."""

from pairwright.reproduce.claim import Claim

_RAD = "arXiv 2410.08067"
_HOME = "pairwright.reproduce"

TABULAR: dict[str, Claim] = {
    "toy_tables": Claim(
        name="toy_tables",
        says="DPO cannot tell an answer of 9 from one of 1 when neither was compared with the other; relabelled DPO "
        "gives the answer that is asked for.",
        paper="T1: DPO (1, 0), asked for 9 (1, 0), for 8 (0, 1). T2: DPO (0.5, 0.5, 0), asked for 9, 1, 0 all on the "
        "first, second, third answer.",
        source=f"{_RAD}, tables 1 and 2",
        world="tabular",
        check=f"{_HOME}.exact:toy_tables",
    ),
    "goals_steer": Claim(
        name="goals_steer",
        says="A policy trained on relabelled pairs gives better answers the higher the score that is asked for, near "
        "the score asked for where there are such answers.",
        paper="Qwen2-7B asked for 10, 8, 6: win rates by length-controlled AlpacaEval 2 of 31.17, 28.66, 25.56.",
        source=f"{_RAD}, table 13 and equation 4.1",
        world="tabular",
        check=f"{_HOME}.exact:goals_steer",
    ),
    "dpo_minimiser": Claim(
        name="dpo_minimiser",
        says="DPO over a whole population of Bradley-Terry comparisons rests at the optimum of reward under a KL "
        "penalty, start * exp(reward / beta).",
        paper="A derivation.",
        source="arXiv 2305.18290, equation 4",
        world="tabular",
        check=f"{_HOME}.exact:dpo_minimiser",
    ),
    "smoothed_elsewhere": Claim(
        name="smoothed_elsewhere",
        says="On labels of which a known share is turned, rDPO rests at the true optimum and cDPO does not.",
        paper="A derivation.",
        source="arXiv 2403.00409",
        world="tabular",
        check=f"{_HOME}.exact:smoothed_elsewhere",
    ),
    "robust_unbiased": Claim(
        name="robust_unbiased",
        says="The mean of rDPO over labels turned at random is DPO on the true ones, for every policy.",
        paper="A derivation.",
        source="arXiv 2403.00409",
        world="tabular",
        check=f"{_HOME}.exact:robust_unbiased",
    ),
    "underdetermined": Claim(
        name="underdetermined",
        says="The loss does not say what becomes of answers that were never compared: with three answers of which two "
        "were compared both ways, all of the probability on the third is as good as none.",
        paper="A derivation: both (0.5, 0.5, 0) and (0, 0, 1) are optimal.",
        source="arXiv 2406.02900",
        world="tabular",
        check=f"{_HOME}.exact:underdetermined",
    ),
}
