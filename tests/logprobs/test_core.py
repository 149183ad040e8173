import math
from types import SimpleNamespace

import pytest
import torch

import tiny
from pairwright.logprobs.core import Batch, answer_logps, pair_logps

PROMPTS = [[1, 5, 40, 41, 42, 2, 6], [1, 5, 50, 2, 6]]
ANSWERS = [[60, 61, 62, 2], [70, 2], [80, 81, 82, 83, 84, 2], [90, 2]]
OWNER = [0, 0, 1, 1]


class Uniform(torch.nn.Module):
    """Every token has probability 1/V, so an answer of n tokens has -n ln V, whatever it says."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, self.size))


class Favours(torch.nn.Module):
    """At each position the model is sure (0.5 of 4) of one token, given by the last token that it has read."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        # After token t, token (t + 1) % 4 has probability 1/2 and the other three 1/6 each.
        logits = torch.log(torch.full((*input_ids.shape, 4), 1 / 6))
        logits.scatter_(-1, ((input_ids + 1) % 4)[..., None], math.log(1 / 2))
        return SimpleNamespace(logits=logits)


def loop(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> float:
    """The definition, one token after the other, in double precision, without a batch."""
    total = 0.0
    for t, token in enumerate(answer):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer[:t]])).logits[0, -1].double()
        total += float(logits[token] - torch.logsumexp(logits, 0))
    return total


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    return tiny.network(request.param, 100).eval()


def test_a_uniform_model_gives_minus_length_times_log_vocabulary() -> None:
    found = answer_logps(Uniform(97), Batch.of(PROMPTS, ANSWERS, OWNER))
    assert found.length.tolist() == [4, 2, 6, 2]
    assert found.logp.tolist() == pytest.approx([-n * math.log(97) for n in (4, 2, 6, 2)])
    assert found.logp.dtype == torch.float32


def test_the_first_completion_token_is_predicted_from_the_last_prompt_token() -> None:
    # 0 (the prompt's last) expects 1 and sees it: 1/2; 1 expects 2 and sees 0: 1/6; 0 expects 1 and sees it: 1/2
    found = answer_logps(Favours(), Batch.of([[3, 0]], [[1, 0, 1]], [0]))
    assert found.logp.item() == pytest.approx(math.log(1 / 2 * 1 / 6 * 1 / 2), rel=1e-6)


def test_it_agrees_with_a_plain_loop_over_tokens(model: torch.nn.Module) -> None:
    with torch.no_grad():
        found = answer_logps(model, Batch.of(PROMPTS, ANSWERS, OWNER)).logp.tolist()
    expected = [loop(model, PROMPTS[owner], answer) for owner, answer in zip(OWNER, ANSWERS, strict=True)]
    assert found == pytest.approx(expected, abs=2e-5)
    assert len({round(value, 2) for value in expected}) == 4


def test_an_answer_has_the_same_value_alone_in_company_and_in_any_order(model: torch.nn.Module) -> None:
    with torch.no_grad():
        together = answer_logps(model, Batch.of(PROMPTS, ANSWERS, OWNER)).logp
        turned = answer_logps(model, Batch.of(PROMPTS[::-1], ANSWERS[::-1], [0, 0, 1, 1])).logp
        for i, (owner, answer) in enumerate(zip(OWNER, ANSWERS, strict=True)):
            alone = answer_logps(model, Batch.of([PROMPTS[owner]], [answer], [0])).logp
            assert alone.item() == pytest.approx(together[i].item(), abs=1e-5)
    assert turned.flip(0).tolist() == pytest.approx(together.tolist(), abs=1e-5)


def test_pairs_alternate_chosen_and_rejected() -> None:
    chosen, rejected = pair_logps(Uniform(91), Batch.of(PROMPTS, ANSWERS, OWNER))
    assert chosen.length.tolist() == [4, 6]
    assert rejected.length.tolist() == [2, 2]
    assert rejected.logp.tolist() == pytest.approx([-2 * math.log(91)] * 2)


def test_the_gradient_is_that_of_full_logits(model: torch.nn.Module) -> None:
    model.zero_grad()
    answer_logps(model, Batch.of(PROMPTS, ANSWERS, OWNER)).logp.sum().backward()
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    total = torch.zeros(())
    for owner, answer in zip(OWNER, ANSWERS, strict=True):
        ids = torch.tensor([PROMPTS[owner] + answer])
        values = torch.log_softmax(model(input_ids=ids).logits[0], -1)
        start = len(PROMPTS[owner])
        total = total + sum(values[start + t - 1, token] for t, token in enumerate(answer))
    total.backward()
    for mine, parameter in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, atol=1e-4, rtol=1e-4)
    model.zero_grad()


def test_bfloat16_weights_still_give_float32_sums() -> None:
    model = tiny.network("llama", 100).to(torch.bfloat16).eval()
    with torch.no_grad():
        assert answer_logps(model, Batch.of(PROMPTS, ANSWERS, OWNER)).logp.dtype == torch.float32
