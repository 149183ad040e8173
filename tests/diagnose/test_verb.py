"""The verb: it asks every diagnostic that the files allow, names what is missing, and writes what it returns."""

import json

import pytest

from diagnose.made_runs import N, drawn_answers, log, made_step, planted, probed, rows_of, trained
from pairwright.diagnose.finding import Diagnosis
from pairwright.diagnose.verb import diagnose, target_of
from pairwright.errors import InputError
from pairwright.pipeline import run as run_recipe
from pairwright.preferences import Step


def parts_of(found, name):
    return [part for part in found.parts if part.name == name]


def test_a_training_that_pushed_both_answers_down_is_warned_of_by_the_planted_number(tmp_path):
    """Chosen answers fall by 3 nats each 10 steps: after 20, by 6 nats, whatever else there is."""
    found = diagnose(planted(tmp_path / "t"))
    (part,) = parts_of(found, "displacement")
    finding = next(each for each in part.findings if each.check == "likelihood_displacement")
    assert finding.level == "warning"
    assert finding.value == pytest.approx(-6.0, abs=1e-9)
    assert finding.n == N
    assert found.findings[0].level == "warning"  # they come first


def test_a_training_that_raised_the_chosen_answers_is_not_warned_of(tmp_path):
    found = diagnose(planted(tmp_path / "t", chosen=2.0, rejected=1.0))
    (part,) = parts_of(found, "displacement")
    assert {each.level for each in part.findings} == {"fine"}
    (part,) = parts_of(found, "unlearning")
    assert "warning" not in {each.level for each in part.findings}


def test_what_is_returned_is_what_is_written_and_the_same_again(tmp_path):
    root = planted(tmp_path / "t")
    found = diagnose(root, draws=200)
    first = (root / "diagnosis.json").read_bytes()
    kept = json.loads(first)
    assert kept.pop("made_by") == "pairwright diagnose"
    assert next(iter(json.loads(first))) == "made_by"
    assert Diagnosis.model_validate(kept) == found
    diagnose(root, draws=200)
    assert (root / "diagnosis.json").read_bytes() == first


def test_a_trainer_that_left_nothing_but_its_log_is_told_of_the_callback(tmp_path):
    """Of a model whose start is not known, nothing can be asked afterwards."""
    log(tmp_path / "t", [{"step": 1, "logps/chosen": -20.0, "logps/rejected": -20.0}])
    missing = {each.part: each for each in diagnose(tmp_path / "t").missing}
    assert "add_callback(Probe(" in missing["unlearning"].remedy


def test_a_training_without_probes_says_what_it_lacks_and_how_to_get_it(tmp_path):
    trained(tmp_path / "t", model="hub/start")
    log(
        tmp_path / "t",
        [{"step": i, "logps/chosen": -20.0 - i, "logps/rejected": -20.0 - 2 * i} for i in range(1, 21)],
    )
    found = diagnose(tmp_path / "t")
    missing = {each.part: each for each in found.missing}
    wanted = {"unlearning", "displacement", "over_optimisation", "margins", "credit", "budget", "diversity", "goals"}
    assert wanted <= set(missing)
    assert "probe_every" in missing["unlearning"].remedy
    assert "--data" in missing["unlearning"].remedy
    (part,) = parts_of(found, "displacement_of_logs")  # from lines, which are of other batches each
    assert {each.level for each in part.findings} <= {"note", "fine"}


def samples_of(step):
    return [
        {"prompt_id": f"p{i}", "sample": 0, "asked": "none", "text": f"a b {i} {step}", "score": 4.0 + step / 10,
         "logp": -5.0, "start_logp": -5.0 - step / 10, "length": 5 + step // 10, "kl": step / 10 + 0.01 * (i % 3 - 1),
         "entropy": 1.0, "top_entropy": 1.0, "raw_top_entropy": 1.0, "top_mass": 1.0, "stopped": "eos"}
        for i in range(N)
    ]  # fmt: skip


def test_samples_of_probes_give_a_budget_lengths_and_diversity(tmp_path):
    found = diagnose(planted(tmp_path / "t", samples=samples_of), draws=200)
    (budget,) = parts_of(found, "budget")
    # Exact KL: 1 nat at step 10 and 2 at step 20 on average; its root is the distance.
    rows = {row["model"]: row for row in budget.result.table}
    assert rows["t step 10"]["d"] == pytest.approx(1.0)
    assert rows["t"]["d"] == pytest.approx(2**0.5)
    assert rows["t"]["kl_by"] == "exact"
    text = json.dumps([part.result.model_dump(mode="json") for part in found.parts if part.name.startswith("length")])
    assert "2.0" in text  # 7 tokens instead of 5
    assert not {"budget", "length_drift", "diversity"} & {each.part for each in found.missing}


def test_generated_answers_and_samples_of_probes_are_points_of_two_budgets(tmp_path):
    """They answer other prompts; together, one model would be two distances."""
    root = tmp_path / "demo"
    base = made_step(root, 1, "base", "scratch", lambda d: d.mkdir(exist_ok=True))
    made_step(root, 2, "t", "train", lambda d: planted(d, samples=samples_of), model="step:base", loss="dpo")
    lineage = [Step(name="logprobs", settings={"name": name}) for name in ("policy", "start")]
    rows = [(f"q{i}", None, "a") for i in range(6)]
    numbers = {"score": 4.0, "logp_policy": -3.0, "logp_start": -7.0, "len_policy": 2.0}
    read = drawn_answers(rows, lineage=lineage, **{name: [value] * 6 for name, value in numbers.items()})
    made_step(root, 3, "answers", "generate", lambda d: drawn_answers(rows).save(d / "data"), model="step:t")
    made_step(root, 4, "read", "logprobs", lambda d: read.save(d / "data"),
              **{"from": "answers", "model": "step:t", "reference": "step:base"})  # fmt: skip
    assert base.name == "01-base"
    found = diagnose(root, draws=100)
    one, two = parts_of(found, "budget")
    assert [(row["model"], row["d"]) for row in one.result.table] == [("t", 2.0)]  # 4 nats
    assert [row["model"] for row in two.result.table] == ["t step 10", "t"]
    assert (one.subject, two.subject) == ("t", "t (samples of their probes)")


def test_answers_asked_for_several_goals_are_calibrated_and_the_trained_one_is_compared_at_its_best_goal(tmp_path):
    root = tmp_path / "demo"
    made_step(root, 1, "base", "train", lambda d: trained(d, model="gone", loss="sft"), model="gone", loss="sft")
    made_step(
        root, 2, "ra", "train", lambda d: trained(d, model="x", goal={"scale": 10}), model="step:base", loss="dpo"
    )
    rows = [(f"q{i}", goal, f"w{i} " * 4) for i in range(6) for goal in (None, 2.0, 10.0)]
    length = {None: 3.0, 2.0: 4.0, 10.0: 9.0}
    for number, (name, more) in enumerate({"base": 0, "ra": 2}.items(), 3):
        answers = drawn_answers(
            rows, name=name, score=[5.0 if goal is None else goal for _, goal, _ in rows],
            **{f"len_{name}": [length[goal] + more for _, goal, _ in rows]},
        )  # fmt: skip
        made_step(root, number, f"answers-{name}", "generate", lambda d, a=answers: a.save(d / "data"),
                  model=f"step:{name}")  # fmt: skip
    found = diagnose(root, draws=200)
    assert len(parts_of(found, "goals")) == 1
    drift = next(part for part in found.parts if part.name.startswith("length"))
    assert drift.result.metrics[0].value is not None
    assert "asked for 10" in drift.model_dump_json()
    assert {"budget", "unlearning"} <= {each.part for each in found.missing}
    assert "base:" not in " ".join(each.says for each in found.missing)  # it was not trained on preferences


def test_several_runs_are_diagnosed_together_and_written_into_the_first(tmp_path):
    one = planted(tmp_path / "one", samples=samples_of)
    two = planted(tmp_path / "two", chosen=1.0, rejected=0.5)
    found = diagnose([one, two], draws=100)
    assert found.runs == ("one", "two")
    assert [part.subject for part in parts_of(found, "displacement")] == ["one", "two"]
    missing = {each.part: each.says for each in found.missing}
    assert missing["budget"].startswith("two: No answers")  # and not the one that has them
    assert (one / "diagnosis.json").is_file()
    assert not (two / "diagnosis.json").exists()


def test_trainings_without_probes_are_probed_where_data_are_given(tmp_path, monkeypatch):
    """Asked once, for the one that has none, with the settings that were given."""
    from pairwright.probes import after

    asked = []

    def probe_run(training, prefs, **settings):
        asked.append((training.name, prefs, settings))
        probed(training, steps=(0, 10), rows=lambda step: rows_of(step, chosen=-1.0, rejected=-2.0), about={"pairs": N})

    monkeypatch.setattr(after, "probe_run", probe_run)
    there, bare = planted(tmp_path / "there"), tmp_path / "bare"
    trained(bare, model="hub/start")
    data = drawn_answers([("q", None, "a")])
    found = diagnose([there, bare], data=data, pairs=7, split="held", draws=100)
    assert [(name, prefs is data) for name, prefs, _ in asked] == [("bare", True)]
    assert (asked[0][2]["pairs"], asked[0][2]["split"]) == (7, "held")
    assert [part.subject for part in parts_of(found, "displacement")] == ["there", "bare"]
    assert "unlearning" not in {each.part for each in found.missing}


def test_a_training_that_cannot_be_probed_is_named_and_alone_it_is_an_error(tmp_path, monkeypatch):
    from pairwright.probes import after

    def probe_run(training, prefs, **settings):
        if training.name == "bad":
            raise InputError("bad has no training.json; train it again")
        probed(training, steps=(0, 10), rows=lambda step: rows_of(step, chosen=1.0, rejected=0.5), about={"pairs": N})

    monkeypatch.setattr(after, "probe_run", probe_run)
    data = drawn_answers([("q", None, "a")])
    for name in ("good", "bad"):
        trained(tmp_path / name, model="hub/start")
    found = diagnose([tmp_path / "good", tmp_path / "bad"], data=data, draws=100)
    assert "bad: bad has no training.json; train it again" in [each.says for each in found.missing]
    with pytest.raises(InputError, match=r"no training\.json"):
        diagnose(tmp_path / "bad", data=data)


def test_a_file_of_somebody_else_is_not_written_over(tmp_path):
    root = planted(tmp_path / "t")
    (root / "diagnosis.json").write_text('{"mine": true}')
    with pytest.raises(InputError, match="no diagnosis wrote it"):
        diagnose(root)
    assert (root / "diagnosis.json").read_text() == '{"mine": true}'


def test_the_file_is_named_by_a_directory_or_a_file_that_ends_in_json(tmp_path):
    assert target_of(None, tmp_path) == tmp_path / "diagnosis.json"
    assert target_of(tmp_path, "run") == tmp_path / "diagnosis.json"
    assert target_of(tmp_path / "d.json", "run") == tmp_path / "d.json"
    with pytest.raises(InputError, match=r"ends in \.json"):
        target_of(tmp_path / "d.html", "run")


def test_nothing_to_diagnose_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="give one"):
        diagnose([])
    with pytest.raises(InputError, match="no directory"):
        diagnose(tmp_path / "nowhere")


def test_a_step_of_a_recipe_writes_its_diagnosis_into_its_own_directory_and_is_not_done_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = [
        {"name": "data", "do": "world", "what": "lists", "prompts": 20, "answers": 2},
        {"name": "few", "do": "pair", "rule": "best_worst"},
        {"do": "diagnose", "draws": 50},
    ]
    ran = run_recipe(recipe, output="out")
    kept = json.loads((ran.step("diagnose") / "diagnosis.json").read_text())
    assert kept["runs"] == ["out"]
    assert "training" in {each["part"] for each in kept["missing"]}
    assert ran.steps[-1].headline == {"warnings": 0, "missing": len(kept["missing"])}
    assert run_recipe(recipe, output="out").reused == {"data", "few", "diagnose"}


def test_a_real_training_is_probed_by_a_step_and_neither_is_done_twice(tmp_path, monkeypatch):
    """From nothing: a model of random weights moves in eight steps, and everything that needs models is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "cache"))
    gold = "pairwright.worlds.lists:gold"
    train = {"do": "train", "model": "step:start", "loss": "dpo", "beta": 0.1, "learning_rate": 1e-2, "max_steps": 8}
    recipe = [
        {"name": "data", "do": "world", "what": "lists", "prompts": 40, "answers": 2, "seed": 1},
        {"do": "split", "test": 0.25},
        {"do": "pair", "rule": "best_worst"},
        {"name": "start", "do": "scratch", "kind": "word", "hidden_size": 16, "layers": 1, "heads": 2,
         "max_length": 128},
        {"name": "dpo", **train, "from": "pair", "save_strategy": "no", "per_device_train_batch_size": 8},
        {"do": "diagnose", "data": "step:pair", "samples": 1, "max_new_tokens": 8, "scorer": gold, "draws": 100},
    ]  # fmt: skip
    ran = run_recipe(recipe, output="out")
    kept = json.loads((ran.step("diagnose") / "diagnosis.json").read_text())
    parts = {part["name"]: part for part in kept["parts"]}
    assert {"displacement", "over_optimisation", "margins", "length_reward", "credit", "budget", "length_drift",
            "diversity"} <= set(parts)  # fmt: skip
    (row,) = parts["budget"]["result"]["table"]
    assert (row["model"], row["kl_by"]) == ("dpo", "exact")
    assert row["kl_exact"] > 0
    assert row["d"] == pytest.approx(row["kl_exact"] ** 0.5)
    assert len(run_recipe(recipe, output="out").reused) == len(recipe)
