"""Selection with a model, against a computation that shares nothing with it but the model and numpy."""

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import tiny
from pairwright.errors import InputError
from pairwright.formats.read import read
from pairwright.logprobs import logprobs
from pairwright.metrics.overlap import overlap, overlap_note
from pairwright.pipeline import run
from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.select import select
from pairwright.train import scratch

Array = np.ndarray[Any, Any]
SAMPLE = "data/extra/ultrafeedback_binarized_sample.jsonl.gz"
POSITIONS = 8192


def token_logps(network: Any, tokenizer: Any, messages: list[dict[str, str]]) -> Array:
    """log p of each token of the last message and of its EOS, in float64: one text, one plain forward, no padding."""
    import torch

    before = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    start, ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, whole))
    assert ids[: len(start)] == start
    assert ids[-1] == tokenizer.eos_token_id
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0, len(start) - 1 : -1]
    logps = torch.log_softmax(logits.double(), dim=-1)
    return logps[torch.arange(len(logps)), torch.tensor(ids[len(start) :])].numpy()


def by_hand(rows: list[dict[str, Any]], place: Path, *, weight: float, keep: float) -> tuple[list[int], Array, Array]:
    """Rows that the published score keeps, with that score and |M|: z(gap) - weight z(|mean logp_c - mean logp_r|)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place)
    network = AutoModelForCausalLM.from_pretrained(place).double().eval()
    size = np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        sides = [row["chosen"], row["rejected"]]
        if all(side[-1]["content"].strip() for side in sides):
            chosen, rejected = (token_logps(network, tokenizer, side).mean() for side in sides)
            size[i] = abs(chosen - rejected)
    gap = np.array([row["score_chosen"] - row["score_rejected"] for row in rows])
    known = np.isfinite(size)
    z = [(part - part[known].mean()) / part[known].std() for part in (gap, size)]
    score = z[0] - weight * z[1]
    order = [int(i) for i in np.argsort(-score, kind="stable") if known[i]]
    return sorted(order[: int(keep * known.sum() + 1e-9)]), score, size


def model_for(rows: list[dict[str, Any]], folder: Path, *, vocabulary: int) -> Path:
    """A tokenizer trained on these texts, and a random network whose words matter to each other."""
    scratch(read(rows), output=folder, vocab_size=vocabulary, max_length=POSITIONS)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    tiny.network("llama", size, positions=POSITIONS).save_pretrained(folder)
    return folder


def loaded(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def check_against_hand(rows: list[dict[str, Any]], place: Path) -> Preferences:
    prefs = read(rows)
    result = select(
        prefs, "alignment_potential", keep=0.4, model=place, name="m", max_length=POSITIONS, max_prompt_length=4096
    )
    expected, score, size = by_hand(rows, place, weight=1.0, keep=0.4)
    known = int(np.isfinite(score).sum())
    assert len(expected) == int(0.4 * known + 1e-9)
    at = {key: i for i, key in enumerate(prefs.pairs.select("chosen_id", "rejected_id").collect().iter_rows())}
    got = result.pairs.collect()
    kept = [at[key] for key in got.select("chosen_id", "rejected_id").iter_rows()]
    assert kept == expected
    assert got["alignment_potential"].to_numpy() == pytest.approx(score[expected], abs=2e-4)
    step = result.lineage[-1]
    assert step.dropped.get("no_metric", 0) == len(rows) - known
    assert [each.name for each in result.lineage[-2:]] == ["logprobs", "select"]
    assert {"logp_m", "len_m"} <= set(result.responses.collect_schema())

    # The overlap, by sets of rows; the draws are the metric `random`'s own.
    count = len(expected)
    draws = select(prefs, "random", keep=1.0).pairs.collect()["random"].to_numpy()
    gap = np.array([row["score_chosen"] - row["score_rejected"] for row in rows])
    chosen = {
        name: set([int(i) for i in np.argsort(-numbers, kind="stable") if np.isfinite(size[i])][:count])
        for name, numbers in
        {"explicit_gap": gap, "implicit_margin": -size, "alignment_potential": score, "random": draws}.items()
    }  # fmt: skip
    found = step.found["overlap"]
    assert found["common"] == {a: {b: len(chosen[a] & chosen[b]) for b in chosen} for a in chosen}
    assert (found["pairs"], found["kept"], found["chance"]) == (known, count, count / known)
    assert (
        found["share"]["random"]["alignment_potential"] == len(chosen["random"] & chosen["alignment_potential"]) / count
    )
    return result


def test_the_short_pairs_of_ultrafeedback_as_by_hand(shared: Callable[[str], Path], tmp_path: Path) -> None:
    rows = loaded(shared(SAMPLE))
    short = [row for row in rows if sum(len(row[side][-1]["content"]) for side in ("chosen", "rejected")) < 700][:60]
    assert len(short) == 60
    check_against_hand(short, model_for(short, tmp_path / "m", vocabulary=600))


@pytest.mark.slow
def test_forty_per_cent_of_a_thousand_pairs_as_by_hand(shared: Callable[[str], Path], tmp_path: Path) -> None:
    rows = loaded(shared(SAMPLE))
    result = check_against_hand(rows, model_for(rows, tmp_path / "m", vocabulary=2048))
    # Two pairs of the thousand have an empty answer, of which no model says anything: floor(0.4 * 998).
    assert result.lineage[-1].dropped == {"no_metric": 2, "not_selected": 599}
    assert result.counts().pairs == 399


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: tiny.model(folder / name, seed=seed) for seed, name in enumerate(("policy", "base"))}


def varied() -> Preferences:
    """Twelve pairs whose gaps are not all the same."""
    prefs = tiny.preferences(12)
    scores = [float(x) for i in range(12) for x in (9 - i % 4, 1 + i % 3)]
    return Preferences.of(prefs.prompts, prefs.responses.with_columns(score=pl.Series(scores)), prefs.pairs)


def summed(prefs: Preferences, place: Path) -> Array:
    """[pairs, 2] sums of token log-probabilities, each by one plain forward in float64."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place)
    network = AutoModelForCausalLM.from_pretrained(place).double().eval()
    rows = prefs.texts().select("prompt", "chosen", "rejected").collect().iter_rows()
    return np.array(
        [[token_logps(network, tokenizer, [*prompt, *side]).sum() for side in sides] for prompt, *sides in rows]
    )


def test_with_a_reference_it_is_dpos_form_of_sums(models: dict[str, Path]) -> None:
    prefs = varied()
    result = select(
        prefs, "implicit_margin", keep=0.5, model=models["policy"], reference=models["base"], name="now", beta=0.1
    )
    ratio = summed(prefs, models["policy"]) - summed(prefs, models["base"])
    margin = 0.1 * (ratio[:, 0] - ratio[:, 1])
    expected = sorted(np.argsort(np.abs(margin), kind="stable")[:6].tolist())
    got = result.pairs.collect()
    assert (got["chosen_id"] // 2).to_list() == expected
    assert got["implicit_margin"].to_numpy() == pytest.approx(-np.abs(margin[expected]), abs=1e-5)
    assert [step.name for step in result.lineage] == ["logprobs", "logprobs", "select"]
    assert {"logp_now", "logp_ref"} <= set(result.responses.collect_schema())
    settings = result.lineage[-1].settings["metric_settings"]
    assert settings == {"margin": None, "policy": "now", "reference": "ref", "beta": 0.1}


def test_the_weight_and_the_sign_reach_the_potentials(models: dict[str, Path]) -> None:
    prefs = varied()
    ratio = summed(prefs, models["policy"]) - summed(prefs, models["base"])
    margin = ratio[:, 0] - ratio[:, 1]
    gap = np.array([(9 - i % 4) - (1 + i % 3) for i in range(12)], dtype=float)
    for name, part in (("alignment_potential", np.abs(margin)), ("signed_potential", margin)):
        result = select(prefs, name, keep=1, model=models["policy"], reference=models["base"], weight=2.5)
        expected = (gap - gap.mean()) / gap.std() - 2.5 * (part - part.mean()) / part.std()
        assert result.pairs.collect()[name].to_numpy() == pytest.approx(expected, abs=1e-4)


def test_pairs_with_goals_are_read_under_their_goals(tmp_path: Path) -> None:
    place = tiny.model(tmp_path / "long", positions=1024)
    prefs = relabel(varied(), placement="user", source_range=(0, 10))
    result = select(prefs, "implicit_margin", keep=0.5, model=place, name="m")
    logps = summed(prefs, place)
    lengths = logprobs(prefs, model=place, name="m").pairs.collect()
    margin = logps[:, 0] / lengths["len_m_chosen"].to_numpy() - logps[:, 1] / lengths["len_m_rejected"].to_numpy()
    expected = sorted(np.argsort(np.abs(margin), kind="stable")[:12].tolist())
    order = {key: i for i, key in enumerate(prefs.pairs.select("source_pair", "copy").collect().iter_rows())}
    rows = result.pairs.collect()
    assert [order[key] for key in rows.select("source_pair", "copy").iter_rows()] == expected
    assert {"logp_m_chosen", "len_m_rejected"} <= set(rows.columns)
    assert result.goal_format == prefs.goal_format


def test_a_model_that_is_its_own_reference_is_refused_before_anything_is_computed(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = models["policy"]
    (tmp_path / "link").symlink_to(place)
    shutil.copytree(place, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("the same weights")
    module = sys.modules["pairwright.select"]  # as an attribute of the package, the name is the verb
    monkeypatch.setattr(module, "logprobs", lambda *_, **__: pytest.fail("it was computed"))
    for other in (place, str(place), f"{place}/", tmp_path / "link", tmp_path / "copy"):
        with pytest.raises(InputError, match=r"is its own reference .* every margin of DPO's form.* is zero"):
            select(varied(), "alignment_potential", keep=0.5, model=place, reference=other)


def test_equal_weights_in_other_files_are_found_by_their_values(models: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    place = models["policy"]
    shutil.copytree(place, tmp_path / "sharded")
    (tmp_path / "sharded" / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(place).save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    with pytest.raises(InputError, match="give equal log-probabilities, so every margin of DPO's form is zero"):
        select(varied(), "implicit_margin", keep=0.5, model=place, reference=tmp_path / "sharded")


def test_bad_requests_are_sentences(models: dict[str, Path]) -> None:
    place = models["policy"]
    for settings, says in [
        ({"metric": "implicit_margin", "policy": "m"}, "and policy 'm' both say where the margin comes from"),
        ({"metric": "alignment_potential", "margin": "own"}, "and margin 'own' both say where the margin comes from"),
        ({"metric": "explicit_gap"}, "explicit_gap does not look at a model's margin"),
        ({"metric": "implicit_margin", "model": None, "max_length": 64, "policy": "m"}, "max_length is about a model"),
        ({"metric": "implicit_margin", "model": "nowhere/at-all"}, "cannot open the"),
        ({"metric": "implicit_margin", "name": "ref", "reference": models["base"]}, "would both fill logp_ref"),
        ({"metric": "implicit_margin", "max_length": 9999}, "more than the 256 positions"),
        ({"metric": "implicit_margin", "only": "trian"}, "did you mean 'train'"),
        ({"metric": "implicit_margin", "dtype": "float8"}, "dtype"),
    ]:
        with pytest.raises(InputError, match=says):
            select(varied(), **{"keep": 0.5, "model": place, **settings})


def test_a_reference_without_a_model_is_a_column(models: dict[str, Path]) -> None:
    prefs = logprobs(varied(), model=models["policy"], name="m", reference=models["base"], reference_name="old")
    by_column = select(prefs, "alignment_potential", keep=0.5, policy="m", reference="old")
    by_model = select(
        varied(), "alignment_potential", keep=0.5, model=models["policy"], name="m", reference=models["base"],
        reference_name="old",
    )  # fmt: skip
    assert by_column == by_model
    assert by_column.lineage[-1].found == by_model.lineage[-1].found


def test_no_model_reads_the_pairs_of_other_splits(models: dict[str, Path]) -> None:
    prefs = varied()
    prefs = Preferences.of(
        prefs.prompts, prefs.responses, prefs.pairs.with_columns(split=pl.Series(["train"] * 8 + ["test"] * 4))
    )
    result = select(prefs, "alignment_potential", keep=0.5, only="train", model=models["policy"], name="m")
    assert result.pairs.collect()["split"].to_list() == ["train"] * 4 + ["test"] * 4
    assert result.responses.collect()["logp_m"].is_null().to_list() == [False] * 16 + [True] * 8
    assert result.lineage[-1].found["overlap"]["pairs"] == 8


def test_the_overlap_by_hand() -> None:
    nan = np.nan
    values = {
        "a": np.array([5.0, 4.0, 3.0, 2.0, 1.0, nan]),
        "b": np.array([1.0, 4.0, 5.0, 2.0, 3.0, 9.0]),
        "tied": np.array([0.0, 0.0, 1.0, 0.0, 0.0, 9.0]),
        "flat": np.ones(6),
    }
    found = overlap(values, keep=0.4)
    # The last row is out: `a` cannot say. Two of five each: a {0, 1}, b {2, 1}, tied {2, 0}.
    assert found["common"] == {
        "a": {"a": 2, "b": 1, "tied": 1},
        "b": {"a": 1, "b": 2, "tied": 1},
        "tied": {"a": 1, "b": 1, "tied": 2},
    }
    assert found["share"]["a"] == {"a": 1.0, "b": 0.5, "tied": 0.5}
    assert (found["pairs"], found["kept"], found["chance"]) == (5, 2, 0.4)
    assert overlap(values, keep=0.1) == {}
    assert overlap_note(found, "a") == (
        "Among the 5 pairs that every compared metric can judge, each would choose 2; of those of a, others would "
        "choose b 1 (50.0%), tied 1 (50.0%); by chance 40.0%."
    )


def test_a_model_may_be_called_as_a_column_is(models: dict[str, Path], tmp_path: Path) -> None:
    called = shutil.copytree(models["policy"], tmp_path / "logp_base")
    for settings in ({"model": called}, {"model": called, "name": "logp_base", "reference_name": "logp_ref"}):
        chosen = select(varied(), "implicit_margin", keep=0.5, **settings)
        assert "logp_base" in chosen.responses.collect_schema()


def test_no_overlap_where_nothing_is_compared(models: dict[str, Path]) -> None:
    prefs = logprobs(varied(), model=models["policy"], name="m")
    for settings in ({"keep": 0}, {"keep": 1}, {"keep": 0.5, "cut": "bottom"}, {"cut": "above", "threshold": -1}):
        assert select(prefs, "implicit_margin", policy="m", **settings).lineage[-1].found == {}
    assert select(prefs, "explicit_gap", keep=0.5).lineage[-1].found == {}
    # Without scores there is a margin and nothing to compare it with.
    bare = Preferences.of(prefs.prompts, prefs.responses.with_columns(score=pl.lit(None, pl.Float64)), prefs.pairs)
    step = select(bare, "implicit_margin", keep=0.5, policy="m").lineage[-1]
    assert step.found == {}
    assert step.notes[0].startswith("alignment_potential is not compared: no pair has both scores and a margin")
    # Equal gaps: the potential has no z-score, and the gap chooses nothing.
    flat = Preferences.of(prefs.prompts, prefs.responses.with_columns(score=pl.Series([8.0, 3.0] * 12)), prefs.pairs)
    step = select(flat, "implicit_margin", keep=0.5, policy="m").lineage[-1]
    assert list(step.found["overlap"]["common"]) == ["implicit_margin", "random"]


def test_in_a_recipe_the_model_may_be_another_steps(tmp_path: Path) -> None:
    varied().save(tmp_path / "data")
    recipe: list[dict[str, Any]] = [
        {"do": "read", "source": str(tmp_path / "data")},
        {"do": "scratch", "vocab_size": 300, "hidden_size": 16, "heads": 2, "layers": 1, "max_length": 256},
        {"do": "select", "metric": "signed_potential", "keep": 0.5, "model": "step:scratch", "as": "tiny"},
    ]  # fmt: skip
    ran = run(recipe, output=tmp_path / "run")
    kept = Preferences.load(ran.step("select") / "data")
    assert kept.counts().pairs == 6
    assert "logp_tiny" in kept.responses.collect_schema()
    assert "step:scratch" in ran.steps[-1].inputs
    assert run(recipe, output=tmp_path / "run").reused == {"read", "scratch", "select"}
