"""The claims about variants of relabelling: which copies, which scores, which loss, and how many pairs."""

from pairwright.reproduce.claim import Claim

_RAD = "arXiv 2410.08067"
_HOME = "pairwright.reproduce.language.variants"

VARIANTS: dict[str, Claim] = {
    "ra_plus_and_noise": Claim(
        name="ra_plus_and_noise",
        says="The more the judge errs, the more the negative copies are worth: the difference of RA and RA+ in gold "
        "is larger with a judge that errs by 4 points than with an exact one.",
        paper="Llama-3-8B, answers of its own: with a weak ranker (PairRM) RA 48.20, RA+ 44.72; with a strong one "
        "(ArmoRM) RA+ alone reaches 48.73.",
        source=f"{_RAD}, table 7",
        world="language",
        check=f"{_HOME}:ra_plus_and_noise",
    ),
    "filter_high_low": Claim(
        name="filter_high_low",
        says="Of the negative copies those that ask for 5 or more are worth more than those that ask for less: RA "
        "without the low ones has more gold than RA without the high ones.",
        paper="Qwen2-7B: without the high ones 29.36, without the low ones 31.81, with all 31.17; the threshold is "
        "not given.",
        source=f"{_RAD}, table 14",
        world="language",
        check=f"{_HOME}:filter_high_low",
    ),
    "score_scales": Claim(
        name="score_scales",
        says="It hardly matters whether goals are printed from 1 to 5, to 10 or to 100: every two scales differ by "
        "less than half a point of gold, each asked for its top.",
        paper="Qwen2-7B with 5, 10 and 100: 29.85, 31.17, 31.81.",
        source=f"{_RAD}, table 15",
        world="language",
        check=f"{_HOME}:score_scales",
    ),
    "ira": Claim(
        name="ira",
        says="Relabelled by the implicit rewards of a plainly trained model in place of a judge's scores and asked "
        "for 10, a model has more gold than by plain DPO.",
        paper="Qwen2-7B: IRA 32.61, RA 31.17, plain 21.46 (AlpacaEval 2); Arena-Hard 28.3, 30.1, 21.9.",
        source=f"{_RAD}, section 6.2 and table 5",
        world="language",
        check=f"{_HOME}:ira",
    ),
    "second_round": Claim(
        name="second_round",
        says="Relabelled training of a model that plain DPO has trained already, asked for 10, has more gold than "
        "that model.",
        paper="SPPO, a model trained on preferences: 55.60 before, 52.75 after plain DPO, 60.97 after RA.",
        source=f"{_RAD}, table 11",
        world="language",
        check=f"{_HOME}:second_round",
    ),
    "multi_attribute": Claim(
        name="multi_attribute",
        says="Relabelled by three attributes at once and asked for the top of all, a model has a higher mean mark "
        "over the attributes than one relabelled by the overall score and asked for its top.",
        paper="Llama-3-8B with five attributes: 56.57, where RA+ with the overall score of the same judge has 48.73.",
        source=f"{_RAD}, tables 7 and 9",
        world="language",
        check=f"{_HOME}:multi_attribute",
    ),
    "algorithm_1": Claim(
        name="algorithm_1",
        says="The likelihood of the better answer under the goal of generation, added to the loss, helps: RA with "
        "Algorithm 1's regulariser has more gold than RA without.",
        paper="A bound that needs the regulariser; the paper's trainings leave it out and, for two of five models, "
        "smooth the labels by 0.3.",
        source=f"{_RAD}, Algorithm 1 and appendix B.1",
        world="language",
        check=f"{_HOME}:algorithm_1",
    ),
    "gap_falls_with_pairs": Claim(
        name="gap_falls_with_pairs",
        says="What RA asked for 10 lacks to the top score falls with the number of instructions that it was trained "
        "on, at equal steps.",
        paper="A bound that falls with the power -1/2.",
        source=f"{_RAD}, theorem of appendix A.4",
        world="language",
        check=f"{_HOME}:gap_falls_with_pairs",
    ),
}
"""By name, in the order of the page."""
