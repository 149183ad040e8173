"""Implicit rewards: by hand from columns, and from models against plain forwards in float64."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import tiny
from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.scorers import score
from pairwright.scorers.implicit import flips_of

Array = np.ndarray[Any, Any]


def with_logps(own: list[float | None], other: list[float | None], splits: list[str] | None = None) -> Preferences:
    """Pairs of neighbouring answers, with the two columns of log-probabilities."""
    prefs = tiny.preferences(len(own) // 2)
    columns = {"logp_m": pl.Series(own, dtype=pl.Float64), "logp_ref": pl.Series(other, dtype=pl.Float64)}
    pairs = prefs.pairs if splits is None else prefs.pairs.with_columns(split=pl.Series(splits))
    return Preferences.of(prefs.prompts, prefs.responses.with_columns(**columns), pairs)


FOUR = with_logps([-10.0, -12.0, -3.0, None], [-11.0, -11.0, -5.0, -1.0])


def column(prefs: Preferences, name: str) -> list[float | None]:
    found: list[float | None] = prefs.responses.select(name).collect().to_series().to_list()
    return found


def test_the_reward_is_beta_times_the_log_ratio() -> None:
    result = score(FOUR, "implicit", policy="m", reference="ref", beta=0.5, source_range=None)
    # 0.5 * (-10 + 11), 0.5 * (-12 + 11), 0.5 * (-3 + 5), unknown.
    assert column(result, "score") == column(result, "implicit_reward") == [0.5, -0.5, 1.0, None]
    step = result.lineage[-1]
    assert step.settings["unscored"] == {"no_logp": 1}
    assert step.found["flips"] == {"pairs": 2, "same": 1, "flipped": 0, "ties": 0, "unknown": 1, "flip_rate": 0.0}


def test_one_line_for_all_answers_and_the_ends_are_counted() -> None:
    prefs = with_logps([-4.0, -1.0, 5.0, 2.0, 8.0, 0.0], [0.0] * 6)
    result = score(prefs, "implicit", policy="m", reference="ref", source_range=(-2, 4))
    # 1 + 9 (r + 2) / 6, between 1 and 10.
    assert column(result, "score") == pytest.approx([1.0, 2.5, 10.0, 7.0, 10.0, 4.0])
    assert column(result, "implicit_reward") == [-4.0, -1.0, 5.0, 2.0, 8.0, 0.0]
    step = result.lineage[-1]
    assert step.found["range"] == {"low": -2.0, "high": 4.0, "to": [1.0, 10.0]}
    assert step.found["clipped"] == {"below": 1, "above": 2}
    assert "1 answers lie below and 2 above" in step.notes[1]
    assert "The 6 numbers that were in score are replaced." in step.notes
    fifths = score(prefs, "implicit", policy="m", reference="ref", source_range="extremes", target_range=(1, 5))
    assert column(fifths, "score") == pytest.approx([1.0, 2.0, 4.0, 3.0, 5.0, 1 + 4 / 3])
    assert fifths.lineage[-1].found["clipped"] == {"below": 0, "above": 0}


def test_beta_cancels_in_the_mapped_score() -> None:
    prefs = with_logps([-4.0, -1.0, 5.0, 2.0], [0.0] * 4)
    one, other = (score(prefs, "implicit", policy="m", reference="ref", beta=beta) for beta in (1.0, 0.01))
    assert column(one, "score") == pytest.approx(column(other, "score"))


def test_percentiles_are_of_training_answers_alone() -> None:
    rewards = [float(i) for i in range(202)]
    prefs = with_logps(rewards, [0.0] * 202, ["train"] * 100 + ["test"])
    low, high = np.quantile(rewards[:200], [0.01, 0.99])
    found = score(prefs, "implicit", policy="m", reference="ref").lineage[-1].found
    assert (found["range"]["low"], found["range"]["high"]) == pytest.approx((low, high))
    assert found["clipped"] == {"below": 2, "above": 4}  # 0 and 1; 198 to 201
    bare = Preferences.of(prefs.prompts, prefs.responses)
    found = score(bare, "implicit", policy="m", reference="ref").lineage[-1].found
    assert found["range"]["high"] == pytest.approx(np.quantile(rewards, 0.99))
    assert "flips" not in found
    last = pl.int_range(pl.len()) == pl.len() - 1
    for splits, number in ((pl.when(last).then(pl.lit("test")).otherwise(pl.lit("train")), 200), (pl.lit("a"), 202)):
        bare = Preferences.of(prefs.prompts.with_columns(split=splits), prefs.responses)
        found = score(bare, "implicit", policy="m", reference="ref").lineage[-1].found
        assert found["range"]["high"] == pytest.approx(np.quantile(rewards[:number], 0.99))


def test_the_flip_rate_by_hand() -> None:
    # Margins: 2, -1, 0, unknown, -3, 4; the last two are in another split.
    own: list[float | None] = [2.0, 0.0, 0.0, 1.0, 5.0, 5.0, None, 1.0, 0.0, 3.0, 4.0, 0.0]
    prefs = with_logps(own, [0.0] * 12, ["train"] * 4 + ["test"] * 2)
    step = score(prefs, "implicit", policy="m", reference="ref").lineage[-1]
    flips = step.found["flips"]
    by_split = flips.pop("by_split")
    assert flips == {"pairs": 6, "same": 2, "flipped": 2, "ties": 1, "unknown": 1, "flip_rate": 0.5}
    assert by_split == {
        "test": {"pairs": 2, "same": 1, "flipped": 1, "ties": 0, "unknown": 0, "flip_rate": 0.5},
        "train": {"pairs": 4, "same": 1, "flipped": 1, "ties": 1, "unknown": 1, "flip_rate": 0.5},
    }
    assert step.notes[0] == (
        "The implicit reward orders 2 of 4 pairs (50.0%) the other way than their label; 1 ties, 1 without a reward."
    )


def test_a_pair_with_a_goal_has_no_label_to_flip() -> None:
    prefs = relabel(with_logps([2.0, 0.0, 1.0, 0.0], [0.0] * 4), "ra")
    marked = Preferences.of(prefs.prompts, prefs.responses.with_columns(implicit_reward=pl.col("logp_m")), prefs.pairs)
    assert flips_of(marked) == {}


def test_implicit_scores_are_relabelled_as_they_are() -> None:
    prefs = with_logps([-4.0, -1.0, 5.0, 2.0], [0.0] * 4)
    made = relabel(score(prefs, "implicit", policy="m", reference="ref", source_range="extremes"), "ra")
    # 1, 4, 10, 7: the first pair's order is the other way round now, and relabelling does not mind.
    assert made.pairs.collect()["goal"].to_list() == [1.0, 4.0, 10.0, 7.0]
    asked = [row["prompt"][-1]["content"] for row in made.rows()]
    assert [f"Overall score: {goal}." in text for goal, text in zip((1, 4, 10, 7), asked, strict=True)] == [True] * 4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: tiny.model(folder / name, seed=seed) for seed, name in enumerate(("policy", "base"))}


def sums(prefs: Preferences, place: Path) -> Array:
    """log p of each answer and its EOS, in the order of `responses`: one plain forward each, in float64."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place)
    network = AutoModelForCausalLM.from_pretrained(place).double().eval()
    prompts = {row["prompt_id"]: row["prompt"] for row in prefs.prompts.collect().iter_rows(named=True)}
    found = []
    for row in prefs.responses.collect().iter_rows(named=True):
        messages = [*prompts[row["prompt_id"]], *row["response"]]
        before = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        start, ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, whole))
        with torch.no_grad():
            logps = torch.log_softmax(network(torch.tensor([ids])).logits[0], dim=-1)
        found.append(sum(float(logps[t - 1, ids[t]]) for t in range(len(start), len(ids))))
    return np.array(found)


def test_from_models_it_is_what_plain_forwards_say(models: dict[str, Path]) -> None:
    prefs = tiny.preferences(10)
    result = score(prefs, "implicit", policy=models["policy"], reference=str(models["base"]), beta=0.1)
    reward = 0.1 * (sums(prefs, models["policy"]) - sums(prefs, models["base"]))
    assert np.array(column(result, "implicit_reward")) == pytest.approx(reward, abs=1e-4)
    low, high = np.quantile(reward, [0.01, 0.99])
    expected = 1 + 9 * np.clip((reward - low) / (high - low), 0, 1)
    assert np.array(column(result, "score")) == pytest.approx(expected, abs=1e-3)
    margin = reward[::2] - reward[1::2]
    step = result.lineage[-1]
    assert step.found["flips"]["flipped"] == int((margin < 0).sum())
    assert [each.name for each in result.lineage] == ["logprobs", "logprobs", "score"]
    assert {"logp_policy", "logp_base"} <= set(result.responses.collect_schema())
    assert result.pairs.collect().equals(prefs.pairs.collect())


def test_goals_are_not_in_the_prompts_that_are_scored(models: dict[str, Path]) -> None:
    plain = tiny.preferences(6)
    asked = relabel(plain, placement="user")
    one, other = (score(each, "implicit", policy=models["policy"], reference=models["base"]) for each in (plain, asked))
    assert column(one, "implicit_reward") == column(other, "implicit_reward")
    assert "flips" not in other.lineage[-1].found
    assert other.pairs.collect().equals(asked.pairs.collect())
    assert other.goal_format == asked.goal_format


def test_models_and_columns_can_be_mixed_and_names_told_apart(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefs = tiny.preferences(4)
    both = score(prefs, "implicit", policy=models["policy"], reference=models["base"])
    mixed = score(both, "implicit", policy="policy", reference=models["base"])
    assert column(mixed, "implicit_reward") == column(both, "implicit_reward")
    # Two directories of one name, as `model` of two runs have.
    for name in ("a", "b"):
        shutil.copytree(models["policy" if name == "a" else "base"], tmp_path / name / "same")
    named = score(prefs, "implicit", policy=tmp_path / "a" / "same", reference=tmp_path / "b" / "same")
    assert {"logp_policy", "logp_reference"} <= set(named.responses.collect_schema())
    assert column(named, "implicit_reward") == column(both, "implicit_reward")
    # A name that is a column and a directory.
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models["policy"], tmp_path / "policy")
    with pytest.raises(
        InputError, match=r"a column logp_policy and a directory too; write 'logp_policy' .* './policy'"
    ):
        score(both, "implicit", policy="policy", reference="base")
    for word in ("./policy", "logp_policy"):
        again = score(both, "implicit", policy=word, reference="base")
        assert column(again, "implicit_reward") == column(both, "implicit_reward")


def test_bad_requests_are_sentences(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(models["policy"])
    place = models["policy"]
    for settings, says in [
        ({"policy": "m"}, "reference: Field required"),
        ({"policy": "n", "reference": "ref"}, "is no model's directory, and responses have no column 'logp_n'"),
        ({"policy": "m", "reference": "reff"}, "did you mean 'logp_ref'"),
        ({"policy": "m", "reference": "nowhere/at-all"}, "cannot open the"),
        ({"policy": "m", "reference": "m"}, "are one model, so every implicit reward"),
        ({"policy": place, "reference": tmp_path / "link"}, "are one model, so every implicit reward"),
        ({"policy": "m", "reference": "ref", "beta": 0}, "greater than 0"),
        ({"policy": "m", "reference": "ref", "source_range": (3, 3)}, "must rise"),
        ({"policy": "m", "reference": "ref", "source_range": "percentile"}, "source_range"),
        ({"policy": "m", "reference": "ref", "target_range": (10, 1)}, "must rise"),
    ]:
        with pytest.raises(InputError, match=says):
            score(FOUR, "implicit", **settings)
    level = with_logps([1.0, 1.0, 1.0, 1.0], [0.0] * 4)
    with pytest.raises(InputError, match="the percentiles of the implicit rewards are both 1"):
        score(level, "implicit", policy="m", reference="ref")
    unknown = with_logps([None] * 4, [0.0] * 4)
    with pytest.raises(InputError, match="no answer has both log-probabilities"):
        score(unknown, "implicit", policy="m", reference="ref")


def test_on_the_command_line(models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    tiny.preferences(10).save(source)
    words = ["score", str(source), "-o", str(tmp_path / "out"), "--with", "implicit"]
    words += ["--policy", str(models["policy"]), "--reference", str(models["base"]), "--beta", "0.1"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    flips = Preferences.load(tmp_path / "out").lineage[-1].found["flips"]
    assert f"orders {flips['flipped']} of 10 pairs ({flips['flip_rate']:.1%}) the other way than their label" in printed
    rows = [line.split() for line in printed.splitlines()]
    assert ["all", "10", str(flips["same"]), str(flips["flipped"]), "0", "0", f"{flips['flip_rate']:.1%}"] in rows
    assert main([*words, "--source-range", "-2", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert found["range"] == {"low": -2.0, "high": 2.0, "to": [1.0, 10.0]}
    assert main([*words[:-2], "--reference", str(models["policy"])]) == 2
    assert "are one model" in capsys.readouterr().err


def test_a_reward_that_came_with_the_pairs_is_replaced() -> None:
    old = FOUR.pairs.with_columns(implicit_reward_chosen=pl.lit(0.0), implicit_reward_rejected=pl.lit(9.0))
    prefs = Preferences.of(FOUR.prompts, FOUR.responses, old)
    found, expected = (
        score(data, "implicit", policy="m", reference="ref", source_range=None).lineage[-1].found["flips"]
        for data in (prefs, FOUR)
    )
    assert found == expected
