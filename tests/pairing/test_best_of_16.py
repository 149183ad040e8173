"""Sixteen samples a prompt, eleven of them judged: paired by every rule, relabelled and exported.

The expected numbers are counted here from the file, by plain loops over its rows.
"""

import itertools
import json

import polars as pl
import pytest

from pairwright.formats.read import read
from pairwright.pairing import pair
from pairwright.relabel import relabel
from pairwright.scorers import score

FILE = "data/extra/tulu2_best_of_16.parquet"


@pytest.fixture
def prefs(shared):
    return read(shared(FILE))


@pytest.fixture
def source(shared):
    """The different answers of each prompt as (text, preference or None), in file order."""
    prompts = {}
    for row in pl.read_parquet(shared(FILE)).iter_rows(named=True):
        judged = row["preference"]
        prompts.setdefault(row["instruction"], {})[row["output"], judged] = None
    return [list(answers) for answers in prompts.values()]


def best_worst(scored):
    """The first of the highest against the first of the lowest."""
    values = [p for _, p in scored]
    best, worst = (scored[values.index(end)] for end in (max(values), min(values)))
    return [(best, worst)] if best[1] > worst[1] else []


def adjacent(scored):
    ordered = sorted(scored, key=lambda one: -one[1])
    return [(one, other) for one, other in itertools.pairwise(ordered) if one[1] > other[1]]


def every(scored):
    return [(one, other) for one, other in itertools.permutations(scored, 2) if one[1] > other[1]]


RULES = {"best_worst": best_worst, "adjacent": adjacent, "every": every}


def by_hand(source, rule):
    """The pairs of a rule, those of equal texts apart."""
    made = [
        two for answers in source if (scored := [one for one in answers if one[1] is not None]) for two in rule(scored)
    ]
    return [two for two in made if two[0][0] != two[1][0]], [two for two in made if two[0][0] == two[1][0]]


def sides(prefs):
    """((text, score) of the chosen side, the same of the rejected one) for each pair."""
    rows = prefs.texts().collect().iter_rows(named=True)
    return [tuple((row[side][0]["content"], row[f"score_{side}"]) for side in ("chosen", "rejected")) for row in rows]


def test_each_prompt_has_its_different_samples_and_unjudged_ones_have_no_score(prefs, source):
    answers = prefs.responses.collect()
    assert prefs.counts().prompts == len(source) == 725
    assert answers.group_by("prompt_id", maintain_order=True).len()["len"].to_list() == [len(one) for one in source]
    expected = [p for one in source for _, p in one]
    assert answers["score"].to_list() == expected
    assert expected.count(None) > 3_000


def test_samples_that_are_merged_are_counted(prefs, source, shared):
    merged = pl.read_parquet(shared(FILE)).height - sum(map(len, source))
    assert merged > 0
    notes = prefs.lineage[0].notes
    assert (
        f"{merged:,} answers repeat an earlier one to their prompt, text and values alike; each is kept once" in notes
    )


@pytest.mark.parametrize("rule", sorted(RULES))
def test_pairs_are_those_of_a_plain_loop(prefs, source, rule):
    paired = pair(prefs, rule)
    wanted, equal = by_hand(source, RULES[rule])
    assert len(wanted) > 600
    # `every` lists the pairs of a prompt in the order of its rows, too.
    assert sides(paired) == wanted
    assert paired.lineage[-1].dropped.get("equal_text", 0) == len(equal)
    tied = sum(not best_worst([one for one in answers if one[1] is not None]) for answers in source)
    assert sum(paired.lineage[-1].dropped.get(why, 0) for why in ("fewer_than_two_scored", "all_tied")) == tied


def test_best_against_a_random_one_takes_each_prompt_once(prefs, source):
    paired = pair(prefs, "best_random", seed=1)
    can = [one for one in source if best_worst([each for each in one if each[1] is not None])]
    made = sides(paired)
    assert len(made) + paired.lineage[-1].dropped.get("equal_text", 0) == len(can)
    best = {max(p for _, p in one if p is not None) for one in can}
    assert all(chosen[1] > rejected[1] and chosen[1] in best for chosen, rejected in made)


@pytest.mark.parametrize("rule", [*sorted(RULES), "best_random"])
def test_an_unjudged_sample_is_never_a_side(prefs, rule):
    paired = pair(prefs, rule)
    unjudged = set(prefs.responses.filter(pl.col("score").is_null()).collect()["response_id"])
    pairs = paired.pairs.collect()
    assert unjudged.isdisjoint(pairs["chosen_id"])
    assert unjudged.isdisjoint(pairs["rejected_id"])


def test_scaled_relabelled_and_exported(prefs, source, tmp_path):
    """Win probabilities from 0 to 1 become 1 to 10; two that print alike are a tie; each other pair is two rows."""
    scored = score(prefs, "column", by="score", scale={"range": [0, 1]})
    assert scored.lineage[-1].settings["unscored"] == {"unscored": sum(p is None for one in source for _, p in one)}
    paired = pair(scored, "best_worst")
    asked = relabel(paired, "ra")
    wanted, _ = by_hand(source, best_worst)
    printed = [(round(1 + 9 * one[1], 1), round(1 + 9 * other[1], 1)) for one, other in wanted]
    apart = [(one, other) for one, other in printed if one != other]
    assert asked.lineage[-1].dropped == {"score_tie": len(printed) - len(apart)}
    rows = pl.read_ndjson(asked.export(tmp_path / "ra.jsonl"))
    assert rows.height == 2 * len(apart)
    assert rows["score_chosen"].null_count() == rows["score_rejected"].null_count() == 0
    said = [turn["content"].rpartition("Overall score: ")[2].partition(".\n")[0] for (turn, *_) in rows["prompt"]]
    assert [float(one) for one in said] == [goal for two in apart for goal in two]
    manifest = json.loads((tmp_path / "ra.jsonl.manifest.json").read_text())
    assert [step["name"] for step in manifest["lineage"]] == ["read", "score", "pair", "relabel", "export"]
    assert manifest["lineage"][1]["found"]["scale"]["score"]["high"] == 1.0
