"""What the variants of relabelling train on and start from: scores of the model's own, and a second round."""

import time
from copy import deepcopy
from functools import lru_cache
from typing import Any

import polars as pl

from pairwright.errors import PairwrightError
from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.reproduce.language import job as work
from pairwright.reproduce.language.arms import PLAIN
from pairwright.reproduce.language.data import Given
from pairwright.reproduce.language.setting import BATCH, TEMPLATE, Arm, Goal, Job, Tuned, World
from pairwright.reproduce.language.training import trained, with_references
from pairwright.scorers.implicit import implicit
from pairwright.worlds.language import mark


def own_scores(prefs: Preferences, given: Given, *, first: Tuned) -> Preferences:
    """The pairs relabelled by what a plainly trained model thinks of their answers (IRA).

    A model is trained from the base on the pairs as they are. Its implicit reward of each of their answers,
    `beta (log pi(y|x) - log base(y|x))` without a goal, is mapped to 1 to 10 by one line for all answers, from their
    1st and 99th percentile, and is the score that `ra` asks for. It may order a pair the other way than the judge.

    Args:
        prefs: pairs of the world.
        given: of the training; the first model has its seed.
        first: the numbers of the first training.

    Raises:
        PairwrightError: pairs were dropped on the way to examples, so that answers and numbers do not fit together.

    Source: arXiv 2410.08067, section 6.2 ("IRA") and appendix B.1 (a linear map; the percentiles are ours).
    """
    rows = work.rows_of(given.world, PLAIN, given.seed)
    ids = prefs.pairs.select("chosen_id", "rejected_id").collect()
    if len(rows) != len(ids):
        raise PairwrightError(f"{len(ids)} pairs gave {len(rows)} examples; the implicit rewards have no owners")
    policy = work.policy_of(given.world, PLAIN, first, given.seed)
    after = with_references(policy, rows)
    found = pl.DataFrame(
        [
            {"response_id": owner, "logp_first": new, "logp_base": old}
            for pair, row, late in zip(ids.iter_rows(), rows, after, strict=True)
            for owner, new, old in zip(pair, late.refs or (), row.refs or (), strict=True)
        ],
        schema_overrides={"response_id": pl.Int64},
    ).unique("response_id", keep="first", maintain_order=True)
    responses = prefs.responses.join(found.lazy(), on="response_id", how="left", maintain_order="left")
    bare = Preferences.of(prefs.prompts, responses, prefs.pairs, prefs.lineage)
    scores = implicit(bare, policy="first", reference="base", beta=first.strength)
    scored = scores.prefs.responses.collect().with_columns(score=pl.Series(scores.values, dtype=pl.Float64))
    own = Preferences.of(prefs.prompts, scored, prefs.pairs, prefs.lineage)
    return relabel(own, "ra", placement="system", template=TEMPLATE, seed=given.seed)


def agreement(job: Job, policy: Any, base: Any, tokenizer: Any) -> dict[str, float]:
    """How far the scores that a job was relabelled by agree with the judge and with gold.

    Returns:
        `flip_rate`: share of the relabelled pairs that the new score orders the other way than the judge's label;
        `spearman`: rank correlation of the new score and gold over the answers of these pairs; `pairs`: how many.

    Raises:
        PairwrightError: the job trains nothing.
    """
    if job.arm is None:
        raise PairwrightError("the base was relabelled by nothing; measure a job with an arm")
    prefs = work.made(job.world, job.arm, job.seed)
    pairs = prefs.pairs.filter(pl.col("copy") == "positive").select("chosen_id", "rejected_id").collect()
    answers = prefs.responses.select("response_id", "score", "score_gold").collect()
    score = answers.select("response_id", "score")
    both = pairs.join(score, left_on="chosen_id", right_on="response_id").join(
        score, left_on="rejected_id", right_on="response_id", suffix="_rejected"
    )
    used = answers.filter(pl.col("response_id").is_in(pl.concat([pairs["chosen_id"], pairs["rejected_id"]]).implode()))
    flips = both.select((pl.col("score") < pl.col("score_rejected")).mean()).item()
    ranks = used.select(pl.corr("score", "score_gold", method="spearman")).item()
    return {"flip_rate": round(flips, 6), "spearman": round(ranks, 6), "pairs": float(len(pairs))}


def second_round(
    *,
    world: World,
    first: Tuned,
    arm: Arm,
    tuned: Tuned,
    seed: int,
    part: str,
    goals: tuple[Goal | None, ...],
    prompts: int,
) -> dict[str, Any]:
    """Train a plainly trained model once more, from where it is and with itself as the reference.

    Both rounds are on the same pairs, `world.steps` long each.

    Args:
        world: whose pairs.
        first: the numbers of the first round.
        arm: of the second round.
        tuned: its numbers.
        seed: of data, order and answers.
        part: which held-out instructions: `validation` or `test`.
        goals: what the model is asked for, each in turn.
        prompts: how many held-out instructions.

    Returns:
        `gold`: for each goal, by its text, the mean over samples of each held-out instruction; `seconds` on one core.
    """
    began = time.process_time()
    start = _start(world, first, seed)
    _, tokenizer = work.base_of(world.base)
    rows = with_references(start, work.rows_of(world, arm, seed))
    policy = trained(
        deepcopy(start),
        rows,
        work.terms(arm, tuned),
        kind=arm.examples,
        steps=world.steps,
        batch=BATCH,
        rate=tuned.rate,
        seed=seed,
    )
    form = work.made(world, arm, seed).goal_format or work.FORM
    tasks = work.held_out(part, prompts)
    gold: dict[str, list[float]] = {}
    for goal in goals:
        worth = [mark(task, words).gold for task, words in work.asked(policy, tokenizer, tasks, goal, form, seed)]
        size = work.SAMPLES
        gold[work.said(goal)] = [sum(worth[i : i + size]) / size for i in range(0, len(worth), size)]
    return {"gold": gold, "seconds": round(time.process_time() - began, 2)}


@lru_cache(maxsize=4)
def _start(world: World, first: Tuned, seed: int) -> Any:
    """A plainly trained model, for reading only."""
    return work.policy_of(world, PLAIN, first, seed)
