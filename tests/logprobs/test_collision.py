"""The log of the sum of squared probabilities, beside a softmax of the full logits."""

import math
from typing import Any

import pytest
import torch

import tiny
from pairwright.logprobs import head
from pairwright.logprobs.core import Batch, token_values

PROMPTS = [[1, 5, 40, 41, 42, 2, 6], [1, 5, 50, 2, 6]]
ANSWERS = [[60, 61, 62, 2], [70, 2], [80, 81, 82, 83, 84, 2], [90, 2]]
OWNER = [0, 0, 1, 1]


def batch() -> Batch:
    return Batch.of(PROMPTS, ANSWERS, OWNER)


def plain(model: Any) -> list[float]:
    """The definition, one token after the other, in double precision, from all logits."""
    found = []
    for owner, answer in zip(OWNER, ANSWERS, strict=True):
        for t in range(len(answer)):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([PROMPTS[owner] + answer[:t]])).logits[0, -1]
            found.append(float((logits.double().softmax(-1) ** 2).sum().log()))
    return found


def capped() -> Any:
    """A model whose head is no plain product: its logits are capped softly."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 16}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "final_logit_softcapping": 2.0}
        return Gemma2ForCausalLM(Gemma2Config(vocab_size=100, initializer_range=0.5, **shape, **heads))


MODELS = {
    "llama": lambda: tiny.network("llama", 100),
    "gpt2": lambda: tiny.network("gpt2", 100),
    "capped": capped,
}


@pytest.mark.parametrize("name", MODELS)
def test_it_is_that_of_the_full_softmax(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[name]().eval()
    expected = plain(model)
    found = token_values(model, batch(), collides=True)
    assert found.collision is not None
    assert found.collision.tolist() == pytest.approx(expected, abs=2e-5)
    assert max(expected) - min(expected) > 0.1
    monkeypatch.setitem(head.CHUNK, "cpu", 1)  # 32 positions at a time
    longer = Batch.of(PROMPTS, [answer * 10 for answer in ANSWERS], OWNER)
    parts = token_values(model, longer, collides=True).collision
    monkeypatch.undo()
    whole = token_values(model, longer, collides=True).collision
    assert parts is not None
    assert whole is not None
    assert len(parts) == 140
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", ["forest", "padded"])
def test_it_is_the_same_in_every_layout_and_leaves_the_log_probabilities_alone(layout: Any) -> None:
    model = tiny.network("llama", 100).eval()
    found = token_values(model, batch(), layout=layout, collides=True)
    without = token_values(model, batch(), layout=layout)
    assert without.collision is None
    assert torch.equal(found.logp, without.logp)
    assert found.collision is not None
    assert found.collision.tolist() == pytest.approx(plain(model), abs=2e-5)


def test_it_has_no_gradient() -> None:
    found = token_values(tiny.network("llama", 100), batch(), collides=True)
    assert found.logp.requires_grad
    assert found.collision is not None
    assert not found.collision.requires_grad


def test_it_is_minus_log_v_where_all_tokens_are_alike_and_0_where_one_is_sure() -> None:
    hidden = torch.eye(2)
    alike = head.Head(torch.nn.Identity(), lambda states: torch.zeros(len(states), 7))
    assert head.collision(alike, hidden).tolist() == pytest.approx([-math.log(7)] * 2)
    sure = head.Head(torch.nn.Identity(), lambda states: 1000.0 * states)
    assert head.collision(sure, hidden).tolist() == pytest.approx([0.0, 0.0])
    # p = 3/4, 1/4: 9/16 + 1/16 = 5/8
    odds = head.Head(torch.nn.Identity(), lambda states: torch.tensor([[math.log(3.0), 0.0]] * 2) + 64.0)
    assert head.collision(odds, hidden).tolist() == pytest.approx([math.log(5 / 8)] * 2, abs=1e-5)
