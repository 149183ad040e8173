"""Claims that set relabelled training of a language model against its controls, and what its gain needs."""

from pairwright.reproduce.claim import Claim

_RAD = "arXiv 2410.08067"
_HOME = "pairwright.reproduce.language"
_OWN = "Not in the paper: an ablation of ours."
_TEN = 10
"""Seeds of RA's lead over plain DPO and of what it needs: plain DPO at its best differs much from base to base."""

CONTROLS: dict[str, Claim] = {
    "ra_beats_dpo": Claim(
        name="ra_beats_dpo",
        says="A model trained on relabelled pairs and asked for the top score answers better than one trained by "
        "plain DPO on the same pairs with as many steps.",
        paper="Qwen2-7B: 31.17 against 21.46 (AlpacaEval 2, length-controlled); five models, all in favour of RA.",
        source=f"{_RAD}, table 11",
        world="language",
        check=f"{_HOME}.controls:ra_beats_dpo",
        seeds=_TEN,
    ),
    "half_ra_beats_dpo": Claim(
        name="half_ra_beats_dpo",
        says="The same at equal rows: RA on half of the pairs is better than plain DPO on all. And plain DPO with "
        "twice the steps stays behind RA.",
        paper="Half-RA, Qwen2-7B: 29.56 against 21.46; Gemma-2-9B: 53.12 against 50.70 (the former as re-read from a "
        "scan). Twice the steps: a control of ours.",
        source=f"{_RAD}, table 6",
        world="language",
        check=f"{_HOME}.controls:half_ra_beats_dpo",
        seeds=_TEN,
    ),
    "goal_beyond_prompt": Claim(
        name="goal_beyond_prompt",
        says="It is not the goal in the prompt alone: asked for the top score, a model trained on relabelled pairs "
        "answers better than a plainly trained one, and than the base.",
        paper="Qwen2-7B plainly trained, asked for 10: 24.44, against 21.46 without and 31.17 relabelled.",
        source=f"{_RAD}, table 13",
        world="language",
        check=f"{_HOME}.controls:goal_beyond_prompt",
        seeds=_TEN,
    ),
    "model_goals_steer": Claim(
        name="model_goals_steer",
        says="A model trained on relabelled pairs answers better the higher the score that is asked for, follows the "
        "goal more closely than its base, and does so beyond the scores that it was trained on.",
        paper="Qwen2-7B asked for 10, 8, 6: 31.17, 28.66, 25.56 (AlpacaEval 2, length-controlled).",
        source=f"{_RAD}, table 13 and section 3.1",
        world="language",
        check=f"{_HOME}.controls:model_goals_steer",
    ),
    "model_unlearning": Claim(
        name="model_unlearning",
        says="Held-out rejected answers with good scores are slightly less likely than at the start under relabelled "
        "training, and far less likely by plain DPO.",
        paper="Log-probabilities: start above RA, far above plain DPO; the goal that RA is read under is not given.",
        source=f"{_RAD}, figure 3",
        world="language",
        check=f"{_HOME}.controls:model_unlearning",
    ),
    "ra_needs_poor_winners": Claim(
        name="ra_needs_poor_winners",
        says="RA's gain over plain DPO needs poor winners, chosen answers that are merely the best of bad ones: "
        "without them it vanishes.",
        paper=f"Poor chosen answers learnt alike are one of three faults of plain DPO that it names. {_OWN}",
        source=f"{_RAD}, section 3.1",
        world="language",
        check=f"{_HOME}.conditions:ra_needs_poor_winners",
        seeds=_TEN,
    ),
    "ra_needs_sense_of_scores": Claim(
        name="ra_needs_sense_of_scores",
        says="RA's gain over plain DPO needs a base that has some sense of scores already: over one that has read no "
        "rated text it vanishes.",
        paper=_OWN,
        source=_RAD,
        world="language",
        check=f"{_HOME}.conditions:ra_needs_sense_of_scores",
        seeds=_TEN,
    ),
    "ra_adds_to_poor_sense": Claim(
        name="ra_adds_to_poor_sense",
        says="Over a base with a poor sense of scores relabelled training adds to it: asked for the top score the "
        "trained model is better than plain DPO and than its own start asked for the top score.",
        paper=f"Qwen2-7B asked for 10: 24.44 by the prompt alone, 31.17 relabelled. {_OWN}",
        source=f"{_RAD}, table 13",
        world="language",
        check=f"{_HOME}.conditions:ra_adds_to_poor_sense",
    ),
    "ra_needs_top_scores": Claim(
        name="ra_needs_top_scores",
        says="RA's gain over plain DPO needs pairs with top scores: where these are scarce it vanishes.",
        paper=f"It names the rarity of top answers as a fault of plain DPO that RA is to mend. {_OWN}",
        source=f"{_RAD}, section 3.1",
        world="language",
        check=f"{_HOME}.conditions:ra_needs_top_scores",
        seeds=_TEN,
    ),
    "ra_leads_at_small_steps": Claim(
        name="ra_leads_at_small_steps",
        says="At equal small learning rates RA, asked for the top score, is ahead of plain DPO; the lead shrinks as "
        "the rate grows and plain DPO gets there by training.",
        paper="Qwen2-7B: 31.17 against 21.46 (AlpacaEval 2, length-controlled), both at one learning rate, 5e-7.",
        source=f"{_RAD}, table 11 and appendix B.1",
        world="language",
        check=f"{_HOME}.conditions:ra_leads_at_small_steps",
    ),
    "ra_with_likelihood": Claim(
        name="ra_with_likelihood",
        says="With a likelihood term of weight 10 RA bears steps that break it without, and, asked for the top score, "
        "is then better than its base asked for the same.",
        paper=f"Algorithm 1 has a likelihood regulariser; no table is without or with it. {_OWN}",
        source=f"{_RAD}, algorithm 1",
        world="language",
        check=f"{_HOME}.conditions:ra_with_likelihood",
        seeds=_TEN,
    ),
    "ra_needs_small_steps": Claim(
        name="ra_needs_small_steps",
        says="RA needs small steps: over-large ones bring it, asked for 10, below its own start asked for 10, and both "
        "RA and plain DPO below the base.",
        paper=f"DPO at a learning rate of 5e-7 and beta 0.01. {_OWN}",
        source=f"{_RAD}, appendix B.1",
        world="language",
        check=f"{_HOME}.conditions:ra_needs_small_steps",
    ),
}
