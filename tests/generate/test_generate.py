import json
from collections import Counter

import polars as pl
import pytest

from pairwright.chat import assistant, prompt_id, render_prompt, system, user
from pairwright.errors import InputError
from pairwright.generate import ENGINES, generate
from pairwright.generate.request import Drawn, seed_of
from pairwright.goals import GoalFormat
from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.train.scratch import scratch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

QUESTIONS = ("Name three red things.", "Sort: plum apple fig", "Which is higher, 3 or 10?", "Red?", "One more time")
FORM = GoalFormat(placement="user")


def world(questions=QUESTIONS, extras=None):
    prompts = [[user(text)] for text in questions]
    ids = [prompt_id(prompt) for prompt in prompts]
    answers = [[assistant(f"{text.split()[0]} apple {i}")] for i in (0, 1) for text in questions]
    return Preferences.of(
        pl.DataFrame({"prompt_id": ids, "prompt": prompts} | (extras or {})),
        pl.DataFrame({"prompt_id": ids * 2, "response": answers, "score": [8.0] * len(ids) + [3.5] * len(ids)}),
        pl.DataFrame(
            {
                "prompt_id": ids,
                "chosen_id": list(range(len(ids))),
                "rejected_id": list(range(len(ids), 2 * len(ids))),
            }
        ),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A word-level model whose layers outweigh its tied embeddings: it does not just repeat the last token."""
    folder = scratch(
        world(),
        output=tmp_path_factory.mktemp("models") / "tiny",
        kind="word",
        hidden_size=32,
        heads=2,
        layers=2,
        max_length=160,
    )
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for weights in network.model.layers.parameters():
            weights.mul_(12.0 if weights.ndim == 2 else 1.0)
        network.model.embed_tokens.weight.mul_(4.0)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def asked_model(model, tmp_path_factory):
    """The same weights, with the file that a model trained with goals has."""
    folder = tmp_path_factory.mktemp("trained") / "04-train" / "model"
    folder.mkdir(parents=True)
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "generation_goal.json").write_text(FORM.model_dump_json())
    return folder


@pytest.fixture
def spy(monkeypatch):
    """An engine that keeps what it is asked and answers from a list."""
    seen, texts = [], []

    def engine(
        requests, *, model, temperature, top_p, max_new_tokens, max_prompt_length=None, batch_size=1, dtype="float32"
    ):
        seen.extend(requests)
        return [Drawn(texts[i % len(texts)] if texts else "yes", "eos") for i in range(len(requests))]

    monkeypatch.setitem(ENGINES, "spy", engine)
    return seen, texts


def texts_of(prefs):
    column = pl.col("response").list.first().struct.field("content")
    return prefs.responses.select(column).collect().to_series().to_list()


def notes_of(prefs):
    return " ".join(prefs.lineage[-1].notes)


def by_hand(folder, conversation, steps):
    """Greedy decoding as one would write it first: no cache, no padding, no batch."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(render_prompt(tokenizer, conversation)).input_ids
    new = []
    for _ in range(steps):
        with torch.no_grad():
            token = int(network(torch.tensor([ids + new])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            return tokenizer.decode(new, skip_special_tokens=True), "eos"
        new.append(token)
    return tokenizer.decode(new, skip_special_tokens=True), "length"


def test_greedy_answers_equal_a_plain_loop_whatever_the_padding(model):
    wanted = [by_hand(model, [user(text)], 12) for text in QUESTIONS]
    assert len({text for text, _ in wanted}) > 1
    for batch_size in (1, 5):
        made = generate(model, world(), temperature=0, max_new_tokens=12, batch_size=batch_size)
        stopped = made.responses.collect()["stopped"].to_list()
        assert list(zip(texts_of(made), stopped, strict=True)) == wanted


def test_samples_do_not_depend_on_the_company_that_a_prompt_keeps(model):
    settings = {"n": 3, "max_new_tokens": 12, "seed": 5}
    whole = generate(model, world(), **settings)
    assert texts_of(generate(model, world(), batch_size=2, **settings)) == texts_of(whole)
    one = generate(model, world(QUESTIONS[2:3]), **settings)
    assert texts_of(one) == texts_of(whole)[6:9]


def test_equal_seeds_give_equal_answers_and_other_seeds_others(model):
    first = generate(model, world(), n=2, max_new_tokens=12, seed=1)
    assert first == generate(model, world(), n=2, max_new_tokens=12, seed=1)
    assert texts_of(first) != texts_of(generate(model, world(), n=2, max_new_tokens=12, seed=2))
    torch.manual_seed(3)
    assert first == generate(model, world(), n=2, max_new_tokens=12, seed=1)


def test_an_answer_stops_at_the_end_token_and_says_so(model):
    short = generate(model, world(), n=8, max_new_tokens=30).responses.collect()
    long = generate(model, world(), n=8, max_new_tokens=60).responses.collect()
    assert set(short["stopped"]) == {"eos", "length"}
    for before, after in zip(short.iter_rows(named=True), long.iter_rows(named=True), strict=True):
        first, more = before["response"][0]["content"], after["response"][0]["content"]
        assert "<|" not in first + more
        if before["stopped"] == "eos":
            assert more == first
        else:
            assert more.startswith(first)
            assert len(more) > len(first)


def test_end_tokens_that_only_the_model_lists_end_an_answer_too(model, tmp_path):
    network = transformers.AutoModelForCausalLM.from_pretrained(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    greedy = [tokenizer(text).input_ids for text in texts_of(generate(model, world(), temperature=0, max_new_tokens=6))]
    which, ids = next((i, ids) for i, ids in enumerate(greedy) if len(set(ids)) > 1)
    at = next(at for at, token in enumerate(ids) if token != ids[0])
    network.generation_config.eos_token_id = [tokenizer.eos_token_id, ids[at]]
    network.generation_config.repetition_penalty = 50.0  # the model's own wishes must not reach us
    network.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    made = generate(tmp_path / "other", world(), temperature=0, max_new_tokens=6)
    assert texts_of(made)[which] == tokenizer.decode(ids[:at])
    assert made.responses.collect()["stopped"][which] == "eos"


@pytest.mark.parametrize("placement", ["user", "system"])
def test_the_goal_reads_as_in_training(asked_model, spy, placement):
    seen, _ = spy
    trained = relabel(world(), "ra", placement=placement)
    form = trained.goal_format
    generate(asked_model, world(), goal=[8.0, 3.5], goal_format=form, engine="spy")
    shown = [[dict(message) for message in request.prompt] for request in seen]
    assert shown == [row["prompt"] for row in trained.rows()]
    assert all(request.keep == form.say(goal) for request, goal in zip(seen, [8.0, 3.5] * 5, strict=True))


def test_the_rows_say_what_was_asked(asked_model, spy):
    made = generate(asked_model, world(), n=2, goal=[None, 5], engine="spy", name=None)
    rows = made.responses.collect()
    assert rows.columns == ["response_id", "prompt_id", "response", "model", "score", "goal", "sample", "stopped"]
    assert rows["response_id"].to_list() == list(range(20))
    assert rows["prompt_id"].to_list()[::4] == world().prompts.collect()["prompt_id"].to_list()
    assert rows["goal"].to_list()[:4] == [None, None, 5.0, 5.0]
    assert rows["sample"].to_list()[:4] == [0, 1, 0, 1]
    assert rows["model"].unique().to_list() == ["04-train"]
    assert rows["score"].null_count() == 20
    assert made.counts() == (5, 20, 0)
    assert made.goal_format is None


def test_prompts_without_a_goal_are_left_as_they_are(asked_model, spy):
    seen, _ = spy
    made = generate(asked_model, world(), goal=[None, 5], engine="spy")
    assert seen[0].prompt == [user(QUESTIONS[0])]
    assert seen[0].keep == ""
    assert "none was asked" not in notes_of(made)
    assert "none was asked" in notes_of(generate(asked_model, world(), engine="spy"))


def test_the_same_numbers_are_drawn_under_every_goal_and_never_for_two_answers(asked_model, spy):
    seen, _ = spy
    generate(asked_model, world(), n=2, goal=[1, 10], engine="spy")
    seeds = [request.seed for request in seen]
    assert seeds[0:2] == seeds[2:4]
    assert len(set(seeds)) == 10
    assert seed_of(0, "a", 11) != seed_of(0, "a1", 1)


def test_a_goal_outside_the_range_is_asked_and_noted(asked_model, spy):
    seen, _ = spy
    made = generate(asked_model, world(), goal=[10, 12], engine="spy")
    assert seen[1].keep == FORM.say(12)
    assert notes_of(made).count("lies outside the scores of training (1 to 10)") == 1
    assert "The goal 12 " in notes_of(made)


def test_a_goal_needs_to_be_known_to_the_model(model, asked_model, spy, tmp_path):
    with pytest.raises(InputError, match=r"has no generation_goal\.json.*goal_format"):
        generate(model, world(), goal=10, engine="spy")
    generate(model, world(), goal=10, goal_format=FORM, engine="spy")
    path = tmp_path / "said.json"
    path.write_text(FORM.model_dump_json())
    generate(model, world(), goal=10, goal_format=path, engine="spy")
    made = generate(model, relabel(world(), "ra", placement="user"), goal=10, engine="spy")
    assert "said as in the data of the prompts" in notes_of(made)
    path.write_text("{}!")
    with pytest.raises(InputError, match="not how a goal is said"):
        generate(model, world(), goal=10, goal_format=path, engine="spy")


def test_a_template_without_a_system_role_is_not_given_one(tmp_path, spy):
    seen, _ = spy
    settings = {"hidden_size": 16, "heads": 2, "layers": 1, "vocab_size": 300}
    folder = scratch(world(), output=tmp_path / "m", system_role=False, **settings)
    auto, fixed = GoalFormat(placement="auto"), GoalFormat(placement="system")
    generate(folder, world(), goal=7, goal_format=auto, engine="spy")
    assert seen[0].prompt == [user(auto.say(7) + "\n\n" + QUESTIONS[0])]
    with pytest.raises(InputError, match="placement 'user'"):
        generate(folder, world(), goal=7, goal_format=fixed, engine="spy")
    seen.clear()
    folder = scratch(world(), output=tmp_path / "m", **settings)
    generate(folder, world(), goal=7, goal_format=auto, engine="spy")
    assert seen[0].prompt == [system(auto.say(7)), user(QUESTIONS[0])]


def test_a_vector_is_one_goal(model, spy):
    seen, _ = spy
    form = GoalFormat(placement="user", attributes=("helpfulness", "honesty"), ranges=((1, 5), (1, 5)))
    made = generate(model, world(), goal=[5, 4], goal_format=form, engine="spy")
    assert made.responses.collect()["goal"].to_list() == [[5.0, 4.0]] * 5
    assert seen[0].prompt[0]["content"].startswith(form.say([5, 4]))
    made = generate(model, world(), goal=[[5, 4], [1, 1]], goal_format=form, engine="spy")
    assert made.responses.collect()["goal"].to_list()[:2] == [[5.0, 4.0], [1.0, 1.0]]
    with pytest.raises(InputError, match="one number for each of helpfulness, honesty"):
        generate(model, world(), goal=7, goal_format=form, engine="spy")


def test_empty_repeated_and_cut_answers_are_counted(asked_model, spy):
    _, texts = spy
    texts.extend(["yes", "yes", "no", " ", "yes", "yes"])
    made = generate(asked_model, world(QUESTIONS[:2]), n=3, engine="spy")
    assert Counter(texts_of(made)) == {"yes": 4, "no": 1, " ": 1}
    assert "1 of 6 answers are empty." in notes_of(made)
    assert "2 of 6 answers repeat an earlier sample" in notes_of(made)
    made = generate(asked_model, world(QUESTIONS[:1]), goal=[3, 8], engine="spy")
    assert "repeat" not in notes_of(made)


def test_a_split_and_a_limit_choose_the_prompts_with_their_columns(asked_model, spy):
    sides = ["test", "train", "test", "test", "train"]
    prefs = world(extras={"split": sides, "reference": list("abcde")})
    made = generate(asked_model, prefs, split="test", limit=2, engine="spy")
    assert made.prompts.collect()["reference"].to_list() == ["a", "c"]
    pairs_only = world().then(world_step(), pairs=world().pairs.with_columns(split=pl.Series(sides)))
    made = generate(asked_model, pairs_only, split="train", engine="spy")
    assert made.prompts.collect()["prompt"].to_list() == [[user(QUESTIONS[1])], [user(QUESTIONS[4])]]
    with pytest.raises(InputError, match="no prompts in split 'dev'"):
        generate(asked_model, prefs, split="dev", engine="spy")


def world_step():
    from pairwright.preferences import Step

    return Step(name="by hand")


def test_a_long_prompt_is_cut_in_the_users_text_and_not_in_the_goal(asked_model, monkeypatch):
    from pairwright.generate import hf as engine

    heads = []
    original = engine.tokenise_many

    def watch(*texts, **settings):
        for row in original(*texts, **settings):
            heads.append(row[0])
            yield row

    monkeypatch.setattr(engine, "tokenise_many", watch)
    long = world((" ".join(["apple"] * 400),))
    made = generate(asked_model, long, goal=8, max_new_tokens=10)
    assert made.counts().responses == 1
    assert len(heads[0].ids) <= 150
    assert heads[0].cut > 0
    assert heads[0].messages[0]["content"].startswith(FORM.say(8))
    none = generate(asked_model, long, goal=8, max_new_tokens=10, max_prompt_length=20)
    assert none.counts().responses == 0
    assert none.dropped == {"lost_to_truncation": 1}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n": 2, "temperature": 0}, "same answer 2 times"),
        ({"engine": "vlm"}, "there is no engine 'vlm'; did you mean 'vllm'"),
        ({"engine": "spy", "stop": "x"}, "has no setting 'stop'"),
        ({"beam_width": 2}, "engine 'hf' has no setting 'beam_width'"),
        ({"max_new_tokens": 160}, "no room for a prompt in the 160 positions"),
        ({"max_new_tokens": 100, "max_prompt_length": 61}, "together more than the 160"),
        ({"goal": []}, "list of goals is empty"),
        ({"goal": float("nan")}, "does not fit"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(asked_model, settings, says, spy):
    with pytest.raises(InputError, match=says):
        generate(asked_model, world(), **settings)


def test_nothing_of_the_callers_changes(asked_model):
    prefs = world()
    before, lineage = prefs.digest(), prefs.lineage
    made = generate(asked_model, prefs, goal=8, max_new_tokens=4)
    assert prefs.digest() == before
    assert prefs.lineage == lineage
    assert made.lineage[-1].inputs == {"prompts": before}
    json.dumps(made.lineage[-1].model_dump(mode="json"))


CLASSES = GoalFormat(
    placement="user",
    attributes=("class",),
    ranges=((1, 3),),
    scale=3,
    decimals=0,
    asks="class",
    template="Class {class}",
)


@pytest.mark.parametrize("goal", [2, [2], [[2]]])
def test_of_one_attribute_a_number_is_a_goal(goal, model, spy):
    made = generate(model, world(QUESTIONS[:1]), goal=goal, goal_format=CLASSES, engine="spy")
    assert made.responses.collect()["goal"].to_list() == [[2.0]]
    assert spy[0][0].prompt[0]["content"].startswith("Class 2\n\n")


def test_of_one_attribute_several_numbers_are_several_goals(model, spy):
    made = generate(model, world(QUESTIONS[:1]), goal=[3, None, 1], goal_format=CLASSES, engine="spy")
    assert made.responses.collect()["goal"].to_list() == [[3.0], None, [1.0]]
    scalar = generate(model, world(QUESTIONS[:1]), goal=[[8], [3]], goal_format=FORM, engine="spy")
    assert scalar.responses.collect()["goal"].to_list() == [8.0, 3.0]


def test_a_direction_outside_those_of_training_is_noted(model, spy):
    wide = ((-1, 1), (-1, 1))
    settings = {"scale": 100, "lowest": -100, "decimals": 0, "asks": "direction", "angles": (-45, 45)}
    form = GoalFormat(placement="user", attributes=("a", "b"), ranges=wide, **settings)
    made = generate(model, world(QUESTIONS[:1]), goal=[[4, 4], [0, 2]], goal_format=form, engine="spy")
    assert made.responses.collect()["goal"].to_list() == [[pytest.approx(0.5**0.5)] * 2, [0.0, 1.0]]
    assert notes_of(made).count("lies outside the directions of training (-45 to 45 degrees)") == 1


def test_the_hub_is_looked_at_for_a_goal_alone_and_by_no_engine_but_those_that_open_models(spy, monkeypatch):
    from transformers import utils

    seen = []
    monkeypatch.setattr(utils, "cached_file", lambda *names, **_: seen.append(names[0]))
    generate("org/model", world(), engine="spy")
    with pytest.raises(InputError, match="has no generation_goal"):
        generate("org/model", world(), engine="spy", goal=8)
    generate("org/model", world(), engine="spy", goal=8, goal_format=FORM)
    assert seen == []
    monkeypatch.setitem(ENGINES, "hf", ENGINES["spy"])
    generate("org/model", world())
    generate("org/model", world(), goal=8, goal_format=FORM)
    assert seen == []
    with pytest.raises(InputError, match="has no generation_goal"):
        generate("org/model", world(), goal=8)
    assert seen == ["org/model"]
    with pytest.raises(InputError, match="nothing shows here whether the model 'org/model' of this engine"):
        generate("org/model", world(), engine="spy", goal=8, goal_format=GoalFormat(placement="auto"))


def test_the_side_of_a_split_goes_with_the_prompts(asked_model, spy):
    sides = ["test", "train", "test", "test", "train"]
    in_pairs = world().then(world_step(), pairs=world().pairs.with_columns(split=pl.Series(sides)))
    assert generate(asked_model, in_pairs, engine="spy").prompts.collect()["split"].to_list() == sides
    made = generate(asked_model, in_pairs, split="test", engine="spy")
    assert made.prompts.collect()["split"].to_list() == ["test"] * 3
    assert "split" not in generate(asked_model, world(), engine="spy").prompts.collect_schema()
    # Null in the column is `train`, as everywhere.
    some = world(extras={"split": ["test", None, None, "test", "train"]})
    made = generate(asked_model, some, split="train", engine="spy")
    assert [prompt[0]["content"] for prompt in made.prompts.collect()["prompt"].to_list()] == [
        QUESTIONS[1],
        QUESTIONS[2],
        QUESTIONS[4],
    ]
