"""A real server with a real, tiny model, `transformers serve`, gives the answers that the engine hf gives."""

import pytest

import tiny
from pairwright.cli import main
from pairwright.generate import generate
from pairwright.preferences import Preferences
from real_server import real_server

pytest.importorskip("openai")
pytest.importorskip("fastapi", reason="the server needs: pip install 'transformers[serving]'")
pytest.importorskip("uvicorn", reason="the server needs: pip install 'transformers[serving]'")
pytestmark = [pytest.mark.server, pytest.mark.slow]


def texts_of(prefs):
    return [row[0]["content"] for row in prefs.responses.collect()["response"].to_list()]


def test_greedy_answers_are_those_of_the_same_model_here(tmp_path):
    """Two roads to one model: tokens, templates and ends are the server's own there, and ours here."""
    folder = tiny.model(tmp_path / "small", positions=4096)
    prefs = tiny.preferences(3)
    prefs.save(tmp_path / "data")
    here = generate(folder, prefs, temperature=0, max_new_tokens=8)
    with real_server(folder, tmp_path / "serve.log") as place:
        command = ["generate", place.model, "--prompts", str(tmp_path / "data"), "--engine", "openai"]
        command += ["--url", place.url, "--max-new-tokens", "8"]
        assert main([*command, "--temperature", "0", "-o", str(tmp_path / "greedy")]) == 0
        assert main([*command, "-n", "3", "--seed", "1", "-o", str(tmp_path / "drawn")]) == 0
    assert texts_of(Preferences.load(tmp_path / "greedy")) == texts_of(here)
    assert Preferences.load(tmp_path / "drawn").counts().responses == 9
