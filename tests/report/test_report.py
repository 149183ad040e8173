"""The report: its numbers are the run's numbers, strangers' text stays text, and what is missing is named."""

import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest

from pairwright.chat import assistant, prompt_id, user
from pairwright.errors import InputError
from pairwright.preferences import Preferences, Step
from pairwright.report import audit_page, report
from pairwright.runs import Asked, begin, finish, step_directory, write_json, write_text

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    '<img src=x onerror="window.hacked = 3">',
    "</td></table><h1 onclick=alert(1)>no",
    "right\u202eto left\u2066 and \u200bnothing",
    "a NUL \x00 and a bell \x07",
    "{{ 7 * 7 }} {% raw %}",
    "x" * 100_000,
]
RESULT = {
    "name": "control",
    "n": 24,
    "metrics": [
        {"name": "spearman", "value": 0.8125, "low": 0.7031, "high": 0.9219, "n": 24, "says": "rank correlation"},
        {"name": "error", "value": 1.25, "low": None, "high": None, "n": 24, "says": "no <b>interval</b>"},
    ],
    "table": [
        {"goal": 2.0, "mean": 2.125, "low": 1.75, "high": 2.5, "n": 8},
        {"goal": 10.0, "mean": 7.375, "low": 6.875, "high": 7.875, "n": 8},
    ],
    "settings": {},
}


class Elements(HTMLParser):
    """Every element with its attributes, in order, and the text outside of scripts and styles."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.found, self.text, self._open = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open):
            self.text += data


def made_step(run, number, name, verb, write, **settings):
    directory = step_directory(run, number, name)
    asked = Asked(step=name, verb=verb, settings=settings, inputs={})
    begin(directory, asked)
    write(directory)
    finish(directory, asked, seconds=1.5, headline={})


def answers(texts, *, goal=None, verb="generate", dropped=None):
    prompts = [[user(f"Question {i}? {text[:40]}")] for i, text in enumerate(texts)]
    ids = [prompt_id(prompt) for prompt in prompts]
    return Preferences.of(
        pl.DataFrame({"prompt_id": ids, "prompt": prompts}),
        pl.DataFrame(
            {
                "prompt_id": ids,
                "response": [[assistant(text)] for text in texts],
                "score": [float(i) for i, _ in enumerate(texts)],
                "goal": [goal] * len(texts),
            },
            schema_overrides={"goal": pl.Float64},
        ),
        lineage=[Step(name=verb, rows_in=20, rows_out=17, dropped=dropped or {"score_tie": 3})],
    )


def log(directory):
    rows = [{"step": i, "loss": 0.6931 / i, "rewards/margins": 0.25 * i, "logps/chosen": -30.5} for i in (1, 2, 3)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')


@pytest.fixture
def run(tmp_path):
    root = tmp_path / "a <run>"
    made_step(root, 1, "data", "read", lambda d: answers(HOSTILE, verb="read").save(d / "data"))
    made_step(root, 2, "train", "train", log, **{"from": "data"}, beta=0.1, seed=7)
    made_step(root, 3, "plain", "generate", lambda d: answers(HOSTILE).save(d / "data"))
    made_step(root, 4, "asked", "generate", lambda d: answers(HOSTILE, goal=10.0).save(d / "data"))
    made_step(root, 5, "control", "evaluate control", lambda d: write_json(d / "result.json", RESULT))
    return root


def test_strangers_text_is_shown_and_runs_nothing(run):
    page = report(run).read_text(encoding="utf-8")
    seen = Elements(page)
    own = [attrs for tag, attrs in seen.found if tag == "script"]
    assert sum("nonce" in attrs for attrs in own) == 1  # the page's own
    inert = [attrs["type"] for attrs in own if "nonce" not in attrs]  # the numbers; plotly, until a chart is seen
    assert sorted(inert) == ["application/json", "text/plain"]
    assert not [tag for tag, _ in seen.found if tag == "img"]
    assert not [name for _, attrs in seen.found for name in attrs if name.startswith("on")]
    assert len([tag for tag, _ in seen.found if tag == "h1"]) == 1
    for text in HOSTILE[:4]:
        assert text in seen.text
    assert "{{ 7 * 7 }}" in seen.text
    assert "49" not in [word for word in seen.text.split() if word == "49"]


def test_hidden_characters_are_shown_by_their_code_and_long_texts_are_cut(run):
    page = report(run).read_text(encoding="utf-8")
    shown = page.split("<script", 1)[0]
    assert not re.search("[\x00\x07\u202e\u2066\u200b]", shown)
    assert "U+202E" in shown
    assert "U+0000" in shown
    assert "96,000 more characters" in shown  # 100,000 less the 4,000 that are shown


def test_nothing_is_fetched(run):
    page = report(run).read_text(encoding="utf-8")
    for tag, attrs in Elements(page).found:
        assert tag not in {"link", "iframe", "object", "embed"}
        assert not attrs.get("src")
        assert attrs.get("href", "#").startswith("#")
    assert "default-src 'none'" in page


def test_the_numbers_on_the_page_are_the_numbers_of_the_run(run):
    path = report(run)
    seen = Elements(path.read_text(encoding="utf-8"))
    for shown in ("0.812", "0.703 to 0.922", "1.25", "24"):
        assert shown in seen.text
    assert seen.text.count("train 7") == 1  # the seed, in a caption
    kept = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    steps = {step["name"]: step for step in kept["runs"][0]["steps"]}
    assert steps["control"]["result"] == RESULT
    assert [row["loss"] for row in steps["train"]["metrics"]] == [0.6931, 0.6931 / 2, 0.6931 / 3]
    assert steps["data"]["lineage"][0]["dropped"] == {"score_tie": 3}
    assert "score_tie" in seen.text


def test_what_a_step_measured_is_on_the_page(tmp_path):
    prefs = answers(["one", "two"], verb="read")
    found = {"overlap": {"kept": 399, "share": {"explicit_gap": {"random": 0.4211}}}, "<b>": "a <i>"}
    prefs = prefs.then(Step(name="select", rows_in=2, rows_out=2, found=found))
    made_step(tmp_path / "run", 1, "kept", "select", lambda d: prefs.save(d / "data"))
    seen = Elements(report(tmp_path / "run").read_text("utf-8"))
    assert "overlap: kept399" in seen.text
    assert "overlap: share: explicit_gap: random0.4211" in seen.text
    assert "<b>a <i>" in seen.text
    assert not [tag for tag, _ in seen.found if tag == "i"]


def test_the_charts_carry_the_numbers_of_the_result(run):
    page = report(run).read_text(encoding="utf-8")
    island = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)
    charts = {chart["id"]: chart for chart in json.loads(island.group(1))}
    (control, same) = charts["r0-by-goal"]["series"]
    assert (control["x"], control["y"]) == ([2.0, 10.0], [2.125, 7.375])
    assert (control["low"], control["high"]) == ([1.75, 6.875], [2.5, 7.875])
    assert (same["x"], same["y"], same["reference"]) == ([2.0, 10.0], [2.0, 10.0], True)
    assert {chart["title"] for chart in charts.values()} >= {"Loss", "Log-probability of the chosen answer"}


def test_a_run_that_lacks_parts_says_which(tmp_path):
    root = tmp_path / "bare"
    made_step(root, 1, "data", "read", lambda d: None)
    text = Elements(report(root).read_text(encoding="utf-8")).text
    for sentence in (
        "This run measured nothing.",
        "No model of this run was asked for several scores.",
        "No training of this run logged anything.",
        "This run kept no data with a lineage.",
        "No answers of this run have scores.",
        "The data were not audited.",
        "This run generated no answers.",
    ):
        assert sentence in text


def test_an_unfinished_step_is_named(tmp_path):
    root = tmp_path / "killed"
    begin(step_directory(root, 1, "data"), Asked(step="data", verb="read", settings={}, inputs={}))
    text = Elements(report(root).read_text(encoding="utf-8")).text
    assert "unfinished: data" in text
    assert "not finished" in text


CRASHED = [
    {"result.json": '{"name": "x", "n": 1, "metrics": [{"name": "a", "value": NaN, "low": Infinity, "n": 1}]}'},
    {"result.json": '{"name": ["x"], "metrics": {"a": 1}, "table": "abc", "notes": 3}'},
    {"result.json": '{"metrics": [{"name": "a\\ud800", "says": null}, 3], "notes": ["\\udfff"]}'},
    {"result.json": '{"table": [{"goal": 1, "value": 2}, {"goal": 2, "value": NaN, "low": "x"}, {"goal": [1, 2]}, 5]}'},
    {"result.json": '{"table": [{"goal": NaN, "value": 1, "n": 1e999}, {"goal": true}, {"goal": 1}, {"goal": 3}]}'},
    {"metrics.jsonl": '{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1e999}\n[1]\n{"loss": 3}\n{"step": []}'},
    {"audit.json": '{"pairs": 1, "findings": [{"check": "x", "count": 2, "share": NaN, "rows": 7}, {"count": "y"}]}'},
    {"audit.json": '{"findings": {"x": 1}, "pairs": 1e999}'},
    {"done.json": '{"step": null, "settings": null, "inputs": null, "outputs": [], "versions": null, "seconds": "x"}'},
]


@pytest.mark.parametrize("files", CRASHED)
def test_a_part_of_the_wrong_form_does_not_take_the_page_with_it(run, files):
    """The other steps' numbers stay, and the JSON beside the page is JSON."""
    directory = run / "06-odd"
    directory.mkdir()
    write_text(directory / "settings.json", "{}")
    for name, text in files.items():
        write_text(directory / name, text)
    path = report(run)
    assert "0.703 to 0.922" in Elements(path.read_text(encoding="utf-8")).text

    def refuse(word):
        raise AssertionError(word)

    steps = json.loads(path.with_suffix(".json").read_text("utf-8"), parse_constant=refuse)["runs"][0]["steps"]
    assert [step["name"] for step in steps][-2:] == ["control", "odd"]


def test_a_number_that_is_none_is_a_dash_and_never_zero(run):
    directory = run / "06-odd"
    directory.mkdir()
    write_text(directory / "settings.json", "{}")
    write_text(directory / "metrics.jsonl", '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": NaN}\n')
    write_text(directory / "result.json", '{"metrics": [{"name": "broken", "value": NaN, "n": 4}]}')
    page = report(run).read_text(encoding="utf-8")
    cells = [r"<td>broken</td>", r'<td class="n strong">–</td>', r'<td class="n">–</td>', r'<td class="picture"></td>']
    assert re.search(r"\s*".join([*cells, r'<td class="n">4<']), page)
    island = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)
    (loss,) = [chart for chart in json.loads(island.group(1)) if chart["title"] == "Loss"]
    assert [one["y"] for one in loss["series"] if one["name"] == "odd"] == [[0.5, None]]


def test_scores_and_goals_of_samples_may_be_no_numbers(tmp_path):
    root = tmp_path / "run"
    prefs = answers(["one", "two", "three"], goal=float("nan"))
    scores = pl.Series([float("nan"), float("inf"), 2.5])
    prefs = prefs.then(Step(name="score"), responses=prefs.responses.with_columns(score=scores))
    made_step(root, 1, "asked", "generate", lambda d: prefs.save(d / "data"))
    kept = json.loads(report(root).with_suffix(".json").read_text("utf-8"))
    shown = [answer for sample in kept["runs"][0]["samples"] for answer in sample["answers"]]
    assert [(answer["goal"], answer["score"]) for answer in shown] == [(None, None), (None, None), (None, 2.5)]


def test_a_damaged_file_is_named(run):
    (run / "01-data" / "data" / "responses.parquet").write_bytes(b"PAR1")
    (run / "04-asked" / "data" / "responses.parquet").write_bytes(b"PAR1")
    write_text(run / "05-control" / "result.json", "{")
    text = Elements(report(run).read_text(encoding="utf-8")).text
    assert "data of step data cannot be read, and the page does without." in text
    assert "data of step asked cannot be read" in text
    assert "result.json of step control cannot be read" in text
    assert "rewards/margins" in (run / "report.json").read_text("utf-8")


class Trained:
    """What `train` gives: as a path it is the model directory."""

    def __init__(self, directory):
        self.directory = directory

    def __fspath__(self):
        return str(self.directory / "model")


@pytest.fixture
def trained(tmp_path):
    directory = tmp_path / "dpo"
    (directory / "model").mkdir(parents=True)
    log(directory)
    config = {"model": "base", "seed": 11, "loss_settings": {"beta": 0.25}, "trainer": {"learning_rate": 5e-7}}
    record = {"config": config, "examples": 90, "dropped": {"too_long": 10}, "notes": ["a note"]}
    write_json(directory / "training.json", {**record, "steps": 3, "versions": {"torch": "2.13.0"}})
    return directory


@pytest.mark.parametrize("ask", [Trained, str, lambda directory: [directory]])
def test_a_training_by_itself_has_a_report_beside_its_record(trained, ask):
    path = report(ask(trained))
    assert path == trained / "report.html"
    assert not list((trained / "model").iterdir())
    seen = Elements(path.read_text(encoding="utf-8"))
    for shown in ("beta=0.25", "learning_rate=5e-07", "model=base", "too_long 10", "a note", "torch 2.13.0"):
        assert shown in seen.text
    (step,) = json.loads(path.with_suffix(".json").read_text("utf-8"))["runs"][0]["steps"]
    assert [row["loss"] for row in step["metrics"]] == [0.6931, 0.6931 / 2, 0.6931 / 3]
    assert (step["lineage"][0]["rows_in"], step["lineage"][0]["rows_out"]) == (100, 90)
    assert "unfinished" not in seen.text


def test_a_json_file_of_somebody_else_is_never_written_over(run, tmp_path):
    mine = tmp_path / "mine.json"
    for text in ("my own", '{"runs": []}', ""):
        mine.write_text(text)
        with pytest.raises(InputError, match=r"mine\.json would be written beside mine\.html, and no report wrote it"):
            report(run, output=tmp_path / "mine.html")
        assert mine.read_text() == text
        assert not (tmp_path / "mine.html").exists()
    mine.unlink()
    report(run, output=tmp_path / "mine.html")
    before = mine.read_text("utf-8")
    report(run, output=tmp_path / "mine.html")  # this one is ours
    assert mine.read_text("utf-8") == before


def test_the_output_is_a_page_or_a_directory(run, tmp_path):
    with pytest.raises(InputError, match=r"name the page, .*r2\.html"):
        report(run, output=tmp_path / "r2.json")
    assert not (tmp_path / "r2.json").exists()
    assert report(run, output=tmp_path / "new") == tmp_path / "new" / "report.html"
    assert report(run, output=f"{tmp_path}/new.v2/") == tmp_path / "new.v2" / "report.html"
    assert report(run, output=str(tmp_path / "page.html")) == tmp_path / "page.html"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["report.html", "report.json"]


def test_two_runs_stand_on_one_page_with_different_ids(run, tmp_path):
    page = report([run, run], output=tmp_path / "both.html", title="Both", notes=["a <note>"]).read_text("utf-8")
    ids = [attrs["id"] for _, attrs in Elements(page).found if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert "a <note>" in Elements(page).text


def test_what_is_no_run_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="there is no run directory"):
        report(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no step"):
        report(tmp_path)
    with pytest.raises(InputError, match="needs the directory"):
        report([])


def test_an_audit_has_a_page_of_its_own(run):
    from pairwright.audit import audit

    prefs = answers(["one", "", "<script>bad</script>"])
    ids = prefs.prompts.collect()["prompt_id"].to_list()
    pairs = pl.DataFrame({"prompt_id": ids[:1], "chosen_id": [0], "rejected_id": [1]})
    found = audit(prefs.then(Step(name="pair"), pairs=pairs))
    page = audit_page(found, title="my <data>")
    seen = Elements(page)
    assert "empty_rejected" in seen.text
    assert "my <data>" in seen.text
    assert not [tag for tag, _ in seen.found if tag == "script"]  # no charts, no script at all
