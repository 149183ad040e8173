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
    "ra_in_a_table": Claim(
        name="ra_in_a_table",
        says="Trained on relabelled pairs and asked for the top score, a policy is better than by plain DPO at "
        "equal steps.",
        paper="Qwen2-7B: 31.17 against 21.46 (AlpacaEval 2, length-controlled); five models, all in favour of RA.",
        source=f"{_RAD}, table 11",
        world="tabular",
        check=f"{_HOME}.arms:ra_in_a_table",
    ),
    "half_ra": Claim(
        name="half_ra",
        says="The same at equal rows: RA on half of the pairs is better than plain DPO on all.",
        paper="Qwen2-7B: 29.56 against 21.46; Gemma-2-9B: 53.12 against 50.70 (the former as re-read from a scan).",
        source=f"{_RAD}, table 6",
        world="tabular",
        check=f"{_HOME}.arms:half_ra",
    ),
    "prompt_only": Claim(
        name="prompt_only",
        says="A goal in the prompt does nothing without relabelled pairs.",
        paper="Qwen2-7B plainly trained, asked for 10: 24.44, against 21.46 without and 31.17 relabelled.",
        source=f"{_RAD}, table 13",
        world="tabular",
        check=f"{_HOME}.arms:prompt_only",
    ),
    "unlearning_order": Claim(
        name="unlearning_order",
        says="Rejected answers with good scores stay nearly as likely as at the start under relabelled training, "
        "slightly below it, and become far less likely by plain DPO.",
        paper="Log-probabilities: start above RA, far above plain DPO; the goal that RA is read under is not given.",
        source=f"{_RAD}, figure 3",
        world="tabular",
        check=f"{_HOME}.arms:unlearning_order",
    ),
    "suboptimality": Claim(
        name="suboptimality",
        says="The gap of relabelled DPO with the SFT regulariser (Algorithm 1) to the best policy falls with the "
        "number of pairs.",
        paper="A bound that falls with the power -1/2.",
        source=f"{_RAD}, theorem of appendix A.4 and Algorithm 1",
        world="tabular",
        check=f"{_HOME}.arms:suboptimality",
    ),
    "adversarial_sampling": Claim(
        name="adversarial_sampling",
        says="Taking the pair with the largest gap between target and margin needs fewer steps than uniform "
        "sampling, the more so the more pairs there are.",
        paper="A theorem on the number of steps under both samplings; its inequality is not legible in our copy.",
        source="arXiv 2503.01864, theorem 3.1",
        world="tabular",
        check=f"{_HOME}.selection:adversarial_sampling",
    ),
    "alignment_potential": Claim(
        name="alignment_potential",
        says="The 40% of the pairs by alignment potential have more right labels than those by its signed variant "
        "M_+, and give a gold score at least as high as those by explicit gap, implicit margin, M_+ or at "
        "random.",
        paper="Alignment potential first among the metrics; M_+ prefers labels that are wrong.",
        source="arXiv 2503.01864, figures 2 and 3",
        world="tabular",
        check=f"{_HOME}.selection:alignment_potential",
    ),
    "hump_noisy_labels": Claim(
        name="hump_noisy_labels",
        says="With labels that are wrong at random, the gold score rises with the distance from the start and "
        "falls again at small beta, for DPO, IPO and hinge.",
        paper="A hump for DPO, SLiC and IPO, mildest for IPO, with a judge in place of gold.",
        source="arXiv 2406.02900",
        world="tabular",
        check=f"{_HOME}.optimised:hump_noisy_labels",
    ),
    "hump_hijacked_judge": Claim(
        name="hump_hijacked_judge",
        says="With a judge that a few bad answers have found out, the gold score rises with the distance from the "
        "start and falls again at small beta, for DPO, IPO and hinge.",
        paper="A hump for DPO, SLiC and IPO, mildest for IPO, with a judge in place of gold.",
        source="arXiv 2406.02900",
        world="tabular",
        check=f"{_HOME}.optimised:hump_hijacked_judge",
    ),
    "length_exploitation": Claim(
        name="length_exploitation",
        says="A proxy that pays for length makes DPO long, the more so the smaller beta, at a cost in gold; R-DPO "
        "takes that out.",
        paper="R-DPO moves the frontier.",
        source="arXiv 2406.02900; arXiv 2403.19159",
        world="tabular",
        check=f"{_HOME}.optimised:length_exploitation",
    ),
}
