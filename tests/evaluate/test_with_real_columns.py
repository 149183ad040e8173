"""The seam between verbs: columns that `logprobs` really wrote, before and after `relabel`."""

import polars as pl
import pytest

from pairwright.chat import assistant, prompt_id, user
from pairwright.evaluate import pairs
from pairwright.preferences import Preferences
from pairwright.relabel import relabel

pytest.importorskip("torch")

QUESTIONS = ("Name a fruit.", "Name a bird.", "Name a tool.")


def world():
    prompts = [[user(text)] for text in QUESTIONS]
    ids = [prompt_id(prompt) for prompt in prompts]
    words = ("apple", "robin", "hammer", "sand", "rain and more rain", "fog")
    return Preferences.of(
        pl.DataFrame({"prompt_id": ids, "prompt": prompts}),
        pl.DataFrame(
            {
                "prompt_id": ids * 2,
                "response": [[assistant(word)] for word in words],
                "score": [9.0, 8.0, 7.0, 2.0, 3.0, 1.0],
            }
        ),
        pl.DataFrame({"prompt_id": ids, "chosen_id": [0, 1, 2], "rejected_id": [3, 4, 5], "split": ["test"] * 3}),
    )


def test_both_kinds_of_columns_are_found(tmp_path):
    from pairwright.logprobs import logprobs
    from pairwright.train.scratch import scratch

    sizes = {"vocab_size": 400, "hidden_size": 16, "heads": 2, "layers": 1, "max_length": 256}
    new, old = (str(scratch(world(), output=tmp_path / str(seed), seed=seed, **sizes)) for seed in (0, 1))
    plain = logprobs(world(), model=new, name="new", reference=old, reference_name="old")
    asked = logprobs(relabel(plain, "ra"), model=new, name="new", reference=old, reference_name="old")
    result = pairs(asked, policy="new", reference="old")
    assert {row["copy"]: row["n"] for row in result.table} == {"positive": 3, "negative": 3, "unconditioned": 3}
    # What the plain pairs give is the part without a goal, from the very same columns.
    alone = pairs(plain, policy="new", reference="old")
    assert alone.metric("margin/unconditioned") == result.metric("margin/unconditioned")
    # The same models on both sides: every implicit reward is 0.
    same = logprobs(relabel(world(), "ra"), model=new, name="new", reference=new, reference_name="old")
    margins = pairs(same, policy="new", reference="old")
    assert margins.metric("margin/positive").value == margins.metric("steering").value == 0.0
    assert [row["ties"] for row in margins.table] == [3, 3]
