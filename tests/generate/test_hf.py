"""The engine hf: log-probabilities, stop strings, shared prompts."""

import math

import polars as pl
import pytest

import tiny
from pairwright.chat import prompt_id, user
from pairwright.errors import InputError
from pairwright.generate import generate
from pairwright.goals import GoalFormat
from pairwright.preferences import PAIR_COLUMNS, RESPONSE_COLUMNS, Preferences

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pairwright.generate.drawing import OpenedSampler, Sampling, Wanted  # noqa: E402
from pairwright.generate.request import seed_of  # noqa: E402
from pairwright.logprobs.core import Batch, answer_logps  # noqa: E402
from pairwright.logprobs.models import open_model, quiet_peft  # noqa: E402

SAMPLING = Sampling(1.0, 1.0, 16)
PROMPTS = [[1, 40, 41, 42, 60], [1, 50, 45], [1, 33, 34, 35, 36, 37, 38, 39]]
OWNER = [0, 0, 0, 1, 2, 2]
SEEDS = [seed_of(3, "a", i) for i in range(6)]


def questions(*texts):
    prompts = [[user(text)] for text in texts]
    frame = pl.DataFrame({"prompt_id": [prompt_id(each) for each in prompts], "prompt": prompts})
    return Preferences.of(frame, pl.DataFrame(schema=RESPONSE_COLUMNS), pl.DataFrame(schema=PAIR_COLUMNS))


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request, tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("models") / request.param, kind=request.param)


def by_itself(model, ids, seed, sampling, steps=16):
    """Sampling as one would write it first: no cache, no padding, no batch, and numpy's own choice of the token.

    The nucleus is cut by hand; the log-probabilities are those of the whole distribution at temperature 1.
    """
    import numpy as np

    network = open_model(model)
    ends = [2]
    numbers = np.random.Generator(np.random.Philox(key=seed)).random(steps)
    tokens, logps = [], []
    for number in numbers:
        with torch.no_grad():
            logits = network(torch.tensor([[*ids, *tokens]])).logits[0, -1].double().numpy()
        plain = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        warm = np.exp((logits - logits.max()) / sampling.temperature)
        warm /= warm.sum()
        order = np.argsort(-warm, kind="stable")
        count = int(np.searchsorted(np.cumsum(warm[order]), sampling.top_p)) + 1
        kept = np.zeros_like(warm)
        kept[order[:count]] = warm[order[:count]]
        token = int(np.searchsorted(np.cumsum(kept), number * kept.sum(), side="right"))
        tokens.append(token)
        logps.append(math.log(plain[token]))
        if token in ends:
            break
    return tokens, logps


@pytest.mark.parametrize("sampling", [SAMPLING, Sampling(0.7, 0.8, 16)])
def test_answers_and_their_log_probabilities_are_those_of_a_plain_loop(model, sampling):
    """Also where the tokens come from a warmer distribution's nucleus: the log-probability is the model's own."""
    reader = transformers.AutoTokenizer.from_pretrained(model)
    made = OpenedSampler(model, "float32", sampling).answers(Wanted(PROMPTS, OWNER, SEEDS))
    for drawn, prompt, seed in zip(made, OWNER, SEEDS, strict=True):
        tokens, logps = by_itself(model, PROMPTS[prompt], seed, sampling)
        ended = tokens[-1] == 2
        assert drawn.text == reader.decode(tokens[: len(tokens) - ended], skip_special_tokens=True)
        assert drawn.stopped == ("eos" if ended else "length")
        assert drawn.length == len(tokens)
        assert drawn.logp == pytest.approx(sum(logps), abs=1e-4)


def test_log_probabilities_are_those_of_the_core(model):
    """The one function that computes them elsewhere is given the drawn tokens."""
    reader = transformers.AutoTokenizer.from_pretrained(model)
    prefs = questions("one two", "three")
    made = generate(model, prefs, n=4, max_new_tokens=12, name="m", seed=2).responses.collect()
    assert made.columns[-2:] == ["logp_m", "len_m"]
    heads = dict(zip(prefs.prompts.collect()["prompt_id"], prefs.prompts.collect()["prompt"].to_list(), strict=True))
    sampler = OpenedSampler(model, "float32", Sampling(1.0, 1.0, 12))
    for row in made.iter_rows(named=True):
        text = reader.apply_chat_template(heads[row["prompt_id"]], add_generation_prompt=True, tokenize=False)
        ids = reader(text, add_special_tokens=False).input_ids
        wanted = Wanted([ids], [0], [seed_of(2, row["prompt_id"], row["sample"])])
        with torch.inference_mode():
            (tokens,), _ = sampler._continued(wanted)
        tokens = tokens[: row["len_m"]]
        assert (tokens[-1] == 2) == (row["stopped"] == "eos")
        with torch.no_grad():
            found = answer_logps(open_model(model), Batch.of([ids], [tokens], [0]))
        assert int(found.length) == row["len_m"]
        assert float(found.logp) == pytest.approx(row["logp_m"], abs=1e-4)


def test_greedy_answers_have_log_probabilities_too(model):
    sampling = Sampling(0.0, 1.0, 5)
    drawn = OpenedSampler(model, "float32", sampling).answers(Wanted(PROMPTS, [0, 1, 2], [0, 0, 0]))
    network = open_model(model)
    for prompt, each in zip(PROMPTS, drawn, strict=True):
        ids, total = list(prompt), 0.0
        for _ in range(each.length):
            with torch.no_grad():
                best = network(torch.tensor([ids])).logits[0, -1].log_softmax(-1).max(-1)
            total += float(best.values)
            ids.append(int(best.indices))
        assert each.logp == pytest.approx(total, abs=1e-4)


class Counting(OpenedSampler):
    """A sampler that counts the prompt tokens that its network reads at once, padding included."""

    def __init__(self, *settings):
        super().__init__(*settings)
        self.read = 0
        self._network.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, network, args, given):
        if given["input_ids"].shape[1] > 1:
            self.read += given["input_ids"].numel()


def test_a_prompt_is_read_once_for_all_its_answers(model, capsys):
    sampler = Counting(model, "float32", SAMPLING)
    assert sampler._reads_once()
    assert capsys.readouterr().err == ""
    sampler.read = 0
    shared = sampler.answers(Wanted(PROMPTS, OWNER, SEEDS))
    assert sampler.read == len(PROMPTS) * 7  # all of the longest prompt but its last token, which begins the answers
    sampler._shares, sampler.read = False, 0
    apart = sampler.answers(Wanted(PROMPTS, OWNER, SEEDS))
    assert sampler.read == len(OWNER) * 8
    assert [each[:2] + each[3:] for each in shared] == [each[:2] + each[3:] for each in apart]
    assert [each.logp for each in shared] == pytest.approx([each.logp for each in apart], abs=1e-4)


def as_by_itself(folder, drawn):
    reader = tiny.tokenizer()
    for each, prompt, seed in zip(drawn, OWNER, SEEDS, strict=True):
        tokens, logps = by_itself(folder, PROMPTS[prompt], seed, SAMPLING)
        assert each.text == reader.decode([token for token in tokens if token != 2], skip_special_tokens=True)
        assert each.logp == pytest.approx(sum(logps), abs=1e-4)


def test_a_window_shorter_than_the_prompts_is_shared_too(tmp_path, capsys):
    reader = tiny.tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.MistralConfig(
            vocab_size=len(reader),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            sliding_window=4,
            initializer_range=0.2,
            pad_token_id=0,
            eos_token_id=2,
        )
        transformers.MistralForCausalLM(config).save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    capsys.readouterr()
    as_by_itself(tmp_path, OpenedSampler(tmp_path, "float32", SAMPLING).answers(Wanted(PROMPTS, OWNER, SEEDS)))
    assert "reads a prompt anew" not in capsys.readouterr().err


def test_an_adapter_reads_a_prompt_once_too(tmp_path, capsys):
    peft = pytest.importorskip("peft")
    base = tiny.model(tmp_path / "base")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]), quiet_peft():
        torch.manual_seed(1)
        made = peft.get_peft_model(open_model(base), config)
    made.save_pretrained(tmp_path / "adapter")
    capsys.readouterr()
    drawn = OpenedSampler(tmp_path / "adapter", "float32", SAMPLING).answers(Wanted(PROMPTS, OWNER, SEEDS))
    assert "reads a prompt anew" not in capsys.readouterr().err
    as_by_itself(tmp_path / "adapter", drawn)


def test_half_precision_draws_and_shares(model, capsys):
    made = generate(model, questions("one", "two"), n=3, max_new_tokens=6, dtype="bfloat16", name="m")
    logps = made.responses.collect()["logp_m"].to_list()
    assert all(math.isfinite(each) and each < 0 for each in logps)
    assert "reads a prompt anew" not in capsys.readouterr().err


def test_a_prompt_of_one_token_is_read_for_each_answer(model):
    sampler = Counting(model, "float32", SAMPLING)
    assert len(sampler.answers(Wanted([[1], [1, 50]], [0, 0, 1], SEEDS[:3]))) == 3


def test_a_model_whose_memory_cannot_be_shared_reads_anew_and_says_so(model, capsys):
    fine = OpenedSampler(model, "float32", SAMPLING)
    broken = OpenedSampler(model, "float32", SAMPLING)
    right = broken._read

    def wrong(ids, mask, owner):
        return right(ids.roll(1, 0), mask.roll(1, 0), owner)

    broken._read = wrong
    wanted = Wanted(PROMPTS, OWNER, SEEDS)
    assert [each.text for each in broken.answers(wanted)] == [each.text for each in fine.answers(wanted)]
    said = capsys.readouterr().err
    assert "reads a prompt anew for each of its answers: its logits would differ by" in said


def test_a_recurrent_model_reads_anew_and_says_so(tmp_path, capsys):
    transformers.logging.set_verbosity_error()
    reader = tiny.tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.MambaConfig(
            vocab_size=len(reader), hidden_size=16, num_hidden_layers=2, state_size=4, eos_token_id=2, pad_token_id=0
        )
        transformers.MambaForCausalLM(config).save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    made = generate(tmp_path, questions("one"), n=3, max_new_tokens=4)
    assert made.counts().responses == 3
    assert "MambaForCausalLM reads a prompt anew" in capsys.readouterr().err


def test_a_stop_string_ends_an_answer_and_is_no_part_of_it(model):
    """Every answer is what comes before the stop string in the answer that had none, and is as long as that text."""
    prefs = questions("one", "two", "three four")
    whole = generate(model, prefs, n=6, max_new_tokens=20, name="m").responses.collect()
    texts = [row[0]["content"] for row in whole["response"].to_list()]
    letter = next(c for c in "etaoinshrdlu" if any(c in text[1:] for text in texts))
    pair = next(text[i : i + 2] for text in texts for i in range(2, len(text) - 2) if text[i : i + 2].isascii())
    made = generate(model, prefs, n=6, max_new_tokens=20, name="m", stop=[letter, pair]).responses.collect()
    assert {"stop"} < set(made["stopped"])
    for before, after in zip(whole.iter_rows(named=True), made.iter_rows(named=True), strict=True):
        text = before["response"][0]["content"]
        ends = [at for word in (letter, pair) if (at := text.find(word)) >= 0]
        assert after["response"][0]["content"] == text[: min(ends, default=None)]
        assert after["stopped"] == ("stop" if ends else before["stopped"])
        if ends:
            assert after["len_m"] <= before["len_m"]
            assert after["logp_m"] >= before["logp_m"]
        else:
            assert after["logp_m"] == pytest.approx(before["logp_m"], abs=1e-5)
    one = generate(model, prefs, n=6, max_new_tokens=20, stop=letter).responses.collect()
    assert all(letter not in row[0]["content"] for row in one["response"].to_list())


def test_an_answer_is_as_long_as_the_token_that_completes_its_stop_string(model):
    """Of the tokens drawn without one: the first of them behind which the text has it, and their log-probabilities."""
    reader = transformers.AutoTokenizer.from_pretrained(model)
    plain = OpenedSampler(model, "float32", SAMPLING)
    wanted = Wanted(PROMPTS, OWNER, SEEDS)
    with torch.inference_mode():
        rows, logps = plain._continued(wanted)
    texts = [each.text for each in plain.answers(wanted)]
    stop = next(text[3:5] for text in texts if len(text) > 8 and text[3:5].isascii())
    drawn = OpenedSampler(model, "float32", SAMPLING._replace(stop=(stop,))).answers(wanted)
    assert "stop" in {each.stopped for each in drawn}
    for each, row, values, text in zip(drawn, rows, logps, texts, strict=True):
        if stop in text:
            count = min(n for n in range(len(row) + 1) if stop in reader.decode(row[:n], skip_special_tokens=True))
            assert each[:2] == (text.split(stop)[0], "stop")
            assert each.length == count
            assert each.logp == pytest.approx(sum(values[:count]), abs=1e-4)
        else:
            assert each.stopped != "stop"


def test_drawing_ends_when_every_answer_has_its_stop_string(model):
    """A stop string that is there after the first token ends the work after one step, not after the most allowed."""
    sampler = OpenedSampler(model, "float32", SAMPLING)
    wanted = Wanted(PROMPTS[:1], [0], SEEDS[:1])
    first = sampler.answers(wanted)[0].text[0]
    stopping = Counting(model, "float32", SAMPLING._replace(stop=(first,)))
    with torch.inference_mode():
        (row,), (logps,) = stopping._continued(wanted)
    assert len(row) == len(logps) == 1
    assert stopping.answers(wanted)[0] == ("", "stop", pytest.approx(logps[0]), 1)


def test_stop_strings_that_cannot_be_are_refused(model):
    with pytest.raises(InputError, match="empty stop string"):
        generate(model, questions("one"), stop="")


def test_a_probability_that_is_not_finite_is_no_answer(model, tmp_path):
    from pairwright.errors import PairwrightError

    network = open_model(model)
    with torch.no_grad():
        network.get_input_embeddings().weight.fill_(float("nan"))
    network.save_pretrained(tmp_path / "broken")
    tiny.tokenizer().save_pretrained(tmp_path / "broken")
    with pytest.raises(PairwrightError, match="not finite"):
        generate(tmp_path / "broken", questions("one"), max_new_tokens=2)


def test_counts_are_in_the_lineage(model):
    made = generate(model, questions("one"), n=2, max_new_tokens=1, goal=[None], goal_format=GoalFormat())
    step = made.lineage[-1]
    assert set(step.found) == {"empty", "cut", "repeated"}
    stopped = made.responses.collect()["stopped"].to_list()
    assert step.found["cut"] == stopped.count("length")
    assert step.settings["batch_size"] == 32
    assert "ray" not in step.settings
