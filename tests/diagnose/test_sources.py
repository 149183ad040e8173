"""What directories hold, read as it stands: of which model an answer is, which scores and log-probabilities it has."""

import json

import polars as pl
import pytest

from diagnose.made_runs import drawn_answers, log, made_step, probed, trained
from pairwright.diagnose.sources import sources
from pairwright.diagnose.trainings import trained as of_training
from pairwright.errors import InputError
from pairwright.preferences import Preferences, Step

ROWS = [("a", None, "one"), ("a", 10.0, "two two"), ("b", None, ""), ("b", 10.0, "four")]


def scored(prefs, scores):
    responses = prefs.responses.with_columns(score=pl.Series(scores, dtype=pl.Float64))
    return prefs.then(Step(name="score"), responses=responses)


def read_after(prefs, labels, **columns):
    """As `as_asked` and `logprobs` leave them: other prompt ids for what was asked, and columns."""
    prompts = prefs.prompts.collect()
    ids = prefs.responses.select("prompt_id", "goal").collect()
    asked = [i if goal is None else f"{i}@{goal:g}" for i, goal in ids.iter_rows()]
    table = pl.DataFrame({"prompt_id": asked, "source_prompt_id": ids["prompt_id"]}).unique(maintain_order=True)
    table = table.join(prompts.rename({"prompt_id": "source_prompt_id"}), on="source_prompt_id", how="left")
    responses = prefs.responses.with_columns(
        pl.Series("prompt_id", asked), *(pl.Series(k, v, dtype=pl.Float64) for k, v in columns.items())
    )
    lineage = [*prefs.lineage, Step(name="as_asked"), *(Step(name="logprobs", settings={"name": n}) for n in labels)]
    return Preferences.of(table, responses, lineage=lineage)


@pytest.fixture
def run(tmp_path):
    """A run: a start, a training with goals from it, answers of it that were scored and then read by both models."""
    root = tmp_path / "demo"
    made_step(root, 1, "base", "train", lambda d: trained(d, model="gone", loss="sft"), model="gone", loss="sft")
    made_step(
        root, 2, "ra", "train",
        lambda d: trained(d, model="/moved/01-base/model", goal={"scale": 10}, beta=0.25, seed=3),
        model="step:base", loss="dpo",
    )  # fmt: skip
    plain = drawn_answers(ROWS, name="ra", len_ra=[3, 4, 1, 5])
    marked = scored(plain, [2, None, 1, 9])
    read = read_after(
        marked,
        ["policy", "start"],
        logp_policy=[-1, -2, None, -4],
        logp_start=[-2, -5, None, -3],
        len_policy=[3, 4, None, 5],
    )
    made_step(root, 3, "answers", "generate", lambda d: plain.save(d / "data"), model="step:ra")
    made_step(root, 4, "gold", "score", lambda d: marked.save(d / "data"), **{"from": "answers"})
    made_step(root, 5, "asked", "as_asked", lambda d: marked.save(d / "data"), **{"from": "gold"})
    made_step(
        root, 6, "read", "logprobs", lambda d: read.save(d / "data"),
        **{"from": "asked", "model": "step:ra", "name": "policy", "reference": "step:base", "reference_name": "start"},
    )  # fmt: skip
    base = drawn_answers(ROWS[:1], name="base", len_base=[3])
    made_step(root, 7, "answers-base", "generate", lambda d: base.save(d / "data"), model="step:base")
    return root


def test_answers_get_the_scores_and_the_log_probabilities_that_later_steps_put_on_them(run):
    found = sources([run])
    drawn = next(each for each in found.drawn if each.answers.training == "ra")
    frame = drawn.answers.frame
    assert frame["score"].to_list() == [2, None, 1, 9]
    assert frame["goal"].to_list() == [None, 10, None, 10]
    assert frame["text"].to_list() == ["one", "two two", "", "four"]
    assert frame["logp"].to_list() == [-1, -2, None, -4]
    assert frame["start_logp"].to_list() == [-2, -5, None, -3]
    assert frame["length"].to_list() == [3, 4, 1, 5]  # of the empty answer what was drawn: its end
    assert frame["kl"].null_count() == 4  # nobody computed an exact one
    assert frame["prompt_id"].n_unique() == 2  # those before the goals were put in


def test_a_model_is_known_by_its_step_whatever_path_its_record_has(run):
    found = sources([run])
    base, ra = found.trainings
    assert (ra.start, base.start) == (base.model, "gone")
    assert [each.answers.name for each in found.drawn] == ["ra", "base"]
    (start,) = found.starts(ra.start)
    assert start.answers.name == "base"
    assert found.drawn[0].start == base.model
    assert [each.answers.name for each in found.of(ra)] == ["ra"]


def test_a_trainings_settings_come_along_and_its_seed_is_not_that_of_the_drawing(run):
    found = sources([run])
    known = dict(found.trainings[1].settings)
    assert known.pop("trained") == {"goal": '{"scale": 10}'}
    assert known == {"loss": "dpo", "beta": 0.25, "learning_rate": 1e-4, "seed": 3}
    settings = found.drawn[0].answers.settings
    assert (settings["seed"], settings["draw_seed"], settings["max_new_tokens"]) == (3, 7, 16)
    assert [each.asks for each in found.trainings] == [False, True]
    assert [each.prefers for each in found.trainings] == [False, True]  # supervised fine-tuning sees one side


def test_log_probabilities_that_allow_no_divergence_are_left_out_and_it_is_said(run):
    """Drawn at temperature 0.7 the answers are not samples of the policy."""
    for name in ("03-answers", "06-read"):
        manifest = run / name / "data" / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"temperature": 1.0', '"temperature": 0.7'))
    drawn = sources([run]).drawn[0]
    assert drawn.answers.frame["logp"].null_count() == 4
    assert drawn.answers.frame["start_logp"].null_count() == 4
    assert any("There is no KL" in note and "temperature 0.7" in note for note in drawn.notes)


def test_the_models_own_samples_of_probes_are_answers_and_those_of_step_0_are_the_starts(tmp_path):
    root = tmp_path / "one"
    trained(root, model="hub/start", beta=0.1)

    def samples(step):
        kl = 0.5 * step
        return [{"prompt_id": "p", "sample": 0, "asked": "none", "text": "x", "logp": -3.0, "length": 2, "kl": kl,
                 "start_logp": -3.0 - kl, "score": 1.0}]  # fmt: skip

    probed(root, steps=(0, 10, 20), rows=lambda step: [], samples=samples)
    found = sources([root])
    start, ten, twenty = found.drawn
    assert (start.at_start, start.answers.training, start.model) == (True, "", "hub/start")
    # The last is the model as it ended.
    assert [(each.answers.training, each.answers.step) for each in (ten, twenty)] == [
        ("one", 10),
        ("one", None),
    ]
    assert [each.answers.frame["kl"].item() for each in found.drawn] == [0.0, 5.0, 10.0]
    assert ten.start == start.model
    assert found.of(found.trainings[0]) == [ten, twenty]


def test_samples_without_a_goal_and_for_the_best_of_several_scores_stay_apart(tmp_path):
    """The best of two scores is no number, so that both have no goal: only `asked` tells them apart."""
    root = tmp_path / "vec"
    trained(root, model="hub/start", goal={"attributes": ["help", "short"]}, seed=3)

    def samples(step):
        return [{"prompt_id": "p", "sample": 0, "asked": asked, "text": asked, "kl": kl} for asked, kl in
                (("none", 1.0), ("top", 4.0))]  # fmt: skip

    drawing = {"n": 1, "seed": 11, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8}
    probed(root, steps=(0, 10), rows=lambda step: [], samples=samples, about={"samples": drawing})
    found = sources([root])
    assert [(each.answers.asked, each.answers.frame["kl"].to_list()) for each in found.of(found.trainings[0])] == [
        ("none", [1.0]),
        ("top", [4.0]),
    ]
    assert [each.answers.asked for each in found.starts("hub/start")] == ["none", "top"]
    # The seed of the training and that of the drawing have two names here, too.
    assert {(each.answers.settings["seed"], each.answers.settings["draw_seed"]) for each in found.drawn} == {(3, 11)}


def test_what_a_training_was_tells_repeats_from_trainings_on_other_data():
    """Beta, learning rate and seed are what a sweep varies; the rest is one text each."""
    config = {"loss": "dpo", "loss_settings": {"beta": 0.1, "label_smoothing": 0.0}, "seed": 1, "split": "train",
              "lora": None, "trainer": {"learning_rate": 1e-4, "max_steps": 9, "num_train_epochs": 1.0}}  # fmt: skip
    record = {"config": config, "data": "abc", "goal": None}
    one = of_training(record)
    assert one == {"data": "abc", "loss settings": '{"label_smoothing": 0.0}', "split": "train", "steps": "9"}
    sweep = config | {"loss_settings": {"beta": 1.0, "label_smoothing": 0.0}, "seed": 2}
    sweep["trainer"] = {"learning_rate": 1e-3, "max_steps": 9, "num_train_epochs": 1.0}
    assert of_training(record | {"config": sweep}) == one
    several = [{"name": "dpo", "settings": {"beta": 0.1, "label_smoothing": 0.1}}, {"name": "sft", "weight": 2.0}]
    terms = of_training(record | {"config": config | {"loss": several}})["loss settings"]
    assert "beta" not in terms
    assert "label_smoothing" in terms
    for other in (
        record | {"data": "xyz"},
        record | {"goal": {"scale": 10}},
        record | {"config": config | {"lora": {"r": 4}}},
        record | {"config": config | {"split": "half"}},
        record | {"config": config | {"trainer": {"num_train_epochs": 1.0}}},
        record | {"config": config | {"loss_settings": {"beta": 0.1, "label_smoothing": 0.2}}},
        record | {"config": config | {"divergence": "forward_kl"}},
    ):
        assert of_training(other) != one


def test_a_directory_of_trl_is_a_training_by_the_newest_of_its_logs(tmp_path):
    root = tmp_path / "trl"
    for step in (50, 100):
        folder = root / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        rows = [{"step": i, "logps/chosen": -10.0 - i, "logps/rejected": -12.0} for i in range(10, step + 1, 10)]
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": rows, "global_step": step}))
    (training,) = sources([root]).trainings
    assert training.name == "trl"
    assert [row["step"] for row in training.rows] == list(range(10, 101, 10))
    assert training.prefers
    assert training.probes is None


def test_several_runs_of_one_name_are_told_apart_by_what_stands_before_them(tmp_path):
    for name in ("first", "second"):
        log(tmp_path / name / "out", [{"step": 1, "loss": 0.5}])
    found = sources([tmp_path / "first" / "out", tmp_path / "second" / "out"])
    assert found.runs == ("first/out", "second/out")
    assert [each.name for each in found.trainings] == ["first/out", "second/out"]


def test_the_starts_of_two_runs_are_one_model_where_their_weights_are(tmp_path):
    """Told by the digests that their steps recorded, so that runs with a start each share one KL budget."""
    for name, weights in (("one", b"w"), ("two", b"w"), ("three", b"v")):

        def base(directory, weights=weights):
            (directory / "model").mkdir(parents=True)
            (directory / "model" / "model.safetensors").write_bytes(weights)

        made_step(tmp_path / name, 1, "base", "scratch", base)
        made_step(tmp_path / name, 2, "dpo", "train", lambda d: trained(d, model="x"), model="step:base", loss="dpo")
    one, two, three = sources([tmp_path / name for name in ("one", "two", "three")]).trainings
    assert one.start == two.start != three.start
    assert len({each.model for each in (one, two, three)}) == 3


def test_what_a_selection_found_of_its_metrics_comes_along(tmp_path):
    agreed = {"pairs": 4, "kept": 2, "chance": 0.5, "common": {"a": {"a": 2}}, "share": {"a": {"a": 1.0}}}
    data = drawn_answers(ROWS).then(Step(name="select", found={"overlap": agreed}))
    made_step(tmp_path / "r", 1, "few", "select", lambda d: data.save(d / "data"))
    (chosen,) = sources([tmp_path / "r"]).selections
    assert (chosen.name, chosen.found) == ("few", agreed)


def test_damaged_files_are_named_and_stop_nothing(run):
    (run / "03-answers" / "data" / "responses.parquet").write_bytes(b"no table")
    (run / "02-ra" / "probes").mkdir()
    (run / "02-ra" / "probes" / "probes.json").write_text("{")
    found = sources([run])
    assert [each.name for each in found.trainings] == ["base", "ra"]
    assert any("03-answers" in each for each in found.unread)
    assert any("probes.json is damaged" in each for each in found.unread)


@pytest.mark.parametrize("made", [False, True])
def test_a_directory_that_is_none_of_these_is_refused_with_the_remedy(tmp_path, made):
    if made:
        (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="give "):
        sources([tmp_path / "nothing"])


def test_a_run_that_is_given_twice_is_refused(tmp_path):
    log(tmp_path / "a", [{"step": 1, "loss": 0.5}])
    with pytest.raises(InputError, match="twice"):
        sources([tmp_path / "a", tmp_path / "a" / ".." / "a"])
