"""lm-eval for real, on tiny local models and local items in the columns of the real data sets."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import benchmark_files
import tiny
from pairwright.cli import main
from pairwright.errors import InputError, MissingExtra
from pairwright.evaluate import EVALUATIONS, Result, harness
from pairwright.evaluate.benchmarks import ACADEMIC

NEW_TOKENS = 6
NUM_COPIED = 12


def test_a_goal_needs_the_chat_and_tasks_must_be_named() -> None:
    with pytest.raises(InputError, match="needs chat_template"):
        harness("nowhere", goal=9.0)
    with pytest.raises(InputError, match="at least one task"):
        harness("nowhere", tasks=())


def test_without_lm_eval_the_command_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pairwright\[eval\]'"):
        harness("nowhere")


def test_it_is_in_the_table() -> None:
    assert EVALUATIONS["harness"] is harness


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: tiny.model(folder / name, seed=seed, positions=4096) for seed, name in enumerate(("before", "after"))}


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return benchmark_files.write_all(tmp_path_factory.mktemp("items") / "data")


def only(items: Path, folder: Path, *names: str) -> Path:
    """A directory with the items of some of the tasks."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(items / name)
    return folder


@pytest.fixture(scope="module")
def lm_eval() -> Any:
    return pytest.importorskip("lm_eval", reason="lm-eval is not installed; run: pip install 'pairwright[eval]'")


@pytest.fixture(scope="module")
def six(lm_eval: Any, models: dict[str, Path], items: Path) -> tuple[Result, list[Any]]:
    states = random.getstate(), np.random.get_state()
    found = harness(
        models["after"], before=models["before"], data=items, few_shot={"arc_challenge": 25}, max_new_tokens=NEW_TOKENS
    )
    return found, [states, (random.getstate(), np.random.get_state())]


@pytest.mark.slow
def test_the_six_benchmarks_run_under_lm_evals_definitions(six: tuple[Result, list[Any]], items: Path) -> None:
    """Of each its own shots and number of items; 24 tasks of BBH and 3 of MuSR are one benchmark each."""
    found, (before, after) = six
    sizes = {name: found.metric(f"after/{name}").n for name in ACADEMIC}
    assert sizes == dict.fromkeys(ACADEMIC, 4) | {"leaderboard_bbh": 4 * 24, "leaderboard_musr": 4 * 3}
    rows = {row["task"]: row for row in found.table if row["headline"]}
    assert len(rows) == 24 + 3 + 4
    assert rows["gsm8k_cot"]["few_shot"] == 8
    assert rows["arc_challenge"]["few_shot"] == 25
    assert rows["leaderboard_bbh_snarks"]["few_shot"] == 3
    assert rows["truthfulqa_mc2"]["source"] == str(items / "truthfulqa_mc2" / "validation.jsonl")
    for kind in ("after", "before"):
        mean = sum(found.metric(f"{kind}/{name}").value or 0.0 for name in ACADEMIC) / 6
        assert found.metric("average" if kind == "after" else "average_before").value == pytest.approx(mean)
    gap = (found.metric("average").value or 0.0) - (found.metric("average_before").value or 0.0)
    assert found.metric("difference").value == pytest.approx(gap)
    assert Result.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
    assert found.to_dict()["average"] == found.metric("average").value
    assert before[0] == after[0]  # lm-eval seeds the generators of the process; here they stand where they stood
    assert np.array_equal(before[1][1], after[1][1])


def loglikelihood(network: Any, reader: Any, head: str, rest: str) -> float:
    """The log-probability of a text after another, summed token by token."""
    import torch

    ids, start = reader(head + rest)["input_ids"], len(reader(head)["input_ids"])
    with torch.no_grad():
        logp = network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(logp[at - 1, ids[at]]) for at in range(start, len(ids)))


@pytest.mark.slow
def test_choices_are_marked_as_a_plain_loop_over_log_probabilities_marks_them(
    lm_eval: Any, models: dict[str, Path], tmp_path: Path
) -> None:
    """ARC without examples: `Question: ...`, `Answer:`, the most likely choice, once by its sum, once by characters.

    TruthfulQA's second number: the share of the true choices in the probability of all.
    """
    import transformers

    rows = benchmark_files.arc(24)
    benchmark_files.write(tmp_path / "data" / "arc_challenge", {"train": rows, "validation": rows, "test": rows})
    truths = benchmark_files.truthfulqa(6)
    benchmark_files.write(tmp_path / "data" / "truthfulqa_mc2", {"validation": truths})
    found = harness(models["after"], tasks=("arc_challenge", "truthfulqa_mc2"), data=tmp_path / "data")
    network = transformers.AutoModelForCausalLM.from_pretrained(models["after"])
    reader = transformers.AutoTokenizer.from_pretrained(models["after"])
    right = {"acc,none": 0, "acc_norm,none": 0}
    for row in rows:
        head = f"Question: {row['question']}\nAnswer:"
        sums = [loglikelihood(network, reader, head, f" {text}") for text in benchmark_files.COLOURS]
        each = [value / len(text) for value, text in zip(sums, benchmark_files.COLOURS, strict=True)]
        wanted = "ABCD".index(row["answerKey"])
        right["acc,none"] += int(np.argmax(sums)) == wanted
        right["acc_norm,none"] += int(np.argmax(each)) == wanted
    table = {row["metric"]: row["after"] for row in found.table if row["task"] == "arc_challenge"}
    assert table == pytest.approx({key: count / 24 for key, count in right.items()})
    assert found.metric("after/arc_challenge").value == table["acc_norm,none"]

    config = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks/truthfulqa/truthfulqa_mc1.yaml").read_text())
    shots = config["doc_to_text"].split("set prompt_qa = '")[1].split("'%}")[0].replace("\\n", "\n").strip()
    shares = []
    for row in truths:
        targets = row["mc2_targets"]
        head = f"{shots}\n\nQ: {row['question']}\nA:"
        logp = np.array([loglikelihood(network, reader, head, f" {text}") for text in targets["choices"]])
        likely = np.exp(logp - logp.max())
        shares.append(float((likely * np.array(targets["labels"])).sum() / likely.sum()))
    assert found.metric("after/truthfulqa_mc2").value == pytest.approx(np.mean(shares), rel=1e-3, abs=1e-9)


def written(model: Path, prompt: str) -> str:
    """What a model writes, its most probable token each time."""
    import torch
    import transformers

    network = transformers.AutoModelForCausalLM.from_pretrained(model)
    reader = transformers.AutoTokenizer.from_pretrained(model)
    ids = torch.tensor([reader(prompt)["input_ids"]])
    got = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False)
    return str(reader.decode(got[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.fixture(scope="module")
def own_tasks(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of one's own: its answers are what the model `after` writes, for 12 of 16 items; two others choose."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"prompt": f"Ball {i}:", "answer": written(models["after"], f"Ball {i}:")} for i in range(16)]
    rows = [row if i < NUM_COPIED else row | {"answer": "nobody says this"} for i, row in enumerate(rows)]
    (folder / "copy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "copied",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "copy.jsonl")}, "cache_dir": str(folder / "cache")},
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["a text that nobody writes"], "do_sample": False, "max_gen_toks": 4000},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 7},
    }
    (folder / "copied.yaml").write_text(yaml.safe_dump(task))
    return folder


@pytest.mark.slow
def test_what_only_the_trained_model_can_write_is_the_whole_difference(
    lm_eval: Any,
    models: dict[str, Path],
    own_tasks: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """12 of 16 answers are the trained model's own words: 0.75 after, 0 before; turned round, -0.75."""
    found = harness(
        models["after"], before=models["before"], tasks=("copied",), include_path=own_tasks, max_new_tokens=NEW_TOKENS
    )
    assert found.metric("difference").value == NUM_COPIED / 16
    assert found.metric("after/copied").value == NUM_COPIED / 16
    assert found.metric("before/copied").value == 0.0
    row = found.table[0]
    assert (row["gained"], row["lost"], row["version"], row["n"]) == (12, 0, "7", 16)

    target = tmp_path / "result.json"
    words = ["evaluate", "harness", str(models["before"]), "--before", str(models["after"]), "--tasks", "copied"]
    words += ["--include-path", str(own_tasks), "--max-new-tokens", str(NEW_TOKENS), "--limit", "14"]
    assert main([*words, "--few-shot", "copied", "0", "--json", "-o", str(target)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(target.read_text())
    assert printed["difference"] == pytest.approx(-NUM_COPIED / 14)
    assert printed["table"][0]["lost"] == NUM_COPIED
    assert printed["notes"] == ["Only the first 14 items of each task: a trial, no number to publish."]
    assert printed["settings"]["few_shot"] == {"copied": 0}


@pytest.mark.slow
def test_a_task_that_writes_more_than_the_model_can_read_is_refused(
    lm_eval: Any, models: dict[str, Path], own_tasks: Path, tmp_path: Path
) -> None:
    short = tiny.model(tmp_path / "short", positions=64)
    with pytest.raises(InputError, match=r"write 4,000 tokens.*64 in all; set max_new_tokens"):
        harness(short, tasks=("copied",), include_path=own_tasks)


@pytest.mark.slow
def test_prompts_that_lost_their_beginning_are_counted(lm_eval: Any, items: Path, tmp_path: Path) -> None:
    """BBH's `navigate` has 3 examples before each of 4 items, each with 2 choices: none fits into 64 tokens.

    ARC's questions without examples are 38 or 39 tokens: all fit.
    """
    short = tiny.model(tmp_path / "short", positions=64)
    tasks = ("leaderboard_bbh_navigate", "arc_challenge")
    found = harness(short, tasks=tasks, data=only(items, tmp_path / "two", *tasks))
    assert len(found.notes) == 1
    assert found.notes[0].startswith("short: 8 of 24 prompts were longer than the model reads (64 tokens")


@pytest.mark.slow
def test_the_choices_of_gpqa_do_not_depend_on_the_tasks_before_it(
    lm_eval: Any, models: dict[str, Path], items: Path, tmp_path: Path
) -> None:
    rows = benchmark_files.gpqa(40)
    benchmark_files.write(tmp_path / "gpqa_main_zeroshot", {"train": rows})
    benchmark_files.write(tmp_path / "arc_challenge", {name: rows_of(name) for name in ("train", "validation", "test")})
    alone = only(tmp_path, tmp_path / ".alone", "gpqa_main_zeroshot")
    one = harness(models["after"], tasks=("gpqa_main_zeroshot",), data=alone)
    two = harness(models["after"], tasks=("arc_challenge", "gpqa_main_zeroshot"), data=tmp_path)
    assert one.metric("after/gpqa_main_zeroshot") == two.metric("after/gpqa_main_zeroshot")


def rows_of(split: str) -> list[dict[str, Any]]:
    return benchmark_files.arc(3, start=len(split))


@pytest.mark.slow
def test_what_is_not_there_is_one_sentence(lm_eval: Any, models: dict[str, Path], items: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no task 'gsm8k_cott'.*gsm8k_cot"):
        harness(models["after"], tasks=("gsm8k_cott",))
    with pytest.raises(InputError, match="no directory"):
        harness(models["after"], data=tmp_path / "nowhere")
    with pytest.raises(InputError, match="few_shot names copa, which is none of the tasks"):
        harness(models["after"], tasks=("arc_challenge",), few_shot={"copa": 3}, data=items)
    (tmp_path / "arc_challenge").mkdir()
    with pytest.raises(InputError, match="no file that ends in"):
        harness(models["after"], tasks=("arc_challenge",), data=tmp_path)
    with pytest.raises(InputError, match=r"items of arc_challenge cannot be had.*give them as files with data"):
        harness(models["after"], tasks=("arc_challenge",))


@pytest.mark.slow
def test_a_goal_is_asked_in_the_chat_of_the_trained_model_only(
    lm_eval: Any, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence stands in every prompt of the model that takes goals, and in none of the other's."""
    from lm_eval.models.huggingface import HFLM

    from pairwright.goals import GoalFormat

    form = GoalFormat()
    trained, plain = (tiny.model(tmp_path / name, positions=2048) for name in ("trained", "plain"))
    (trained / "generation_goal.json").write_text(form.model_dump_json())
    asked: list[str] = []
    whole = HFLM.loglikelihood

    def spy(self: Any, requests: list[Any], *others: Any, **settings: Any) -> Any:
        asked.append(requests[0].args[0])
        return whole(self, requests, *others, **settings)

    monkeypatch.setattr(HFLM, "loglikelihood", spy)
    data = only(items, tmp_path / "one", "arc_challenge")
    found = harness(trained, before=plain, tasks=("arc_challenge",), data=data, chat_template=True, goal=9.0)
    question = "Question: Which colour has ball 0?\nAnswer:<|end|><|assistant|>"
    assert asked == [f"<|begin|><|user|>{question}", f"<|begin|><|user|>{form.say(9.0)}\n\n{question}"]
    assert any("asked in other words" in note for note in found.notes)
