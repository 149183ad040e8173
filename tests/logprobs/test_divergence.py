import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny
from pairwright.errors import InputError
from pairwright.logprobs import divergence
from pairwright.logprobs.core import Batch
from pairwright.logprobs.divergence import token_kl

PROMPTS = [[1, 5, 40, 41, 42, 2, 6], [1, 5, 50, 2, 6]]
ANSWERS = [[60, 61, 62, 2], [70, 2], [80, 81, 82, 83, 84, 2], [90, 2]]
OWNER = [0, 0, 1, 1]


class Fixed(torch.nn.Module):
    """The same probabilities everywhere."""

    def __init__(self, *shares: float) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(shares).log() + 3.0)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def loop(policy: Any, start: Any) -> list[float]:
    """The definition: full softmax of both at each position in double precision, one sequence at a time."""
    found = []
    for owner, answer in zip(OWNER, ANSWERS, strict=True):
        ids = torch.tensor([PROMPTS[owner] + answer])
        with torch.no_grad():
            ours, theirs = (model(input_ids=ids).logits[0].double().log_softmax(-1) for model in (policy, start))
        for t in range(len(answer)):
            at = len(PROMPTS[owner]) - 1 + t
            # torch's kl_div(input, target) is KL(target || input)
            found.append(float(torch.nn.functional.kl_div(theirs[at], ours[at], log_target=True, reduction="sum")))
    return found


def gemma(seed: int) -> Any:
    """A model that caps its logits behind the head: left out, the distributions would be other ones."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=16,
        final_logit_softcapping=2.0,
        max_position_embeddings=128,
        initializer_range=0.4,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Gemma2ForCausalLM(config)


MAKERS = {
    "llama": lambda seed: tiny.network("llama", 100, seed=seed),
    "gpt2": lambda seed: tiny.network("gpt2", 100, seed=seed),
    "gemma2": gemma,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_it_is_the_divergence_of_the_full_softmax_at_every_position(kind: str) -> None:
    policy, start = (MAKERS[kind](seed).eval() for seed in (0, 1))
    found = token_kl(policy, start, Batch.of(PROMPTS, ANSWERS, OWNER))
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(loop(policy, start), rel=1e-4, abs=1e-6)
    turned = loop(start, policy)
    assert max(abs(a - b) for a, b in zip(found.tolist(), turned, strict=True)) > 0.05  # it is not symmetric here


def test_one_half_and_two_quarters_against_thirds_by_hand() -> None:
    """KL(p || u) = ln 3 - H(p) with H(1/2, 1/4, 1/4) = 1.5 ln 2; the other way it is ln 4 - ln 3 - (1/3) ln 2."""
    batch = Batch.of([[0]], [[1, 2, 0]], [0])
    policy, start = Fixed(0.5, 0.25, 0.25), Fixed(1 / 3, 1 / 3, 1 / 3)
    one, other = token_kl(policy, start, batch), token_kl(start, policy, batch)
    assert one.tolist() == pytest.approx([math.log(3) - 1.5 * math.log(2)] * 3, abs=1e-6)
    assert other.tolist() == pytest.approx([math.log(4 / 3) - math.log(2) / 3] * 3, abs=1e-6)


def test_a_token_that_the_policy_never_takes_counts_nothing() -> None:
    """KL((1, 0) || (1/2, 1/2)) = ln 2, though 0 log 0 is no number."""
    found = token_kl(Fixed(1.0, 0.0), Fixed(0.5, 0.5), Batch.of([[0]], [[1]], [0]))
    assert found.tolist() == pytest.approx([math.log(2)], abs=1e-6)


def test_a_model_is_exactly_zero_from_itself() -> None:
    model = tiny.network("llama", 100).eval()
    assert token_kl(model, model, Batch.of(PROMPTS, ANSWERS, OWNER)).tolist() == [0.0] * 14


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, start = (tiny.network("llama", 100, seed=seed).eval() for seed in (0, 1))
    batch = Batch.of(PROMPTS, [answer * 6 for answer in ANSWERS], OWNER)
    whole = token_kl(policy, start, batch)
    monkeypatch.setattr(divergence, "CHUNK", {"cpu": 1, "cuda": 1})  # 16 rows at a time, of 84
    assert token_kl(policy, start, batch).tolist() == pytest.approx(whole.tolist(), abs=1e-6)


def test_it_keeps_no_graph() -> None:
    policy, start = (tiny.network("llama", 100, seed=seed) for seed in (0, 1))
    assert not token_kl(policy, start, Batch.of(PROMPTS, ANSWERS, OWNER)).requires_grad


def test_models_of_two_vocabularies_are_refused() -> None:
    with pytest.raises(InputError, match="100 tokens and the start among 104"):
        token_kl(tiny.network("llama", 100), tiny.network("llama", 104), Batch.of(PROMPTS, ANSWERS, OWNER))


def test_it_estimates_the_divergence_of_whole_sequences() -> None:
    """Two tokens from a policy (3/4, 1/4) against (1/2, 1/2): KL of the pair is twice that of one, by hand."""
    policy, start = Fixed(0.75, 0.25), Fixed(0.5, 0.5)
    one = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    shares = {(0, 0): 9 / 16, (0, 1): 3 / 16, (1, 0): 3 / 16, (1, 1): 1 / 16}
    exact = sum(share * math.log(share / 0.25) for share in shares.values())
    found = token_kl(policy, start, Batch.of([[0]], [list(each) for each in shares], [0] * 4)).reshape(4, 2).sum(1)
    estimate = sum(share * float(kl) for share, kl in zip(shares.values(), found, strict=True))
    assert exact == pytest.approx(2 * one)
    assert estimate == pytest.approx(exact, abs=1e-6)
