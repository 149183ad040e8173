from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import tiny
from pairwright.errors import InputError
from pairwright.generate import generate
from pairwright.generate.drawing import OpenedSampler, Sampling, Wanted
from pairwright.generate.request import seed_of
from pairwright.goals import GoalFormat
from pairwright.logprobs.models import open_model, open_tokenizer
from pairwright.logprobs.tokenise import Limits
from pairwright.preferences import Preferences
from pairwright.probes.held import held_out
from pairwright.probes.reading import Held, encode
from pairwright.probes.samples import read_samples
from pairwright.probes.store import SAMPLE

FORM = GoalFormat(ranges=((1.0, 10.0),), placement="user")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("model"), positions=700)


@pytest.fixture(scope="module")
def policy(place: Path) -> Any:
    return open_model(place)


@pytest.fixture(scope="module")
def start(place: Path) -> Any:
    """The policy, a little apart."""
    found = open_model(place)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in found.parameters():
            weight += 0.1 * weight.std() * torch.randn_like(weight)
    return found


@pytest.fixture(scope="module")
def data() -> Preferences:
    made = tiny.preferences(4)
    return held_out(Preferences.of(made.prompts, made.responses, made.pairs.with_columns(split=pl.lit("test"))))[0]


@pytest.fixture(scope="module")
def held(data: Preferences, place: Path) -> Held:
    return encode(data, open_tokenizer(place), goal=FORM, limits=Limits(680, 650))


def softmax(model: Any, prompt: list[int], answer: list[int]) -> np.ndarray:
    """Log-probabilities of the whole vocabulary where each token of the answer is predicted, in double precision."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].double()
    return logits.log_softmax(-1).numpy()[len(prompt) - 1 : -1]


def test_they_are_the_answers_that_generate_draws(place: Path, policy: Any, data: Preferences, held: Held) -> None:
    """The same seeds give the same texts, and the engine's own log-probabilities are those that are read here."""
    found = read_samples(policy, None, held, n=2, max_new_tokens=12, seed=7)
    drawn = generate(
        place, data, n=2, goal=[None, 10.0], goal_format=FORM, max_new_tokens=12, seed=7, name="m"
    ).responses.collect()
    theirs = drawn.select(
        "prompt_id",
        pl.col("sample").cast(pl.UInt32),
        "goal",
        said=pl.col("response").list.first().struct.field("content"),
        drawn="logp_m",
        tokens="len_m",
        end="stopped",
    )
    both = found.join(theirs, on=["prompt_id", "sample", "goal"], nulls_equal=True)
    assert len(both) == len(found) == 16
    assert both["text"].to_list() == both["said"].to_list()
    assert both["logp"].to_list() == pytest.approx(both["drawn"].to_list(), abs=1e-3)
    assert both["length"].to_list() == both["tokens"].to_list()
    assert both["stopped"].to_list() == both["end"].to_list()


def test_every_number_is_that_of_full_softmaxes_over_the_drawn_tokens(policy: Any, start: Any, held: Held) -> None:
    found = read_samples(policy, start, held, n=1, max_new_tokens=10, seed=3)
    assert dict(found.schema) == dict(SAMPLE)
    rows = held.rows.with_columns(owner=pl.Series(held.owner)).unique(["prompt_id", "asked"], keep="first")
    owners = {(prompt, asked): owner for prompt, asked, owner in rows.select("prompt_id", "asked", "owner").iter_rows()}
    for row in found.iter_rows(named=True):
        prompt = list(held.prompts[owners[row["prompt_id"], row["asked"]]])
        seeds = [seed_of(3, row["prompt_id"], row["sample"])]
        again = OpenedSampler.of(policy, held.tokenizer, Sampling(1.0, 1.0, 10)).tokens(Wanted([prompt], [0], seeds))
        answer, ended = again[0]
        assert row["stopped"] == ("eos" if ended else "length")
        assert row["length"] == len(answer)
        ours, theirs = softmax(policy, prompt, answer), softmax(start, prompt, answer)
        at = np.arange(len(answer))
        assert row["logp"] == pytest.approx(ours[at, answer].sum(), abs=1e-4)
        assert row["start_logp"] == pytest.approx(theirs[at, answer].sum(), abs=1e-4)
        assert row["kl"] == pytest.approx((np.exp(ours) * (ours - theirs)).sum(), rel=1e-3, abs=1e-5)
        assert row["entropy"] == pytest.approx(-(np.exp(ours) * ours).sum(-1).mean(), rel=1e-4)
        assert row["top_mass"] == pytest.approx(np.sort(np.exp(ours))[:, -10:].sum(-1).mean(), rel=1e-4)


def test_its_mean_is_that_of_the_log_ratios_with_less_noise(policy: Any, start: Any, held: Held) -> None:
    """Both estimate KL(policy || start) of whole answers; with the two models exchanged the sign would be wrong."""
    found = read_samples(policy, start, held, n=60, max_new_tokens=6, seed=1, asked=("none",))
    ratio = (found["logp"] - found["start_logp"]).to_numpy()
    exact = found["kl"].to_numpy()
    noise = ratio.std() / len(ratio) ** 0.5
    assert exact.min() > 0
    assert abs(ratio.mean() - exact.mean()) < 4 * noise
    assert exact.mean() > 4 * noise  # so that the other sign would be seen
    assert exact.std() < 0.5 * ratio.std()


def test_from_itself_a_model_has_gone_nowhere(policy: Any, held: Held) -> None:
    found = read_samples(policy, None, held, n=1, max_new_tokens=6)
    assert found["kl"].to_list() == [0.0] * 8
    assert found["start_logp"].to_list() == found["logp"].to_list()
    same = read_samples(policy, policy, held, n=1, max_new_tokens=6)
    assert same["kl"].to_list() == [0.0] * 8


def test_the_model_is_left_as_it_was(place: Path, start: Any, held: Held) -> None:
    model = open_model(place).train()
    settings, state = model.generation_config, torch.get_rng_state()
    first = read_samples(model, start, held, n=2, max_new_tokens=6)
    assert model.training
    assert model.generation_config is settings
    assert torch.equal(torch.get_rng_state(), state)
    assert not start.training
    assert first.equals(read_samples(model, start, held, n=2, max_new_tokens=6))


def test_each_prompt_is_asked_without_a_goal_and_with_the_best(policy: Any, held: Held, data: Preferences) -> None:
    found = read_samples(policy, None, held, n=2, max_new_tokens=3)
    assert set(found.select("asked", "goal").rows()) == {("none", None), ("top", 10.0)}
    assert found.select("prompt_id", "asked", "sample").is_unique().all()
    assert found["score"].null_count() == len(found)
    plain = encode(data, held.tokenizer, goal=None, limits=Limits(680, 650))
    assert set(read_samples(policy, None, plain, n=1, max_new_tokens=3)["asked"]) == {"none"}


def test_answers_that_do_not_fit_behind_the_prompt_are_refused(policy: Any, held: Held) -> None:
    with pytest.raises(InputError, match="more than the 700 positions"):
        read_samples(policy, None, held, max_new_tokens=600)


def test_no_answer_at_all_is_refused(policy: Any, held: Held) -> None:
    with pytest.raises(InputError, match="at least 1"):
        read_samples(policy, None, held, n=0)
