"""The claims about optimising a language model too far."""

from pairwright.reproduce.claim import Claim

_LAWS = "arXiv 2406.02900"
_LIKELIHOOD = "arXiv 2410.11677"
_HOME = "pairwright.reproduce.language.overoptimised"

OVEROPTIMISED: dict[str, Claim] = {
    "model_hump": Claim(
        name="model_hump",
        says="Trained for one epoch on the labels of a judge that is not gold, a model's gold score rises with the "
        "distance from the start and falls again at small beta, for DPO, IPO and SLiC's hinge.",
        paper="A hump over sqrt(KL) for DPO, SLiC and IPO (Pythia 1B to 6.9B, summaries), mildest for IPO; the law "
        "d (a - b log d) has about half of the error of a quadratic in KL.",
        source=f"{_LAWS}, sections 3 and 4",
        world="language",
        check=f"{_HOME}:hump",
    ),
    "model_hump_ipo_mildest": Claim(
        name="model_hump_ipo_mildest",
        says="At equal nominal beta IPO stays nearer to the start than DPO and SLiC's hinge, and its gold falls less "
        "beyond its peak.",
        paper="IPO has the smallest KL at the same beta and over-optimises least; the 6.9B model with IPO hardly does.",
        source=f"{_LAWS}, section 3",
        world="language",
        check=f"{_HOME}:hump_ipo_mildest",
    ),
    "model_hump_sizes": Claim(
        name="model_hump_sizes",
        says="Smaller models over-optimise earlier and fall further.",
        paper="Pythia 1B peaks at a smaller KL than 2.8B and 6.9B and loses more beyond it.",
        source=f"{_LAWS}, section 3",
        world="language",
        check=f"{_HOME}:hump_sizes",
    ),
    "model_early_decline": Claim(
        name="model_early_decline",
        says="At small beta gold peaks in the first half of the only epoch; from there on the distance from the start "
        "grows and gold falls.",
        paper="The best checkpoint at small beta is often that of 25% of the only epoch.",
        source=f"{_LAWS}, section 3",
        world="language",
        check=f"{_HOME}:early_decline",
    ),
    "model_turning_points": Claim(
        name="model_turning_points",
        says="The entropy of the ten most likely next tokens rises and turns near the peak of gold with DPO and IPO; "
        "with hinge the mass of these tokens falls.",
        paper="Entropy reverses where the win rate peaks (DPO, IPO); with hinge entropy keeps rising while the mass of "
        "the top 10 falls.",
        source=f"{_LIKELIHOOD}, section 4",
        world="language",
        check=f"{_HOME}:turning_points",
    ),
    "model_accuracy_blind": Claim(
        name="model_accuracy_blind",
        says="Neither the accuracy of the implicit reward on held-out pairs nor the loss there predicts gold across "
        "trainings of one size.",
        paper="Within a size of model, accuracy and loss are weakly related to the win rate.",
        source=f"{_LAWS}, section 4",
        world="language",
        check=f"{_HOME}:accuracy_blind",
    ),
    "model_length_judge": Claim(
        name="model_length_judge",
        says="With a judge that takes fillers for effort, DPO learns to write fillers and gold falls; R-DPO gets more "
        "gold, but still has a hump.",
        paper="R-DPO moves the frontier of win rate over KL and does not remove over-optimisation.",
        source=f"{_LAWS}, section 4",
        world="language",
        check=f"{_HOME}:length_judge",
    ),
}
