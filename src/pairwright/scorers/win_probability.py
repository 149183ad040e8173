"""How likely each answer is to beat the others, from the scores of all."""

from typing import Annotated

import polars as pl
from pydantic import Field

from pairwright.errors import InputError
from pairwright.plug import nearest
from pairwright.preferences import Preferences
from pairwright.scorers.sample import Scores


def win_probability(
    prefs: Preferences,
    *,
    by: str = "score",
    unit: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
) -> Scores:
    """The probability that an answer beats one drawn from the scored answers to its prompt, itself among them.

        P_i = mean over j of sigmoid((s_i - s_j) / unit)

    The term j = i counts one half, so that K answers have P between 1 / (2K) and 1 - 1 / (2K), with a mean of 1/2 in
    each prompt. Where the answers are samples of a policy this is the estimate of P(y_i beats the policy) that the loss
    `sppo` takes (`score: score_win_probability`). It goes to the column `score_win_probability` where no other is asked
    for.

    An answer without a finite score gets none (`unscored`, `non_finite_score`), and one without another scored answer
    beside it neither (`fewer_than_two_scored`).

    Args:
        prefs: prompts, each with several scored answers.
        by: the score column that decides.
        unit: the difference of scores that is one unit of log-odds; 1 where the scores are those of a Bradley-Terry
            reward model.

    Raises:
        InputError: there is no such column of numbers.

    Source: arXiv 2405.00675 and its released code, scripts/compute_prob.py (unit 1, j = i included).
    """
    schema = prefs.responses.collect_schema()
    known = [name for name, kind in schema.items() if kind.is_numeric() and name != "response_id"]
    if by not in known:
        raise InputError(
            f"win_probability: responses have no column of numbers {by!r}{nearest(by, known)} (there are "
            f"{', '.join(known)})"
        )
    frame = prefs.responses.select("prompt_id", value=pl.col(by).cast(pl.Float64)).with_row_index("row").collect()
    finite = pl.col("value").is_finite().fill_null(False)
    others = frame.lazy().filter(finite).filter(pl.len().over("prompt_id") >= 2)
    # In one order whatever the order of the rows: the last bits of a mean depend on it.
    met = others.join(others.sort("value"), on="prompt_id", how="inner", maintain_order="left_right")
    apart = (pl.col("value") - pl.col("value_right")) / unit
    beaten = met.group_by("row", maintain_order=True).agg(win=(1.0 / (1.0 + (-apart).exp())).mean()).collect()
    values = frame.select("row").join(beaten, on="row", how="left", maintain_order="left")["win"]
    missing = {
        "unscored": frame["value"].null_count(),
        "non_finite_score": frame.filter(pl.col("value").is_not_null() & ~finite).height,
        "fewer_than_two_scored": frame.filter(finite).height - beaten.height,
    }
    return Scores(values, {why: count for why, count in missing.items() if count}, prefs, into="score_win_probability")
