"""The verb: it asks every diagnostic that the files allow, names what is missing, and writes what it returns."""

import json

import polars as pl
import pytest

from diagnose.made_runs import N, drawn_answers, log, made_step, planted, probed, rows_of, trained
from pairwright.diagnose.finding import Diagnosis
from pairwright.diagnose.parts import REMEDIES
from pairwright.diagnose.table import DIAGNOSTICS
from pairwright.diagnose.verb import diagnose, target_of
from pairwright.errors import InputError
from pairwright.pipeline import run as run_recipe
from pairwright.preferences import Preferences, Step
from pairwright.probes.store import About, write_about


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


def test_only_a_model_that_was_trained_with_goals_is_blamed_for_ignoring_them(tmp_path):
    """Both give the same scores, in no order of the goals: 5 and 6 for each."""
    root = tmp_path / "demo"
    for number, (name, goal) in enumerate({"plain": None, "ra": {"scale": 10}}.items(), 1):
        made_step(root, number, name, "train", lambda d, g=goal: trained(d, model="hub/start", goal=g), loss="dpo")
        rows = [(f"q{i}", goal, f"w{i} " * 4) for i in range(6) for goal in (2.0, 10.0)]
        answers = drawn_answers(rows, name=name, score=[5.0 + (i // 2) % 2 for i in range(len(rows))])
        made_step(root, number + 2, f"answers-{name}", "generate", lambda d, a=answers: a.save(d / "data"),
                  model=f"step:{name}")  # fmt: skip
    (part,) = parts_of(diagnose(root, draws=200), "goals")
    levels = {each.subject: each.level for each in part.findings if each.check == "goal_control"}
    assert sorted(levels.values()) == ["note", "warning"]
    assert next(level for subject, level in levels.items() if "plain" in subject) == "note"


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


def test_trainings_are_probed_where_data_are_given(tmp_path, monkeypatch):
    """Each is asked for once, with the settings that were given."""
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
    # The one that is there, too: its probing may have been killed, and what is done is not done again.
    assert [(name, prefs is data) for name, prefs, _ in asked] == [("there", True), ("bare", True)]
    assert all((each["pairs"], each["split"]) == (7, "held") for _, _, each in asked)
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
    # One that was probed while it ran is told with what is there.
    found = diagnose(planted(tmp_path / "kept" / "bad"), data=data, draws=50)
    assert parts_of(found, "displacement")
    assert [each.part for each in found.missing].count("probes") == 1
    assert all(each.remedy for each in found.missing)


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


def test_margins_are_scaled_by_the_beta_that_was_given_or_the_trainings_own_or_none(tmp_path):
    """The planted margin is 2 * 3 = 6 nats at step 20: chosen -6, rejected -12."""
    root = planted(tmp_path / "t")

    def margin(**settings):
        (part,) = parts_of(diagnose(root, draws=50, **settings), "margins")
        return part.result.metric("margin").value

    assert margin() == pytest.approx(0.6)
    assert margin(beta=0.5) == pytest.approx(3.0)
    write_about(root, About(pairs=N, split="test", vocabulary=5, start="start", beta=None, loss="simpo"))
    assert margin() == pytest.approx(6.0)


def test_a_model_asked_for_several_scores_is_compared_and_measured_apart_from_itself_without_a_goal(tmp_path):
    """Distances by hand: 1 nat without a goal, 4 nats asked for the best, whose number is null."""
    root = tmp_path / "vec"
    planted(root)
    trained(root, model="hub/start", goal={"attributes": ["help", "short"]}, beta=0.1)

    def samples(step):
        return [
            {"prompt_id": f"p{i}", "sample": 0, "asked": asked, "text": f"a {asked} {i}", "score": 5.0, "logp": -5.0,
             "start_logp": -5.0, "length": length if step else 5, "kl": kl if step else 0.0}
            for i in range(N) for asked, kl, length in (("none", 1.0, 7), ("top", 4.0, 9))
        ]  # fmt: skip

    probed(root, steps=(0, 20), rows=lambda step: rows_of(step, chosen=1, rejected=0), samples=samples,
           about={"pairs": N})  # fmt: skip
    (root / "probes" / "000010.parquet").unlink()
    found = diagnose(root, draws=50)
    one, two = parts_of(found, "budget")
    assert [[row["d"] for row in part.result.table] for part in (one, two)] == [[1.0], [2.0]]
    assert [row["answers"] for part in (one, two) for row in part.result.table] == [N, N]
    assert "asked for the best" in two.subject
    (drift,) = parts_of(found, "length_drift")
    assert drift.result.metric("difference").value == 4.0  # 9 against 5: it is meant to be asked for the best
    assert drift.subject == "vec asked for the best against start of vec asked for the best"


def drawn_otherwise(root, **other):
    """A run whose start was drawn as `GENERATED`, the model at that and, a second time, with other settings."""
    made_step(root, 1, "base", "scratch", lambda d: d.mkdir(exist_ok=True))
    made_step(root, 2, "t", "train", planted, model="step:base", loss="dpo")
    rows = [(f"q{i}", None, f"a{i}") for i in range(6)]
    numbers = {"score": 4.0, "logp_policy": -3.0, "logp_start": -7.0, "len_policy": 2.0}

    def answers(name, *, given, read):
        steps = [Step(name="logprobs", settings={"name": each}) for each in ("policy", "start")] if read else []
        plain = drawn_answers(rows, name=name, lineage=steps, **{f"len_{name}": [3.0] * 6},
                              **({key: [value] * 6 for key, value in numbers.items()} if read else {}))  # fmt: skip
        lineage = [Step(name="generate", settings={**plain.lineage[0].settings, **given}), *plain.lineage[1:]]
        return Preferences.of(plain.prompts.collect(), plain.responses.collect(), lineage=lineage)

    start = answers("base", given=other if other.pop("start", False) else {}, read=False)
    made_step(root, 3, "answers-base", "generate", lambda d: start.save(d / "data"), model="step:base")
    for number, (name, given) in enumerate((("one", {}), ("two", other)), 4):
        made = answers("t", given=given, read=True)
        made_step(root, 2 * number, f"answers-{name}", "generate", lambda d, m=made: m.save(d / "data"), model="step:t")
        made_step(root, 2 * number + 1, f"read-{name}", "logprobs", lambda d, m=made: m.save(d / "data"),
                  **{"from": f"answers-{name}", "model": "step:t", "reference": "step:base"})  # fmt: skip
    return root


def test_answers_of_two_largest_lengths_are_points_of_two_budgets(tmp_path):
    found = diagnose(drawn_otherwise(tmp_path / "demo", max_new_tokens=64), draws=50)
    assert [[row["model"] for row in part.result.table] for part in parts_of(found, "budget")] == [
        ["answers-one"],
        ["answers-two"],
    ]
    (drift,) = parts_of(found, "length_drift")  # with the start's, of the same length
    assert drift.subject == "answers-one against base"


def test_answers_at_another_temperature_are_compared_with_none_at_1_and_have_no_budget(tmp_path):
    found = diagnose(drawn_otherwise(tmp_path / "demo", temperature=0.7), draws=50)
    (budget,) = parts_of(found, "budget")
    assert [row["model"] for row in budget.result.table] == ["answers-one"]
    (drift,) = parts_of(found, "length_drift")
    assert drift.subject == "answers-one against base"
    # Where the start was drawn at that temperature, it is the other answers that it meets.
    found = diagnose(drawn_otherwise(tmp_path / "other", temperature=0.7, start=True), draws=50)
    (drift,) = parts_of(found, "length_drift")
    assert drift.subject == "answers-two against base"


def test_whatever_is_missing_says_how_to_get_it(tmp_path):
    assert set(REMEDIES) == set(DIAGNOSTICS)
    assert all(REMEDIES.values())
    trained(tmp_path / "bare", model="hub/start")
    log(tmp_path / "trl", [{"step": 1, "logps/chosen": -20.0, "logps/rejected": -20.0}])
    broken = planted(tmp_path / "broken")
    for step in (10, 20):  # a probe of which nothing can be read
        frame = pl.read_parquet(broken / "probes" / f"{step:06d}.parquet")
        frame.with_columns(logp=pl.lit(float("nan"))).write_parquet(broken / "probes" / f"{step:06d}.parquet")
    found = diagnose([tmp_path / "bare", tmp_path / "trl", broken], draws=50)
    assert any("training has diverged" in each.says for each in found.missing)
    assert [each for each in found.missing if not each.remedy.strip()] == []


def test_a_collapse_is_told_with_what_the_models_own_answers_lost(tmp_path):
    """Probed entropy 2.0, 1.5, 1.0 without a rise; own answers score 4 at the start and 1 at the end."""
    level = {0: 2.0, 10: 1.5, 20: 1.0}

    def rows(step):
        return [row | {"top_entropy": level[step] + 0.01 * (row["pair"] % 3)} for row in
                rows_of(step, chosen=1, rejected=0)]  # fmt: skip

    def samples(step):
        return [row | {"score": 4.0 - 3 * step / 20} for row in samples_of(step)]

    root = planted(tmp_path / "t")
    probed(root, steps=(0, 10, 20), rows=rows, samples=samples, about={"pairs": N})
    (part,) = parts_of(diagnose(root, draws=50), "over_optimisation")
    collapse = next(each for each in part.findings if each.check == "entropy_collapse")
    assert collapse.level == "warning"
    assert collapse.value == pytest.approx(-1.0)
    assert "score -3 " in collapse.says
