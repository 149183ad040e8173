"""The claims that a tree of tokens decides, where every value is known by soft value iteration."""

from pairwright.reproduce.claim import Claim

_Q = "arXiv 2404.12358"
_SCALING = "arXiv 2406.02900"
_LIKELIHOOD = "arXiv 2410.11677"
_HOME = "pairwright.reproduce"

_CLAIMS = (
    Claim(
        name="token_rewards",
        says="At the optimum the implicit reward of a token is its advantage A* = r + V*(next) - V*(here), although "
        "DPO sees whole answers only; rewards shaped by a potential give the same.",
        paper="A theorem.",
        source=f"{_Q}, on the token-level decision process",
        world="tree",
        check=f"{_HOME}.trees:token_rewards",
    ),
    Claim(
        name="value_beams",
        says="Beam search on the plain log-likelihood of the optimal policy is a search on reward so far and V* ahead.",
        paper="A derivation: the expansion telescopes to -V*(s0) + sum of beta log pi*.",
        source=f"{_Q}, on likelihood search",
        world="tree",
        check=f"{_HOME}.trees:value_beams",
    ),
    Claim(
        name="credit_finds_errors",
        says="A policy trained by DPO on labels of whole answers gives a corrupted token a lower implicit reward than "
        "the others, and finds it better than the reference's log-probability does.",
        paper="Shown in coloured text only: wrong facts put into summaries have low rewards, later tokens recover.",
        source=f"{_Q}, on credit assignment; the numbers are ours",
        world="tree",
        check=f"{_HOME}.trees:credit_finds_errors",
    ),
    Claim(
        name="credit_beats_likelihood",
        says="The implicit reward finds a corrupted token better than the policy's own log-probability does.",
        paper="Not compared.",
        source=f"{_Q}, on credit assignment; the comparison is ours",
        world="tree",
        check=f"{_HOME}.trees:credit_beats_likelihood",
    ),
    Claim(
        name="unseen_mass_fitted",
        says="DPO on a few pairs moves probability from the answers in the pairs to answers in none; in networks that "
        "were fitted to the chosen answers before.",
        paper="In a toy tree with three actions the mass in the data falls while unseen trajectories gain.",
        source=f"{_SCALING}, toy tree",
        world="tree",
        check=f"{_HOME}.tree_training:unseen_mass_fitted",
    ),
    Claim(
        name="unseen_mass_network",
        says="The same in networks that were not fitted before.",
        paper="In a toy tree with three actions the mass in the data falls while unseen trajectories gain.",
        source=f"{_SCALING}, toy tree",
        world="tree",
        check=f"{_HOME}.tree_training:unseen_mass_network",
    ),
    Claim(
        name="unseen_mass_table",
        says="The same in tables of logits, which share nothing between states.",
        paper="In a toy tree with three actions the mass in the data falls while unseen trajectories gain.",
        source=f"{_SCALING}, toy tree",
        world="tree",
        check=f"{_HOME}.tree_training:unseen_mass_table",
    ),
    Claim(
        name="unseen_mass_small_beta",
        says="In fitted networks unseen answers gain more at a small beta than at a large one.",
        paper="Worse at small beta, of 0.01, 0.1 and 0.5.",
        source=f"{_SCALING}, toy tree",
        world="tree",
        check=f"{_HOME}.tree_training:unseen_mass_small_beta",
    ),
    Claim(
        name="chosen_falls",
        says="If the reference was fitted to the chosen answers their mean implicit reward is -beta KL(ref || pi), so "
        "it falls below 0 as soon as training moves.",
        paper="An identity, E_ref[beta log pi/ref] = -beta KL(ref || pi), and curves that fall.",
        source=f"{_Q}, on falling likelihoods",
        world="tree",
        check=f"{_HOME}.tree_training:chosen_falls",
    ),
    Claim(
        name="chosen_stays_up",
        says="If the reference was not fitted to the chosen answers their mean implicit reward stays above 0.",
        paper="No clear trend without the fit, and chosen rewards above 0.",
        source=f"{_Q}, on falling likelihoods",
        world="tree",
        check=f"{_HOME}.tree_training:chosen_stays_up",
    ),
    Claim(
        name="early_decline_noise",
        says="At a small beta gold is highest within the first half of the only epoch and falls while KL goes on "
        "rising, more than at a large beta; with labels turned at random.",
        paper="At small beta the win rate is best after about 25% of one epoch.",
        source=f"{_SCALING}, training dynamics",
        world="tree",
        check=f"{_HOME}.tree_epochs:early_decline_noise",
    ),
    Claim(
        name="early_decline_hijack",
        says="The same with labels of a judge that likes a phrase which makes answers worse.",
        paper="At small beta the win rate is best after about 25% of one epoch.",
        source=f"{_SCALING}, training dynamics",
        world="tree",
        check=f"{_HOME}.tree_epochs:early_decline_hijack",
    ),
    Claim(
        name="turning_points",
        says="The entropy of the most likely next tokens (DPO, IPO) and their mass (hinge) turn where gold is highest.",
        paper="Entropy rises, then reverses near the best win rate; with hinge losses the mass of the top 10 falls.",
        source=f"{_LIKELIHOOD}, indicators",
        world="tree",
        check=f"{_HOME}.tree_epochs:turning_points",
    ),
)

TREE: dict[str, Claim] = {claim.name: claim for claim in _CLAIMS}
