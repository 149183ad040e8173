"""The engine vllm against a stand-in for the library: what it is asked, and how its words are read.

vLLM itself runs on no machine of these tests.
"""

import sys
from types import ModuleType, SimpleNamespace

import polars as pl
import pytest

import tiny
from pairwright.chat import prompt_id, user
from pairwright.errors import InputError, MissingExtra
from pairwright.generate import generate
from pairwright.generate.request import seed_of
from pairwright.preferences import Preferences

transformers = pytest.importorskip("transformers")


def questions(*texts):
    prompts = [[user(text)] for text in texts]
    frame = pl.DataFrame({"prompt_id": [prompt_id(each) for each in prompts], "prompt": prompts})
    return Preferences.of(frame, tiny.preferences(1).responses.head(0), None)


class StandIn:
    """`vllm.LLM`: it answers with the number of prompt tokens, and keeps what it was asked."""

    made: list["StandIn"] = []  # noqa: RUF012

    def __init__(self, **settings):
        self.settings, self.asked = settings, []
        StandIn.made.append(self)

    def generate(self, prompts, params, *, use_tqdm):
        assert use_tqdm is False
        self.asked += list(zip(prompts, params, strict=True))
        ends = [("stop", None), ("stop", "END"), ("length", None), ("stop", 7)]
        return [
            SimpleNamespace(
                outputs=[
                    SimpleNamespace(
                        text=f"{len(prompt['prompt_token_ids'])} tokens",
                        token_ids=[1, 2, 3],
                        cumulative_logprob=-1.5,
                        finish_reason=ends[i % 4][0],
                        stop_reason=ends[i % 4][1],
                    )
                ]
            )
            for i, prompt in enumerate(prompts)
        ]


@pytest.fixture
def library(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = StandIn, lambda **settings: settings
    monkeypatch.setitem(sys.modules, "vllm", module)
    StandIn.made = []
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("models") / "small")


def test_what_vllm_is_asked_and_how_its_words_are_read(library, model):
    prefs = questions("one", "three four")
    made = generate(
        model,
        prefs,
        engine="vllm",
        n=2,
        temperature=0.5,
        top_p=0.9,
        max_new_tokens=9,
        stop="END",
        seed=4,
        load={"tensor_parallel_size": 2},
    )
    (engine,) = StandIn.made
    assert engine.settings == {
        "model": str(model),
        "dtype": "bfloat16",
        "enable_prefix_caching": True,
        "logprobs_mode": "raw_logprobs",
        "tensor_parallel_size": 2,
    }
    ids = prefs.prompts.collect()["prompt_id"].to_list()
    reader = transformers.AutoTokenizer.from_pretrained(model)
    short, long = (
        reader.apply_chat_template([user(text)], add_generation_prompt=True).input_ids for text in ("one", "three four")
    )
    assert len(short) < len(long)  # the longest goes first
    assert [prompt["prompt_token_ids"] for prompt, _ in engine.asked] == [long, long, short, short]
    wanted = [seed_of(4, ids[i], sample) // 2**65 for i in (1, 0) for sample in (0, 1)]
    assert [asked["seed"] for _, asked in engine.asked] == wanted
    assert max(wanted) < 2**63
    first = dict(engine.asked[0][1])
    del first["seed"]
    assert first == {"temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "stop": ["END"], "logprobs": 0}
    rows = made.responses.collect()
    assert [row[0]["content"] for row in rows["response"].to_list()] == [
        f"{len(ids)} tokens" for ids in (short, short, long, long)
    ]
    assert rows["stopped"].to_list() == ["length", "eos", "eos", "stop"]
    assert rows["logp_small"].to_list() == [-1.5] * 4
    assert rows["len_small"].to_list() == [3] * 4


def test_finished_parts_are_kept(library, model, tmp_path):
    class Broken(StandIn):
        def generate(self, prompts, params, *, use_tqdm):
            if len(self.asked) == 1:
                raise KeyboardInterrupt
            return super().generate(prompts, params, use_tqdm=use_tqdm)

    prefs, settings = questions("one", "three four"), {"engine": "vllm", "batch_size": 1, "max_new_tokens": 9}
    whole = generate(model, prefs, **settings)
    settings |= {"keep": tmp_path / "keep"}
    library.LLM = Broken
    with pytest.raises(KeyboardInterrupt):
        generate(model, prefs, **settings)
    library.LLM = StandIn
    assert generate(model, prefs, **settings) == whole
    assert len(StandIn.made[-1].asked) == 1


def test_an_adapter_is_refused(library, model, tmp_path):
    (tmp_path / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{model}"}}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="is an adapter; merge it"):
        generate(tmp_path, questions("one"), engine="vllm")


def test_without_the_library_it_says_what_to_install(monkeypatch, model):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match=r"vllm is not installed; run: pip install 'pairwright\[vllm\]'"):
        generate(model, questions("one"), engine="vllm")


@pytest.mark.parametrize("name", ["model", "dtype"])
def test_what_is_a_setting_of_its_own_is_refused_in_load(library, model, name):
    with pytest.raises(InputError, match=f"{name} is a setting of its own; take it out of load"):
        generate(model, questions("one"), engine="vllm", load={name: "float16"})


@pytest.mark.parametrize("bad", [float("-inf"), float("nan"), None])
def test_a_log_probability_that_is_not_finite_is_null_and_counted(library, model, bad, tmp_path):
    class Odd(StandIn):
        def generate(self, prompts, params, *, use_tqdm):
            outputs = super().generate(prompts, params, use_tqdm=use_tqdm)
            outputs[0].outputs[0].cumulative_logprob = bad
            return outputs

    library.LLM = Odd
    made = generate(model, questions("one", "three four"), engine="vllm", max_new_tokens=9, keep=tmp_path / "keep")
    rows = made.responses.collect()
    assert rows["logp_small"].to_list() == [-1.5, None]  # the longer prompt goes first
    assert rows["len_small"].to_list() == [3, 3]
    assert "1 of 2 answers have no log-probability" in " ".join(made.lineage[-1].notes)
    assert made.lineage[-1].found["no_logp"] == 1
