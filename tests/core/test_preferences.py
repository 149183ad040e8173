"""The noun: frames, views, equality, the native directory."""

import gc
import json
import os
from pathlib import Path

import polars as pl
import pytest

from pairwright.chat import Message, assistant, user
from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.preferences import Preferences, Step


def said(role: str, *texts: str) -> list[list[Message]]:
    return [[{"role": role, "content": text}] for text in texts]


@pytest.fixture
def prefs() -> Preferences:
    """Two prompts, four answers (one unscored), three pairs; the third is the first the other way round."""
    prompts = pl.DataFrame({"prompt_id": ["a", "b"], "prompt": said("user", "Q1", "Q2"), "reference": ["r", None]})
    responses = pl.DataFrame(
        {
            "prompt_id": ["a", "a", "b", "b"],
            "response": said("assistant", "w", "x", "y", "z"),
            "score": [9.0, 2.0, 7.5, None],
            "logp_m": [-1.0, -2.0, -3.0, -4.0],
        }
    )
    pairs = pl.DataFrame(
        {
            "prompt_id": ["a", "b", "a"],
            "chosen_id": [0, 2, 1],
            "rejected_id": [1, 3, 0],
            "goal": [9.0, None, 2.0],
        }
    )
    return Preferences.of(prompts, responses, pairs, [Step(name="read", rows_in=4, rows_out=3, dropped={"bad": 1})])


def test_absent_columns_are_filled(prefs: Preferences) -> None:
    pairs = prefs.pairs.collect()
    assert pairs["weight"].to_list() == [1.0] * 3
    assert pairs["split"].to_list() == ["train"] * 3
    assert pairs["preference"].null_count() == 3
    assert prefs.responses.collect()["response_id"].to_list() == [0, 1, 2, 3]
    assert prefs.counts() == (2, 4, 3)


def test_no_pairs_is_an_empty_frame() -> None:
    prompts = pl.DataFrame({"prompt_id": ["a"], "prompt": said("user", "Q")})
    responses = pl.DataFrame({"prompt_id": ["a"], "response": said("assistant", "A")})
    prefs = Preferences.of(prompts, responses)
    assert prefs.counts() == (1, 1, 0)
    assert prefs.texts().collect().height == 0


def test_a_message_struct_is_cast_by_field_name() -> None:
    prompts = pl.DataFrame({"prompt_id": ["a"], "prompt": [[{"content": "Q", "role": "user"}]]})
    prefs = Preferences.of(prompts, pl.DataFrame({"prompt_id": ["a"], "response": said("assistant", "A")}))
    assert prefs.prompts.collect()["prompt"].to_list() == [[user("Q")]]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pl.DataFrame({"prompt_id": ["a"]}), "lack the column 'response'"),
        (
            pl.DataFrame({"prompt_id": ["a"], "response": said("assistant", "A"), "score": ["9"]}),
            "'score' holds String",
        ),
    ],
)
def test_wrong_frames_are_refused(frame: pl.DataFrame, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Preferences.of(pl.DataFrame({"prompt_id": ["a"], "prompt": said("user", "Q")}), frame)


def test_view_joins_both_sides_in_order(prefs: Preferences) -> None:
    view = prefs.view("score").collect()
    assert view["score_chosen"].to_list() == [9.0, 7.5, 2.0]
    assert view["score_rejected"].to_list() == [2.0, None, 9.0]


def test_view_takes_what_the_pairs_hold(prefs: Preferences) -> None:
    """The same answer under two goals has two log-probabilities: then they stand with the pairs."""
    under_goals = prefs.pairs.with_columns(logp_m_chosen=pl.lit(-10.0), logp_m_rejected=pl.lit(-20.0))
    view = prefs.then(Step(name="logprobs"), pairs=under_goals).view("logp_m").collect()
    assert view["logp_m_chosen"].to_list() == [-10.0] * 3
    assert prefs.view("logp_m").collect()["logp_m_chosen"].to_list() == [-1.0, -3.0, -2.0]


def test_view_takes_nothing_from_pairs_that_hold_one_side_only(prefs: Preferences) -> None:
    half = prefs.then(Step(name="x"), pairs=prefs.pairs.with_columns(score_chosen=pl.lit(-1.0)))
    view = half.view("score").collect()
    assert view["score_chosen"].to_list() == [9.0, 7.5, 2.0]
    assert view["score_rejected"].to_list() == [2.0, None, 9.0]


def test_view_names_what_is_missing(prefs: Preferences) -> None:
    with pytest.raises(InputError, match="no column 'logp_other' in responses"):
        prefs.view("logp_other")


def test_texts_renders_the_goal_of_the_last_relabelling(prefs: Preferences) -> None:
    assert prefs.goal_format is None
    assert prefs.texts().collect()["prompt"].to_list() == [[user("Q1")], [user("Q2")], [user("Q1")]]
    asked = prefs.then(Step(name="relabel", settings={"goal": GoalFormat().model_dump(mode="json")}))
    rows = list(asked.rows())
    assert rows[0]["prompt"] == [user(GoalFormat().say(9.0) + "\n\nQ1")]
    assert rows[1]["prompt"] == [user("Q2")]
    assert rows[2]["prompt"] == [user(GoalFormat().say(2.0) + "\n\nQ1")]
    assert rows[0]["chosen"] == rows[2]["rejected"] == [assistant("w")]
    assert next(iter(asked.rows(placement="system")))["prompt"] == rows[0]["prompt"], "a fixed placement wins"


@pytest.mark.parametrize(("verb", "is_said"), [("pair", False), ("generate", False), ("select", True)])
def test_pairs_made_after_a_relabelling_have_no_goal_format(prefs: Preferences, verb: str, is_said: bool) -> None:
    asked = prefs.then(Step(name="relabel", settings={"goal": GoalFormat().model_dump(mode="json")}))
    assert (asked.then(Step(name=verb)).goal_format is not None) == is_said


def test_auto_placement_is_the_callers(prefs: Preferences) -> None:
    form = GoalFormat(placement="auto")
    asked = prefs.then(Step(name="relabel", settings={"goal": form.model_dump(mode="json")}))
    roles = [[m["role"] for m in row["prompt"]] for row in asked.rows(placement="system")]
    assert roles == [["system", "user"], ["user"], ["system", "user"]]


def test_then_leaves_the_old_one_alone(prefs: Preferences) -> None:
    digest = prefs.digest()
    fewer = prefs.then(Step(name="select", dropped={"not_selected": 2}), pairs=prefs.pairs.head(1))
    assert prefs.digest() == digest
    assert fewer.counts().pairs == 1
    assert fewer.dropped == {"bad": 1, "not_selected": 2}
    assert fewer != prefs


def test_the_summary_says_what_was_dropped(prefs: Preferences) -> None:
    fewer = prefs.then(Step(name="select", dropped={"not_selected": 2, "no_metric": 0}), pairs=prefs.pairs.head(1))
    text = "Preferences(2 prompts, 4 responses, 1 pairs; read (dropped 1 bad) → select (dropped 2 not_selected))"
    assert repr(fewer) == text


def test_digest_sees_every_frame_and_the_order_of_rows(prefs: Preferences) -> None:
    step = Step(name="x")
    variants = [
        prefs,
        prefs.then(step, pairs=prefs.pairs.reverse()),
        prefs.then(step, prompts=prefs.prompts.reverse()),
        prefs.then(step, responses=prefs.responses.with_columns(score=pl.col("score").fill_null(0.0))),
        prefs.then(step, pairs=prefs.pairs.with_columns(goal=pl.lit(None, pl.Float64))),
    ]
    assert len({variant.digest() for variant in variants}) == len(variants)
    shuffled = prefs.then(step, prompts=prefs.prompts.select("reference", "prompt", "prompt_id"))
    assert shuffled.digest() == prefs.digest(), "the order of columns is no content"
    assert shuffled == prefs


def test_the_native_directory_holds_everything(prefs: Preferences, tmp_path: Path) -> None:
    prefs.save(tmp_path / "data")
    again = Preferences.load(tmp_path / "data")
    assert again == prefs
    assert again.lineage == prefs.lineage
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["dropped"] == {"bad": 1}
    assert manifest["rows"] == {"prompts": 2, "responses": 4, "pairs": 3}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"], "no temporary is left"


def test_equal_data_is_written_in_equal_bytes(prefs: Preferences, tmp_path: Path) -> None:
    for name in ("one", "two"):
        prefs.save(tmp_path / name)
    for file in ("prompts.parquet", "responses.parquet", "pairs.parquet", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_native_directory_can_be_written_over_itself(prefs: Preferences, tmp_path: Path) -> None:
    prefs.save(tmp_path / "data")
    opened = Preferences.load(tmp_path / "data")
    opened.then(Step(name="select"), pairs=opened.pairs.head(2)).save(tmp_path / "data")
    assert Preferences.load(tmp_path / "data").counts().pairs == 2
    assert opened == prefs, "what was opened before is what it was"


def test_what_was_saved_over_the_data_it_came_from_stays_readable(prefs: Preferences, tmp_path: Path) -> None:
    prefs.save(tmp_path / "data")
    opened = Preferences.load(tmp_path / "data")
    fewer = opened.then(Step(name="select"), pairs=opened.pairs.tail(2))
    fewer.save(tmp_path / "data")
    assert fewer.counts() == (2, 4, 2)
    fewer.save(tmp_path / "data")
    assert Preferences.load(tmp_path / "data") == fewer
    assert fewer.view("score").collect()["score_chosen"].to_list() == [7.5, 2.0]


def test_what_a_step_does_not_change_is_copied_and_not_packed_anew(prefs: Preferences, tmp_path: Path) -> None:
    prefs.save(tmp_path / "data")
    pl.read_parquet(tmp_path / "data" / "responses.parquet").write_parquet(
        tmp_path / "data" / "responses.parquet", compression="snappy"
    )
    opened = Preferences.load(tmp_path / "data")
    texts = (tmp_path / "data" / "responses.parquet").read_bytes()
    (tmp_path / "data" / "responses.parquet").unlink()  # the copy is of the open file, whatever its name stands for now
    step = opened.then(Step(name="select"), pairs=opened.pairs.head(2))
    step.save(tmp_path / "fewer")
    assert (tmp_path / "fewer" / "responses.parquet").read_bytes() == texts
    assert Preferences.load(tmp_path / "fewer") == step
    more = step.then(Step(name="score"), responses=step.responses.with_columns(score=pl.lit(1.0)))
    more.save(tmp_path / "scored")
    assert Preferences.load(tmp_path / "scored") == more
    assert Preferences.load(tmp_path / "scored").responses.collect()["score"].to_list() == [1.0] * 4


def test_the_files_of_frames_that_are_gone_are_closed(prefs: Preferences, tmp_path: Path) -> None:
    prefs.save(tmp_path / "data")
    before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
    for _ in range(5):
        opened = Preferences.load(tmp_path / "data")
        assert opened.counts().pairs == 3
        del opened
    gc.collect()
    after = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
    assert len(after) <= len(before)


def test_a_foreign_directory_is_not_overwritten(prefs: Preferences, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(InputError, match="not a pairwright directory"):
        prefs.save(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"


@pytest.mark.parametrize("manifest", ['{"name": "web app"}', '{"schema": 1}', "[]"])
def test_a_manifest_of_another_program_is_not_overwritten(prefs: Preferences, tmp_path: Path, manifest: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match="not a pairwright directory"):
        prefs.save(tmp_path / "app")
    assert (tmp_path / "app" / "manifest.json").read_text() == manifest


def test_other_files_in_a_native_directory_are_not_removed(prefs: Preferences, tmp_path: Path) -> None:
    prefs.save(tmp_path / "data")
    (tmp_path / "data" / "notes.md").write_text("precious")
    with pytest.raises(InputError, match=r"holds other files than the data \(notes\.md\)"):
        prefs.save(tmp_path / "data")
    assert (tmp_path / "data" / "notes.md").read_text() == "precious"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("manifest.json", b'{"schema": 1, "lineage": [{"nam": "x"}]}', r"manifest\.json: lineage\.0\.\w+: .*again"),
        ("manifest.json", b'{"schema": 1, "lineage": 3}', r"manifest\.json: lineage: .*list"),
        ("manifest.json", b"\xff\xfe\x00", r"manifest\.json is damaged"),
        ("pairs.parquet", b"PAR1 and nothing", r"pairs\.parquet is no readable parquet file"),
        ("pairs.parquet", b"", r"pairs\.parquet is no readable parquet file"),
    ],
)
def test_a_damaged_directory_is_one_sentence(
    prefs: Preferences, tmp_path: Path, file: str, content: bytes, words: str
) -> None:
    prefs.save(tmp_path / "data")
    (tmp_path / "data" / file).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        Preferences.load(tmp_path / "data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "no manifest.json"),
        ("{", "line 1: not JSON"),
        ('{"schema": 99}', "another pairwright"),
        ("[]", "another"),
    ],
)
def test_a_directory_that_is_none_is_one_sentence(tmp_path: Path, manifest: str | None, words: str) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match=words):
        Preferences.load(tmp_path)


def test_list_goals_are_kept(prefs: Preferences, tmp_path: Path) -> None:
    goals = prefs.pairs.with_columns(goal=pl.concat_list(pl.lit(9.0), pl.lit(3)))
    prefs.then(Step(name="relabel"), pairs=goals).save(tmp_path / "data")
    again = Preferences.load(tmp_path / "data").pairs.collect()
    assert again.schema["goal"] == pl.List(pl.Float64)
    assert again["goal"].to_list() == [[9.0, 3.0]] * 3
