"""The paper's exact cases with a softmax table as policy: our relabeller and our DPO, nothing else.

Source: arXiv 2410.08067, tables 1 and 2 (uniform reference, beta 0.1, trained long). A policy is one row of logits for
each prompt that occurs, goal in place, so it can only tell goals apart by the text that a model would read.
"""

import polars as pl
import pytest
import torch

from pairwright.losses import PairLogps, Side, dpo
from pairwright.preferences import Preferences
from pairwright.relabel import relabel

Policy = dict[str, list[float]]


def made(scores: list[float], pairs: list[tuple[int, int]]) -> Preferences:
    """One prompt, an answer for each score, pairs of answer numbers (chosen, rejected)."""
    answers = pl.DataFrame(
        {
            "prompt_id": ["x"] * len(scores),
            "response": [[{"role": "assistant", "content": f"y{i + 1}"}] for i in range(len(scores))],
            "score": scores,
        }
    )
    rows = {"prompt_id": ["x"] * len(pairs), "chosen_id": [a for a, _ in pairs], "rejected_id": [b for _, b in pairs]}
    return Preferences.of(
        pl.DataFrame({"prompt_id": ["x"], "prompt": [[{"role": "user", "content": "Q"}]]}), answers, pl.DataFrame(rows)
    )


def trained(rows: list[tuple[str, int, int]], answers: int, *, steps: int = 2000, rate: float = 50.0) -> Policy:
    """Gradient descent on the DPO loss over rows of (prompt, chosen, rejected); probabilities by prompt."""
    prompts = sorted({prompt for prompt, _, _ in rows})
    at = torch.tensor([prompts.index(prompt) for prompt, _, _ in rows])
    chosen, rejected = (torch.tensor([row[side] for row in rows]) for side in (1, 2))
    logits = torch.zeros(len(prompts), answers, dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(torch.zeros_like(logits), dim=-1)
    for _ in range(steps):
        logp = torch.log_softmax(logits, dim=-1)
        sides = [Side(logp=logp[at, y], ref=reference[at, y].detach()) for y in (chosen, rejected)]
        loss = dpo(PairLogps(*sides), beta=0.1).loss.sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= rate * gradient
    with torch.no_grad():
        table = torch.softmax(logits, dim=-1).tolist()
    return dict(zip(prompts, table, strict=True))


def rows_of(prefs: Preferences) -> list[tuple[str, int, int]]:
    rows = prefs.texts().select("prompt", "chosen_id", "rejected_id").collect()
    return [
        ("\n".join(m["content"] for m in prompt), chosen, rejected) for prompt, chosen, rejected in rows.iter_rows()
    ]


def at_goal(policy: Policy, goal: int) -> list[float]:
    found = [table for prompt, table in policy.items() if f"Overall score: {goal}." in prompt]
    assert len(found) == 1
    return found[0]


def near(expected: list[float]) -> object:
    return pytest.approx(expected, abs=1e-3)


T1 = ([9.0, 8.0], [(0, 1)])
T2 = ([9.0, 1.0, 0.0], [(0, 2), (1, 2)])


def test_t1_plain_dpo_puts_all_on_the_better_answer() -> None:
    assert trained(rows_of(made(*T1)), 2) == {"Q": near([1, 0])}


def test_t1_relabelled_dpo_gives_what_is_asked_for() -> None:
    policy = trained(rows_of(relabel(made(*T1))), 2)
    assert at_goal(policy, 9) == near([1, 0])
    assert at_goal(policy, 8) == near([0, 1])


def test_t2_plain_dpo_cannot_tell_9_from_1() -> None:
    assert trained(rows_of(made(*T2)), 3) == {"Q": near([0.5, 0.5, 0])}


@pytest.mark.parametrize("over", ["pairs", "answers"])
def test_t2_relabelled_dpo_gives_what_is_asked_for(over: str) -> None:
    policy = trained(rows_of(relabel(made(*T2), source_range=(0, 10), decimals=0, over=over)), 3)  # type: ignore[arg-type]
    # 0, 1 and 9 of 0..10 are printed as 1, 2 (1.9) and 9 (9.1).
    assert at_goal(policy, 9) == near([1, 0, 0])
    assert at_goal(policy, 2) == near([0, 1, 0])
    assert at_goal(policy, 1) == near([0, 0, 1])


def test_under_the_top_goal_of_t2_the_middle_answer_gets_no_gradient() -> None:
    rows = [row for row in rows_of(relabel(made(*T2), source_range=(0, 10), decimals=0)) if "score: 9." in row[0]]
    assert [row[1:] for row in rows] == [(0, 2)]
    policy = trained(rows, 3, steps=1)
    one, two, three = next(iter(policy.values()))
    assert one > two > three
    # One step of size s on -log sigma(0.1 (l1 - l3)) moves l1 by 0.05 s, l2 by 0, l3 by -0.05 s.
    assert one * three == pytest.approx(two**2)


def test_a_tie_would_only_pull_the_policy_to_indifference() -> None:
    # What dropping ties avoids: the same prompt asks for both orders, and the table stays at a half each.
    assert trained([("Q", 0, 1), ("Q", 1, 0)], 2) == {"Q": near([0.5, 0.5])}
    assert rows_of(relabel(made([7.0, 7.0], [(0, 1)]))) == []


def test_ra_plus_leaves_the_low_goal_unseen() -> None:
    policy = trained(rows_of(relabel(made(*T1), "ra_plus")), 2)
    assert len(policy) == 1
    assert at_goal(policy, 9) == near([1, 0])


def unswapped(prefs: Preferences) -> list[tuple[str, int, int]]:
    """A negative copy whose sides were left as they are: the published fault of the user-prefix variant."""
    positive = rows_of(relabel(prefs, "ra_plus"))
    rows = rows_of(relabel(prefs))
    return [*positive, *((prompt, rejected, chosen) for prompt, chosen, rejected in rows[1::2])]


def test_without_the_exchange_the_low_goal_would_ask_for_the_high_answer() -> None:
    policy = trained(unswapped(made(*T1)), 2)
    assert at_goal(policy, 8) == near([1, 0])  # and not [0, 1], which is what the goal means
