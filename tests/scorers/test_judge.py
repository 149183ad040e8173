"""The judge against a server that judges by a rule known here."""

import json
import math
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from faulty import Body, completion, serving
from pairwright.chat import assistant, system, user
from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.preferences import MESSAGES, Preferences
from pairwright.scorers import score

pytest.importorskip("openai")

KEY = "-".join(("sk", "judge", "s3cr3t", "0a1b2c"))
FAST: dict[str, Any] = {"timeout": 10, "retries": 2}


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def data(answers: dict[str, list[str]], **columns: Any) -> Preferences:
    """Prompts by their text, each with its answers."""
    return Preferences.of(
        pl.DataFrame({"prompt_id": list(answers), "prompt": [[user(text)] for text in answers], **columns}),
        pl.DataFrame(
            {
                "prompt_id": [text for text, said in answers.items() for _ in said],
                "response": [[assistant(each)] for said in answers.values() for each in said],
            }
        ),
    )


def asked(body: Body) -> str:
    return str(body["messages"][-1]["content"])


def between(text: str, tag: str) -> str:
    found = re.findall(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)
    assert len(found) == 1, text
    return str(found[0])


def column(prefs: Preferences, name: str = "score") -> list[Any]:
    return prefs.responses.select(name).collect()[name].to_list()


def parrot(body: Body) -> str:
    """The answer is what the judge says of it."""
    return between(asked(body), "answer")


def test_each_answer_has_its_rating_or_null_with_the_reason_and_the_text_is_kept() -> None:
    said = ["fine [[7]]", "[[10]]", "none of it", "[[11]]", "[[3]] [[4]]", "[[none]]", ".", "bad [[1]]"]
    with serving(parrot) as server:
        scored = score(data({"q": said}), "judge", url=server.url, model="m", **FAST)
    assert column(scored) == [7.0, 10.0, None, None, None, None, None, 1.0]
    assert column(scored, "score_text") == said
    whys = [None, None, "no_verdict", "out_of_range", "several_verdicts", "abstained", "no_verdict", None]
    assert column(scored, "score_why") == whys
    step = scored.lineage[-1]
    assert step.settings["unscored"] == dict(Counter(filter(None, whys)))
    assert step.settings["kind"] == "rating"
    assert step.found["calls"] == 8
    assert step.found["tokens"] == {"prompt": 56, "answer": 40}  # the server says 7 and 5
    assert step.found["prompt"]["version"] == "1"
    assert "cost" not in step.found


LOST = ["missing_answer", "empty", "empty", "missing_answer", "missing_prompt", None]


def with_gaps() -> Preferences:
    """No answer, none in it, blanks, an answer without content, one without a prompt, and two that can be judged."""
    said = [None, [assistant("")], [assistant(" \n")], [{"role": "assistant", "content": None}]]
    prompts = {"prompt_id": ["q", "lost"], "prompt": [[user("q")], None], "reference": ["[[6]]", "x"]}
    schema = {"prompt_id": pl.String, "prompt": MESSAGES, "reference": pl.String}
    responses = {
        "prompt_id": ["q"] * 4 + ["lost", "q", "q"],
        "response": [*said, [assistant("[[3]]")], [assistant("[[6]]")], [assistant("[[8]]")]],
    }
    return Preferences.of(
        pl.DataFrame(prompts, schema=schema),
        pl.DataFrame(responses, schema={"prompt_id": pl.String, "response": MESSAGES}),
    )


@pytest.mark.parametrize("kind", ["rating", "reference", "attributes"])
def test_what_is_not_there_is_not_asked_about_and_has_no_score(kind: str) -> None:
    def rule(body: Body) -> str:
        return parrot(body).replace("[[", "[[wit: ") if kind == "attributes" else parrot(body)

    own = {"attributes": {"wit": "Is it funny?"}} if kind == "attributes" else {}
    with serving(rule) as server:
        scored = score(with_gaps(), "judge", url=server.url, model="m", kind=kind, **own)
        assert len(server.bodies) == 2
    assert column(scored) == [None] * 5 + [6.0, 8.0]
    assert column(scored, "score_why") == [*LOST, None]
    assert column(scored, "score_text")[:5] == [None] * 5
    assert scored.lineage[-1].settings["unscored"] == {"empty": 2, "missing_answer": 2, "missing_prompt": 1}
    if kind == "attributes":
        assert column(scored, "score_wit") == [None] * 5 + [6.0, 8.0]


def test_what_is_not_there_is_compared_with_nothing() -> None:
    def rule(body: Body) -> str:
        return "[[A]]" if between(asked(body), "answer_A") == "[[8]]" else "[[B]]"

    with serving(rule) as server:
        scored = score(with_gaps(), "judge", url=server.url, model="m", kind="pairwise")
        assert len(server.bodies) == 2
    assert column(scored) == [None] * 5 + [0.0, 1.0]
    assert column(scored, "score_why") == [*LOST, None]
    assert scored.lineage[-1].found["comparisons"] == 1


def test_data_with_nothing_to_judge_asks_nothing() -> None:
    with serving(parrot) as server:
        for kind in ("rating", "pairwise"):
            scored = score(data({"q": [" ", ""]}), "judge", url=server.url, model="m", kind=kind)
            assert column(scored) == [None, None]
            assert scored.lineage[-1].settings["unscored"] == {"empty": 2}
        assert server.bodies == []


def test_half_a_surrogate_pair_in_what_the_judge_says_is_kept_as_the_mark_for_it() -> None:
    with serving(lambda _: "\ud83d fine [[7]]") as server:
        for _ in range(2):
            scored = score(data({"q": ["a"]}), "judge", url=server.url, model="m")
            assert column(scored, "score_text") == ["\ufffd fine [[7]]"]
            assert column(scored) == [7.0]
        assert len(server.bodies) == 1


def test_the_judge_sees_prompt_answer_and_scale_and_nothing_else_is_filled_in() -> None:
    """Braces in the data are data: an answer cannot pull another text into its place."""
    prefs = data({"What is {answer}?": ["{prompt} {low} {nothing} [[5]]"]})
    with serving(parrot) as server:
        scored = score(prefs, "judge", url=server.url, model="m", low=0, high=5)
        (body,) = server.bodies
    assert between(asked(body), "conversation") == "What is {answer}?"
    assert between(asked(body), "answer") == "{prompt} {low} {nothing} [[5]]"
    assert "from 0 (worst) to 5 (best)" in asked(body)
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0.0, 1024, "m")
    assert column(scored) == [5.0]


def test_a_dialogue_is_shown_with_its_speakers() -> None:
    prompts = {"prompt_id": ["a"], "prompt": [[system("Be brief."), user("Hi"), assistant("Hello"), user("More")]]}
    prefs = Preferences.of(
        pl.DataFrame(prompts), pl.DataFrame({"prompt_id": ["a"], "response": [[assistant("[[2]]")]]})
    )
    with serving(parrot) as server:
        score(prefs, "judge", url=server.url, model="m")
        shown = between(asked(server.bodies[0]), "conversation")
    assert shown == "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: More"


def test_attributes_are_columns_and_the_score_is_their_mean_where_all_are_there() -> None:
    def rule(body: Body) -> str:
        numbers = parrot(body).split()
        names = re.findall(r"^- (\w+): ", asked(body), re.MULTILINE)
        return "\n".join(f"[[{name}: {number}]]" for name, number in zip(names, numbers, strict=True))

    with serving(rule) as server:
        prefs = data({"q": ["1 2 3 6", "10 10 10 none", "12 5 5 5"]})
        scored = score(prefs, "judge", url=server.url, model="m", kind="attributes", into="score_j")
    assert column(scored, "score_j") == [3.0, None, None]
    assert column(scored, "score_j_instruction_following") == [1.0, 10.0, None]
    assert column(scored, "score_j_honesty") == [2.0, 10.0, 5.0]
    assert column(scored, "score_j_helpfulness") == [6.0, None, 5.0]
    assert column(scored, "score_j_why") == [None, "abstained", "out_of_range"]
    assert scored.lineage[-1].found["unscored"] == {
        "instruction_following": {"out_of_range": 1},
        "helpfulness": {"abstained": 1},
    }


def test_attributes_are_chosen_by_name_or_said_in_words() -> None:
    def rule(body: Body) -> str:
        return f"[[wit: 4]] [[honesty: 6]] {asked(body)[:0]}"

    with serving(rule) as server:
        place = {"url": server.url, "model": "m", "kind": "attributes"}
        one = score(data({"q": ["a"]}), "judge", **place, attributes=["honesty"])
        assert column(one, "score") == column(one, "score_honesty") == [6.0]
        assert "score_helpfulness" not in one.responses.collect_schema()
        own = score(data({"q": ["a"]}), "judge", **place, attributes={"wit": "Is it funny?"})
        assert column(own, "score_wit") == [4.0]
        assert "- wit: Is it funny?" in asked(server.bodies[-1])
        with pytest.raises(InputError, match=r"no attribute 'honest'; did you mean 'honesty'"):
            score(data({"q": ["a"]}), "judge", **place, attributes=["honest"])
        with pytest.raises(InputError, match="rated by kind 'attributes', not 'rating'"):
            score(data({"q": ["a"]}), "judge", url=server.url, model="m", attributes=["honesty"])


def test_a_reference_is_shown_and_an_answer_without_one_is_not_asked_about() -> None:
    def rule(body: Body) -> str:
        return f"[[{10 if between(asked(body), 'reference') == parrot(body) else 1}]]"

    prefs = data({"q": ["4", "5"], "r": ["x"], "s": ["y"]}, reference=["4", None, " "])
    with serving(rule) as server:
        scored = score(prefs, "judge", url=server.url, model="m", kind="reference")
        assert len(server.bodies) == 2
        with pytest.raises(InputError, match="needs a column 'reference'"):
            score(data({"q": ["4"]}), "judge", url=server.url, model="m", kind="reference")
    assert column(scored) == [10.0, 1.0, None, None]
    assert scored.lineage[-1].settings["unscored"] == {"no_reference": 2}


def quality(text: str) -> int:
    return int(text.split()[-1])


def biased(body: Body) -> str:
    """Sees a difference only beyond 2; else the first place wins, as it does for many judges."""
    first, second = (quality(between(asked(body), f"answer_{letter}")) for letter in "AB")
    return "[[B]]" if second - first > 2 else "[[A]]"


def test_both_orders_take_a_planted_position_bias_away() -> None:
    """The score is the mean over the others of 1, 1/2 or 0 by the difference of quality alone, in any file order."""
    drawn = np.random.default_rng(5)
    qualities = {f"q{i}": [int(each) for each in drawn.permutation(9)[:4]] for i in range(12)}
    prefs = data({prompt: [f"{prompt} answer {each}" for each in row] for prompt, row in qualities.items()})
    with serving(biased) as server:
        scored = score(prefs, "judge", url=server.url, model="m", kind="pairwise")
        assert len(server.bodies) == 12 * 4 * 3
        assert set(server.paid.values()) == {1}
    wanted = [
        sum((one - other > 2) + 0.5 * (abs(one - other) <= 2) for j, other in enumerate(row) if j != i) / 3
        for row in qualities.values()
        for i, one in enumerate(row)
    ]
    assert column(scored) == pytest.approx(wanted, abs=1e-12)
    near = sum(abs(a - b) <= 2 for row in qualities.values() for a, b in combinations(row, 2))
    found = scored.lineage[-1].found
    assert found["comparisons"] == 72
    assert f"{near} flipped with the position (ties)" in " ".join(scored.lineage[-1].notes)
    assert found["outcomes"]["position_flip"] == near
    assert found["outcomes"]["first"] + found["outcomes"]["second"] == 72 - near
    # Each near pair is A twice, each far one A once and B once: what one order alone would have counted.
    assert found["verdicts"] == {"first": 72 + near, "second": 72 - near, "tie": 0, "abstained": 0}


def test_a_biased_judge_with_probabilities_is_evened_out_too() -> None:
    """p(first wins) = sigmoid(d + 1): both orders give (sigmoid(d + 1) + sigmoid(d - 1)) / 2, one half at d = 0."""

    def sigmoid(x: float) -> float:
        return 1.0 / (1.0 + math.exp(-x))

    def rule(body: Body) -> Body:
        first, second = (quality(between(asked(body), f"answer_{letter}")) for letter in "AB")
        share = sigmoid(first - second + 1.0)
        drawn = "A" if share > 0.5 else "B"
        top = [{"token": "A", "logprob": math.log(share)}, {"token": "B", "logprob": math.log(1.0 - share)}]
        drawn_logp = next(each["logprob"] for each in top if each["token"] == drawn)
        reply = completion(f"[[{drawn}]]")
        content = [
            {"token": "[[", "logprob": 0.0, "top_logprobs": []},
            {"token": drawn, "logprob": drawn_logp, "top_logprobs": top},
            {"token": "]]", "logprob": 0.0, "top_logprobs": []},
        ]
        reply["choices"][0]["logprobs"] = {"content": content}
        return reply

    prefs = data({"q": ["x 3", "y 3"], "r": ["x 5", "y 4"]})
    with serving(rule) as server:
        scored = score(prefs, "judge", url=server.url, model="m", kind="pairwise", reading="expected")
        assert server.bodies[0]["top_logprobs"] == 20
    assert "1 flipped with the position (both orders averaged)" in " ".join(scored.lineage[-1].notes)
    assert "ties" not in " ".join(scored.lineage[-1].notes)
    win = (sigmoid(2.0) + sigmoid(0.0)) / 2
    assert column(scored) == pytest.approx([0.5, 0.5, win, 1.0 - win], abs=1e-9)


def test_ties_and_abstentions_are_counted_and_what_has_no_outcome_has_no_score() -> None:
    """Verdicts by the two letters shown: in p, tie both times; in q, half a tie and an abstention; in r and s, none."""
    table = {"ab": "[[C]]", "ba": "[[C]]", "cd": "[[A]]", "dc": "[[C]]", "ce": "[[D]]", "ec": "[[A]]"}
    table |= {"de": "[[A]]", "ed": "[[B]]", "fg": "[[D]]", "gf": "[[D]]", "hi": "?", "ih": "[[A]]"}

    def rule(body: Body) -> str:
        return table[between(asked(body), "answer_A") + between(asked(body), "answer_B")]

    prefs = data({"p": ["a", "b"], "q": ["c", "d", "e"], "r": ["f", "g"], "s": ["h", "i"], "t": ["alone"]})
    with serving(rule) as server:
        scored = score(prefs, "judge", url=server.url, model="m", kind="pairwise")
    # c: half a tie with d, none with e. d: that, and a win over e. e: a loss against d.
    assert column(scored) == [0.5, 0.5, 0.5, 0.75, 0.0, None, None, None, None, None]
    step = scored.lineage[-1]
    assert step.settings["unscored"] == {"abstained": 2, "lone_answer": 1, "no_verdict": 2}
    assert step.found["outcomes"] == {
        "first": 1,
        "second": 0,
        "tie": 1,
        "position_flip": 0,
        "half_tie": 1,
        "abstained": 2,
        "unanswered": 1,
    }
    assert step.found["verdicts"] == {"first": 4, "second": 1, "tie": 3, "abstained": 3}
    assert column(scored, "score_text")[2] == ["[[A]]", "[[D]]"]  # c stood first against d, then against e


def test_an_answer_without_an_outcome_has_the_commonest_reason_of_its_calls() -> None:
    """Four calls have a in them: three without a verdict, one abstention."""
    table = {"ab": "?", "ba": "?", "ac": "?", "ca": "[[D]]", "bc": "[[D]]", "cb": "[[D]]"}

    def rule(body: Body) -> str:
        return table[between(asked(body), "answer_A") + between(asked(body), "answer_B")]

    with serving(rule) as server:
        scored = score(data({"q": ["a", "b", "c"]}), "judge", url=server.url, model="m", kind="pairwise")
    # b: two of each, so the first by name; c: three abstentions and one without.
    assert column(scored, "score_why") == ["no_verdict", "abstained", "abstained"]


def test_equal_answers_are_a_tie_whatever_the_place_does() -> None:
    with serving(lambda _: "[[A]]") as server:
        scored = score(data({"q": ["same", "same"]}), "judge", url=server.url, model="m", kind="pairwise")
        assert len(server.bodies) == 1
    assert column(scored) == [0.5, 0.5]


def test_a_server_that_fails_leaves_no_row_behind_and_is_paid_once() -> None:
    """Three attempts fail of each call, then it is well: with two retries all are null, and the next run has all."""
    prefs = data({"q": [f"[[{i}]]" for i in range(1, 7)]})
    with serving(parrot, ("500", "cut", "half")) as server:
        place = {"url": server.url, "model": "m", "timeout": 10}
        first = score(prefs, "judge", **place, retries=2)
        assert column(first) == [None] * 6
        assert first.lineage[-1].settings["unscored"] == {"malformed_json": 6}
        assert not server.paid
        again = score(prefs, "judge", **place, retries=0)
        assert column(again) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        third = score(prefs, "judge", **place, retries=0)
        assert set(server.paid.values()) == {1}
        assert third == again
        assert third.lineage[-1] == again.lineage[-1]  # what was kept and what was paid now is told alike


def test_another_version_of_a_prompt_file_asks_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.md"
    body = "version: {v}\n\n## system\nYou rate.\n\n## user\n{{prompt}}: {{answer}}\n"
    prefs = data({"q": ["a"]})
    with serving(lambda _: "[[4]]") as server:
        place = {"url": server.url, "model": "m", "prompt": str(file)}
        file.write_text(body.format(v="1"))
        scored = score(prefs, "judge", **place)
        score(prefs, "judge", **place)
        assert [each["role"] for each in server.bodies[0]["messages"]] == ["system", "user"]
        assert server.bodies[0]["messages"][1]["content"] == "q: a"
        assert len(server.bodies) == 1
        file.write_text(body.format(v="2"))
        second = score(prefs, "judge", **place)
        assert len(server.bodies) == 2
    assert column(scored) == column(second) == [4.0]
    assert [each.lineage[-1].found["prompt"]["version"] for each in (scored, second)] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("## user\n{prompt} {answer}", "must begin with a line such as 'version: 1'"),
        ("version: 1\n{prompt} {answer}", "must begin with a line such as 'version: 1'"),
        ("version: 1\n## system\n{prompt} {answer}", "no text under a line '## user'"),
        ("version: 1\n## user\n{prompt}", "no place {answer}"),
        ("version: 1\n## user\n{prompt} {answer} {anwser}", r"place {anwser} .*did you mean 'answer'"),
        ("version: 1\n## user\n{prompt} {answer} {reference}", "{reference} that kind 'rating' does not fill"),
        ("version: 1\n## user\n{prompt}\n## user\n{answer}", "a section twice"),
        ("version: 1\n## attributes\nwit\n## user\n{prompt} {answer}", "the attribute 'wit' is not of the form"),
    ],
)
def test_a_prompt_file_with_a_fault_is_refused_before_anything_is_paid(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.md"
    file.write_text(text)
    with serving(parrot) as server:
        with pytest.raises(InputError, match=says):
            score(data({"q": ["a"]}), "judge", url=server.url, model="m", prompt=str(file))
        assert server.bodies == []


def test_other_mistakes_are_one_sentence() -> None:
    prefs, place = data({"q": ["a"]}), {"url": "http://127.0.0.1:9/v1", "model": "m"}
    with pytest.raises(InputError, match=r"no prompt file 'ratin'.*did you mean 'rating'"):
        score(prefs, "judge", **place, prompt="ratin")
    with pytest.raises(InputError, match="low 10 must be below high 1"):
        score(prefs, "judge", **place, low=10, high=1)
    with pytest.raises(InputError, match="never the key itself") as caught:
        score(prefs, "judge", **place, key=KEY)
    assert KEY not in str(caught.value)


def test_the_prompt_files_of_the_package_ask_for_what_is_read() -> None:
    """Each of ours says the marks that the readings look for."""
    folder = Path(__file__).parents[2] / "src" / "pairwright" / "scorers" / "judge" / "prompts"
    assert sorted(path.stem for path in folder.glob("*.md")) == [
        "attributes",
        "best",
        "pairwise",
        "rating",
        "reference",
    ]
    for path in folder.glob("*.md"):
        assert re.match(r"version: \d+\n", path.read_text()), path
    for name in ("rating", "reference"):
        assert "[[rating]]" in (folder / f"{name}.md").read_text()
        assert "[[none]]" in (folder / f"{name}.md").read_text()
    assert all(mark in (folder / "best.md").read_text() for mark in ("[[letter]]", "[[none]]"))
    assert all(f"[[{letter}]] if" in (folder / "pairwise.md").read_text() for letter in "ABCD")


def test_from_the_command_line_with_costs_and_the_key_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every file that a run leaves, its cache and what it prints are searched for the key."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "in.jsonl"
    rows = [{"prompt": f"q{i}", "chosen": f"good [[{i + 3}]]", "rejected": f"{KEY} bad"} for i in range(3)]
    source.write_text("\n".join(json.dumps(row) for row in rows).replace(KEY, "no key"))

    def rule(body: Body) -> str:
        return f"{parrot(body)} and your key is {KEY}"

    with serving(rule, ("500", "wait0.01"), key=KEY) as server:
        command = ["score", str(source), "-o", str(tmp_path / "out"), "--with", "judge", "--url", server.url]
        command += ["--model", "m", "--key", "JUDGE_KEY", "--set", "prompt_price=1000000", "--set", "retries=3"]
        assert main(command) == 0
        assert set(server.paid.values()) == {1}
        assert main([*command[:3], str(tmp_path / "other"), *command[4:-6], "--key", KEY]) == 2
    scored = Preferences.load(tmp_path / "out")
    assert column(scored) == [3.0, None, 4.0, None, 5.0, None]
    assert scored.lineage[-1].found["cost"] == 42.0  # 6 calls of 7 tokens at one a token
    assert scored.lineage[-1].settings["key"] == "JUDGE_KEY"
    out = capfd.readouterr()
    assert KEY not in out.out + out.err
    _assert_nowhere(tmp_path)


def test_a_recipe_with_a_judge_goes_on_where_it_was_and_the_key_is_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server is away, then it is there, and another prompt file is another question."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "cache"))
    source, prompt, recipe = tmp_path / "in.jsonl", tmp_path / "mine.md", tmp_path / "recipe.yaml"
    source.write_text('{"prompt": "q", "chosen": "good", "rejected": "bad"}\n')
    prompt.write_text("version: 1\n\n## user\n{prompt} {answer}\n")

    def written(url: str, key: str) -> list[str]:
        step = {"do": "score", "scorer": "judge", "url": url, "model": "m", "prompt": str(prompt), "key": key}
        recipe.write_text(json.dumps([{"do": "read", "source": str(source)}, step | {"retries": 0}]))
        return ["run", str(recipe), "-o", str(tmp_path / "run")]

    with serving(lambda body: "[[9]]" if "good" in asked(body) else f"[[2]] {KEY}", key=KEY) as server:
        for wrong in ((server.url, KEY), (server.url.replace("http://", f"http://me:{KEY}@"), "JUDGE_KEY")):
            assert main(written(*wrong)) == 2
            assert re.search("never the key itself|give the plain base URL", capfd.readouterr().err)
        assert main(written("http://127.0.0.1:9/v1", "JUDGE_KEY")) == 2
        command = written(server.url, "JUDGE_KEY")
        assert main(command) == main(command) == 0
        assert len(server.bodies) == 2
        prompt.write_text("version: 1\n\n## user\nJudge {prompt} {answer}\n")
        assert main(command) == 0
        assert len(server.bodies) == 4
    recipe.unlink()  # it had the key in it, of its writer's hand
    out = capfd.readouterr()
    assert KEY not in out.out + out.err
    (folder,) = (path.parent for path in (tmp_path / "run").rglob("responses.parquet") if "score" in str(path))
    assert column(Preferences.load(folder)) == [9.0, 2.0]
    _assert_nowhere(tmp_path)


def test_the_recipe_for_a_judge_ends_in_a_file_of_pairs_that_ask_for_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two prompts: 9 against 3, and one whose second answer has no verdict and so is in no pair. Two goals a pair."""
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "cache"))
    recipe = Path(__file__).parents[2] / "recipes" / "served_judge.yaml"
    rows = [("a", "[[9]]", "[[3]]"), ("b", "[[8]]", "?")]
    source = tmp_path / "in.jsonl"
    source.write_text(
        "".join(json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) + "\n" for row in rows)
    )
    with serving(parrot) as server:
        command = ["run", str(recipe), "-o", str(tmp_path / "run"), "--set", f"data.path={source}"]
        assert main([*command, "--set", f"judged.url={server.url}", "--set", "judged.model=m"]) == 0
        assert len(server.bodies) == 4
    (file,) = (tmp_path / "run").rglob("judged_pairs.jsonl")
    pairs = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(pair["chosen"][-1]["content"] for pair in pairs) == ["[[3]]", "[[9]]"]


def _assert_nowhere(folder: Path) -> None:
    left = [path for path in folder.rglob("*") if path.is_file()]
    assert len(left) > 4
    assert [path for path in left if KEY.encode() in path.read_bytes()] == []
