import hashlib
import json
import subprocess
import sys

import polars as pl
import pytest

from pairwright.chat import assistant, prompt_id, render, supports_system, system, user
from pairwright.errors import InputError
from pairwright.goals import GoalFormat, with_goal
from pairwright.preferences import Preferences
from pairwright.train.scratch import scratch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

QUESTIONS = ("Name 12 red things,\nplease.", "Which is higher: 3 or 10?", "Sort these words: plum apple fig.")
ANSWERS = ("apple plum\ncherry 7.5", "10", "apple fig plum")
SMALL = {"vocab_size": 400, "hidden_size": 16, "heads": 2, "layers": 1, "max_length": 128}


def world():
    prompts = [[user(text)] for text in QUESTIONS]
    ids = [prompt_id(prompt) for prompt in prompts]
    return Preferences.of(
        pl.DataFrame({"prompt_id": ids, "prompt": prompts}),
        pl.DataFrame({"prompt_id": ids, "response": [[assistant(text)] for text in ANSWERS]}),
    )


@pytest.fixture(params=["bpe", "word"])
def kind(request):
    return request.param


def made(tmp_path, name="model", **settings):
    return scratch(world(), output=tmp_path / name, **(SMALL | settings))


def bytes_of(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_equal_seeds_give_equal_bytes_and_another_seed_other_weights_only(tmp_path, kind):
    one, two = made(tmp_path, "one", kind=kind), made(tmp_path, "two", kind=kind)
    other = made(tmp_path, "other", kind=kind, seed=1)
    assert bytes_of(one) == bytes_of(two)
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= bytes_of(one).keys()
    differing = {name for name, digest in bytes_of(one).items() if bytes_of(other)[name] != digest}
    assert differing == {"model.safetensors", "scratch.json"}


def test_the_bytes_do_not_depend_on_the_hash_seed_of_the_process(tmp_path):
    code = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('t', sys.argv[1]); m = u.module_from_spec(s);"
        "s.loader.exec_module(m);"
        "[m.scratch(m.world(), output=sys.argv[2] + k, kind=k, **m.SMALL) for k in ('bpe', 'word')]"
    )
    subprocess.run([sys.executable, "-c", code, __file__, str(tmp_path / "there-")], check=True, capture_output=True)
    for kind in ("bpe", "word"):
        assert bytes_of(tmp_path / f"there-{kind}") == bytes_of(made(tmp_path, f"here-{kind}", kind=kind))


def test_the_callers_random_state_is_left_alone(tmp_path):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    made(tmp_path)
    assert torch.equal(torch.rand(3), wanted)


def test_it_loads_as_any_saved_model_does(tmp_path, kind):
    folder = made(tmp_path, kind=kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert json.loads(tokenizer.backend_tokenizer.to_str())["model"] == saved["model"]
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.vocab_size == len(tokenizer) <= 400
    assert model.config.max_position_embeddings == tokenizer.model_max_length == 128
    assert tokenizer.pad_token_id != tokenizer.eos_token_id == model.config.eos_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_rendered_prompt_is_a_prefix_in_text_and_in_tokens(tmp_path, kind):
    tokenizer = transformers.AutoTokenizer.from_pretrained(made(tmp_path, kind=kind))
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        prompt, completion = render(tokenizer, [user(question)], [assistant(answer)])
        apart = tokenizer(prompt).input_ids + tokenizer(completion).input_ids
        assert apart == tokenizer(prompt + completion).input_ids
        assert apart.count(tokenizer.bos_token_id) == 1
        assert apart[0] == tokenizer.bos_token_id
        assert apart[-1] == tokenizer.eos_token_id
        assert tokenizer(completion).input_ids.count(tokenizer.eos_token_id) == 1


def test_a_conversation_of_several_turns_has_one_begin_and_an_end_after_each_turn(tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(made(tmp_path))
    turns = [system("Be brief."), user("One?"), assistant("Two."), user("Three?")]
    assert render(tokenizer, turns, [assistant("Four.")]).prompt == (
        "<|begin|><|system|>Be brief.<|end|><|user|>One?<|end|><|assistant|>Two.<|end|>"
        "<|user|>Three?<|end|><|assistant|>"
    )


def test_text_comes_back_from_tokens(tmp_path, kind):
    tokenizer = transformers.AutoTokenizer.from_pretrained(made(tmp_path, kind=kind))
    for text in (*QUESTIONS, *ANSWERS):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_bpe_takes_any_text(tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(made(tmp_path))
    text = "  zażółć 你好 🙂\t\r\nnever seen"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_goals_tokenise_digit_by_digit_and_without_unknown_words(tmp_path, kind):
    tokenizer = transformers.AutoTokenizer.from_pretrained(made(tmp_path, kind=kind))
    sentence = GoalFormat().say(8.5)
    assert tokenizer.decode(tokenizer(sentence).input_ids) == sentence
    tokens = [token.lstrip("▁Ġ") for token in tokenizer.tokenize(GoalFormat().say(10.0))]
    assert tokens[-3:] == ["1", "0", "."]
    assert all(len(token) == 1 for token in tokens if any(letter.isdigit() for letter in token))
    assert not any(token == "<|unknown|>" for token in tokens)


def test_a_word_is_the_same_token_with_and_without_a_goal_before_it(tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(made(tmp_path, kind="word"))
    plain = tokenizer(QUESTIONS[0]).input_ids
    asked = with_goal([user(QUESTIONS[0])], 8.0, GoalFormat(), "user")
    assert tokenizer(asked[0]["content"]).input_ids[-len(plain) :] == plain


def test_a_template_without_a_system_role_refuses_one_and_says_so(tmp_path):
    with_system = transformers.AutoTokenizer.from_pretrained(made(tmp_path, "with"))
    without = transformers.AutoTokenizer.from_pretrained(made(tmp_path, "without", system_role=False))
    assert supports_system(with_system)
    assert not supports_system(without)
    with pytest.raises(InputError, match="System role not supported"):
        render(without, [system("Be brief."), user("One?")], [assistant("Two.")])
    assert render(without, [user("One?")], [assistant("Two.")]) == render(
        with_system, [user("One?")], [assistant("Two.")]
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"vocab_size": 100}, "vocab_size 100 is too small"),
        ({"vocab_size": 20, "kind": "word"}, "vocab_size 20 is too small"),
        ({"hidden_size": 18}, "multiple of 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, settings, says):
    with pytest.raises(InputError, match=says):
        made(tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_something_else_at_the_output_is_left_alone(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds no model"):
        made(tmp_path)
    assert (tmp_path / "model" / "thesis.txt").read_text() == "years of work"
    assert bytes_of(made(tmp_path, "a")) == bytes_of(made(tmp_path, "a"))


def test_no_text_is_refused(tmp_path):
    empty = Preferences.of(
        pl.DataFrame(schema={"prompt_id": pl.String, "prompt": world().prompts.collect_schema()["prompt"]}),
        world().responses.collect().clear(),
    )
    with pytest.raises(InputError, match="no text"):
        scratch(empty, output=tmp_path / "model", **SMALL)
