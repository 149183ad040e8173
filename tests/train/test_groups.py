"""Groups: all answers to a prompt, from the tables to the gradient."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import tiny
from pairwright.chat import assistant, prompt_id, user
from pairwright.errors import InputError
from pairwright.logprobs import Limits, logprobs
from pairwright.logprobs.core import Batch, answer_logps, token_values
from pairwright.losses import GroupLogps, GroupLoss
from pairwright.preferences import Preferences, Step
from pairwright.train import resolve, train
from pairwright.train.data import group_examples, has_reference_columns
from pairwright.train.job import prepare
from pairwright.train.records import answers_of, collate, groups_of
from pairwright.train.reference import with_stored

WIDE = Limits(200, 100)
FAST: dict[str, Any] = {
    "learning_rate": 0.01,
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "save_strategy": "no",
}


def grouped(rows: list[tuple[str, list[tuple[str, float | None]]]], *, mixed: bool = False) -> Preferences:
    """Prompts with scored answers; `mixed` has the first answers of all prompts stand before the second ones."""
    answers = [(at, text, score) for at, (_, texts) in enumerate(rows) for text, score in texts]
    if mixed:
        counted: dict[int, int] = {}
        places = [(counted.setdefault(at, 0), counted.update({at: counted[at] + 1})) for at, _, _ in answers]
        answers = [answer for _, answer in sorted(zip(places, answers, strict=True), key=lambda both: both[0][0])]
    ids = [prompt_id([user(text)]) for text, _ in rows]
    return Preferences.of(
        pl.DataFrame({"prompt_id": ids, "prompt": [[user(text)] for text, _ in rows]}),
        pl.DataFrame(
            {
                "prompt_id": [ids[at] for at, _, _ in answers],
                "response": [[assistant(text)] for _, text, _ in answers],
                "score": [score for _, _, score in answers],
                "score_help": [None if score is None else score + 1 for _, _, score in answers],
            },
            schema_overrides={"score": pl.Float64, "score_help": pl.Float64},
        ),
    )


ROWS: list[tuple[str, list[tuple[str, float | None]]]] = [
    ("ask one", [("yes sir", 9.0), ("no", 2.0), ("perhaps so", 5.0)]),
    ("ask two", [("red", 1.0), ("green and blue", 4.0)]),
    ("ask three", [("one", 3.0), ("two", 8.0), ("three", 7.0), ("four five", 1.0)]),
]


@pytest.fixture(scope="module")
def reader() -> Any:
    return tiny.tokenizer()


@pytest.mark.parametrize("mixed", [False, True])
def test_a_group_has_all_answers_of_its_prompt_wherever_they_stand(mixed: bool, reader: Any) -> None:
    found = group_examples(grouped(ROWS, mixed=mixed), reader, split="train", limits=WIDE, score="score")
    assert found.dropped == {}
    for row, (prompt, answers) in zip(found.rows, ROWS, strict=True):
        assert reader.decode(row.prompt) == f"<|begin|><|user|>{prompt}<|end|><|assistant|>"
        assert [reader.decode(ids) for ids in row.answers] == [f"{text}<|end|>" for text, _ in answers]
        assert row.scores == tuple(score for _, score in answers)
        assert (row.named, row.wanted, row.refs, row.weight) == (None, None, None, 1.0)


def test_each_answer_that_is_not_trained_on_counts_once(reader: Any) -> None:
    rows = [
        *ROWS,
        ("ask four", [("alone", 4.0)]),
        ("ask five", [("left", 4.0), ("", 2.0), ("x" * 300, 3.0)]),
        ("ask six", [("one", 4.0), ("two", None), ("three", 3.0)]),
        ("ask seven", [("", 4.0), (" ", 2.0)]),
    ]
    prefs = grouped(rows)
    found = group_examples(prefs, reader, split="train", limits=WIDE, score="score")
    assert found.dropped == {"unscored": 1, "empty_response": 3, "lost_to_truncation": 1, "lone_answer": 2}
    left = sum(len(row.answers) for row in found.rows)
    assert left + sum(found.dropped.values()) == prefs.counts().responses
    without = group_examples(prefs, reader, split="train", limits=WIDE)
    assert "unscored" not in without.dropped
    assert without.rows[0].scores is None
    few = Preferences.of(prefs.prompts.collect().tail(6), prefs.responses)
    assert group_examples(few, reader, split="train", limits=WIDE).dropped["missing_prompt"] == 3


def test_other_scores_may_be_the_main_one_or_stand_beside_it(reader: Any) -> None:
    found = group_examples(grouped(ROWS), reader, split="train", limits=WIDE, score="score_help", scores=("help",))
    assert found.rows[1].scores == (2.0, 5.0)
    assert found.rows[1].named == {"help": (2.0, 5.0)}
    with pytest.raises(InputError, match="there is no column 'score_truth' in responses"):
        group_examples(grouped(ROWS), reader, split="train", limits=WIDE, scores=("truth",))


def test_only_prompts_of_the_split(reader: Any) -> None:
    prefs = grouped(ROWS)
    data = prefs.then(
        Step(name="split"), prompts=prefs.prompts.with_columns(split=pl.Series(["test", "train", "test"]))
    )
    assert len(group_examples(data, reader, split="train", limits=WIDE).rows) == 1
    with pytest.raises(InputError, match="no prompts of split 'dev': its prompts are of 'test', 'train'"):
        group_examples(data, reader, split="dev", limits=WIDE)


def test_of_equal_answers_one_is_taken_and_of_contradicted_ones_none(reader: Any) -> None:
    rows = [
        ("ask one", [("yes", 9.0), ("no", 2.0), ("yes", 9.0), ("no", 2.0)]),
        ("ask two", [("yes", 9.0), ("no", 2.0), ("yes", 1.0), ("so", 4.0)]),
        ("ask three", [("yes", 9.0), ("yes", 9.0)]),
    ]
    found = group_examples(grouped(rows), reader, split="train", limits=WIDE, score="score")
    texts = [[reader.decode(ids) for ids in row.answers] for row in found.rows]
    assert texts == [["yes<|end|>", "no<|end|>"], ["no<|end|>", "so<|end|>"]]
    assert [row.scores for row in found.rows] == [(9.0, 2.0), (2.0, 4.0)]
    assert found.dropped == {"equal_text": 5, "lone_answer": 1}
    # Without a score that is looked at, nothing contradicts.
    without = group_examples(grouped(rows[1:2]), reader, split="train", limits=WIDE)
    assert (len(without.rows[0].answers), without.dropped) == (3, {"equal_text": 1})
    long = grouped([("ask", [("x" * 250 + "a", 1.0), ("x" * 250 + "b", 2.0), ("c", 3.0), ("d", 3.0)])])
    cut = group_examples(long, reader, split="train", limits=WIDE, truncate="completion_end", score="score")
    assert (len(cut.rows[0].answers), cut.dropped) == (2, {"equal_after_truncation": 2})


def softmaxed(group: GroupLogps) -> GroupLoss:
    """A loss in which every answer's gradient depends on all answers of its group, and on nothing else."""
    logp = group.answers.logp.masked_fill(~group.there, -1e30)
    return GroupLoss(-(logp.log_softmax(1)[:, 0]) * group.answers.logp[:, 1], group.answers.logp)


def test_the_gradient_of_a_group_is_that_of_its_answers_each_computed_by_itself(reader: Any) -> None:
    rows = group_examples(grouped(ROWS), reader, split="train", limits=WIDE).rows
    model = tiny.network("llama", len(reader)).train()
    inputs = collate(rows)
    group = groups_of(answers_of(token_values(model, Batch.from_inputs(inputs)), inputs, None), inputs)
    softmaxed(group).loss.sum().backward()  # type: ignore[no-untyped-call]
    ours = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    total = torch.zeros(())
    for row in rows:
        logps = []
        for answer in row.answers:
            text = torch.tensor([[*row.prompt.tolist(), *answer.tolist()]])
            values = model(input_ids=text).logits[0].log_softmax(-1)
            start = len(row.prompt)
            logps.append(sum(values[start + t - 1, token] for t, token in enumerate(answer.tolist())))
        several = torch.stack(logps)
        total = total - several.log_softmax(0)[0] * several[1]
    total.backward()  # type: ignore[no-untyped-call]
    for mine, weight in zip(ours, model.parameters(), strict=True):
        assert weight.grad is not None
        torch.testing.assert_close(mine, weight.grad, atol=2e-4, rtol=1e-4)
    assert max(float(mine.abs().max()) for mine in ours) > 0.1


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_groups_train_alike_with_columns_a_store_and_a_frozen_model(model: Path, other: Path, tmp_path: Path) -> None:
    prefs = grouped(ROWS)
    data = logprobs(prefs, model=other, name="ref")
    assert has_reference_columns(data, "ref", examples="groups")
    settings = {"model": model, "loss": "infonca", "examples": "groups", "num_train_epochs": 2.0, **FAST}
    found = []
    for name, reference in (
        ("columns", {}),
        ("store", {"reference_model": other}),
        ("frozen", {"reference_model": other}),
    ):
        run = train(data, output=tmp_path / name, reference=name, **reference, **settings)
        found.append(lines(run.directory))
    assert len(found[0]) == 4
    for rows in zip(*found, strict=True):
        assert rows[0] == pytest.approx(rows[1], abs=2e-4)
        assert rows[0] == pytest.approx(rows[2], abs=2e-4)
    assert found[0][0]["pairwright/groups"] == 2.0
    assert found[0][-1]["loss"] < found[0][0]["loss"]
    unknown = data.responses.with_columns(pl.when(pl.int_range(pl.len()) != 3).then("logp_ref").alias("logp_ref"))
    part = group_examples(
        Preferences.of(data.prompts, unknown), tiny.tokenizer(), split="train", limits=WIDE, reference="ref"
    )
    assert part.dropped == {"no_reference": 1, "lone_answer": 1}


def test_columns_of_groups_that_were_made_for_other_tokens_are_refused(model: Path, reader: Any) -> None:
    data = logprobs(grouped(ROWS), model=model, name="ref")
    longer = data.responses.with_columns(pl.col("len_ref") + 1)
    with pytest.raises(InputError, match="run logprobs again"):
        group_examples(Preferences.of(data.prompts, longer), reader, split="train", limits=WIDE, reference="ref")
    with pytest.raises(InputError, match="no column logp_old"):
        group_examples(data, reader, split="train", limits=WIDE, reference="old")


def test_the_store_gives_each_answer_of_a_group_its_own_number(model: Path) -> None:
    rows = prepare(grouped(ROWS), resolve(model=model, loss="infonca", examples="groups", **FAST)).examples.rows
    stored = with_stored(rows, model=model, dtype="float32")
    from pairwright.logprobs.models import open_model

    with torch.no_grad():
        expected = answer_logps(open_model(model), Batch.from_inputs(collate(rows))).logp
    assert [value for row in stored for value in row.refs or ()] == pytest.approx(expected.tolist(), abs=1e-4)
    assert [len(row.refs or ()) for row in stored] == [3, 2, 4]


@pytest.mark.parametrize("loss", ["infonca", "nca", "rrhf"])
def test_a_batch_of_1_accumulated_is_a_batch_of_many_groups(loss: str, model: Path, tmp_path: Path) -> None:
    prefs = grouped([(f"{prompt} {at}", answers) for at in range(3) for prompt, answers in ROWS])
    shared = {"model": model, "loss": loss, "examples": "groups", "num_train_epochs": 2.0, **FAST}
    for name, batch, steps in (("small", 1, 4), ("large", 4, 1)):
        own = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps}
        train(prefs, output=tmp_path / name, **shared | own)
    small, large = lines(tmp_path / "small"), lines(tmp_path / "large")
    assert len(small) == len(large) == 6
    for one, many in zip(small, large, strict=True):
        del one["epoch"], many["epoch"]  # transformers counts batches: 4 of 9 is another share than 1 of 3
        assert one == pytest.approx(many, abs=2e-3, rel=2e-4)
