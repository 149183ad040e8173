"""A real server with a real, tiny model: `transformers serve`, started and stopped here."""

from collections.abc import Iterator

import pytest

import tiny
from pairwright.chat import user
from pairwright.scorers import score
from pairwright.served import Answer, Call, Manners, Sampling, Server, ask
from real_server import Place, real_server

pytest.importorskip("openai")
pytest.importorskip("fastapi", reason="the server needs: pip install 'transformers[serving]'")
pytest.importorskip("uvicorn", reason="the server needs: pip install 'transformers[serving]'")
pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tiny.model(tmp_path_factory.mktemp("models") / "small", positions=4096)
    with real_server(folder, tmp_path_factory.mktemp("log") / "serve.log") as place:
        yield place


def test_a_real_server_answers_and_is_asked_once(served: Place) -> None:
    calls = [Call([user(text)]) for text in ("one two", "three", "one two")]
    sampling = Sampling(temperature=0.0, max_tokens=6)
    place, manners = Server(url=served.url, model=served.model), Manners(concurrency=2)
    first = ask(calls, server=place, sampling=sampling, manners=manners)
    assert all(isinstance(each, Answer) for each in first.answers), first.answers
    assert first.made == 2
    assert first.answers[0] == first.answers[2]
    assert first.usage.answer_tokens > 0
    assert ask(calls, server=place, sampling=sampling, manners=manners).made == 0


def test_the_judge_scores_or_says_why_not(served: Place) -> None:
    """A model with random weights writes no ratings: every answer is null with a reason and what it wrote."""
    prefs = tiny.preferences(2)
    scored = score(prefs, "judge", url=served.url, model=served.model, into="score_judge", max_tokens=5, concurrency=2)
    answers = scored.responses.collect()
    assert len(answers) == 4
    for value, why, text in answers.select("score_judge", "score_judge_why", "score_judge_text").iter_rows():
        assert (value is None) == (why is not None)
        assert text is not None
    assert scored.lineage[-1].found["calls"] == 4
