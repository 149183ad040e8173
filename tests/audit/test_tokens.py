"""The token checks on a tokenizer made here: one token for each character, and one merge that crosses a boundary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairwright.audit import audit, tokens
from pairwright.chat import assistant, system, user
from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.preferences import Preferences, Step

transformers = pytest.importorskip("transformers", reason="the token checks need the train extra")

Made = Callable[..., Preferences]

PLAIN = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if m.role == 'assistant' %}{{ '>' + m.content + eos_token + '\n' }}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '>' }}{% endif %}"
)
WITH_BOS = "{{ bos_token }}" + PLAIN
UNSTABLE = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}{{ '???' }}{% endif %}"


def tokenizer(template: str = PLAIN, *, adds: str = "$A", **settings: Any) -> Any:
    """A fast tokenizer of characters with `>~` as one token; `adds` is what it adds by default."""
    from tokenizers import Tokenizer, models, processors

    signs = ["<s>", "</s>", "<unk>", ">~", *(chr(i) for i in range(32, 127)), "\n"]
    vocabulary = {sign: number for number, sign in enumerate(signs)}
    core = Tokenizer(models.BPE(vocabulary, [(">", "~")], unk_token="<unk>"))
    special = [(name, vocabulary[name]) for name in ("<s>", "</s>")]
    core.post_processor = processors.TemplateProcessing(single=adds, pair=None, special_tokens=special)
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **settings
    )
    made.chat_template = template
    return made


def test_silent_on_plain_pairs(made: Made) -> None:
    data = made([("ask", "good", "bad"), ("more", "x", "y")])
    for name, check in tokens_checks().items():
        found = check(data, tokenizer=tokenizer(WITH_BOS), max_length=30)
        assert (name, found.count, found.level) == (name, 0, "fine")


def tokens_checks() -> dict[str, Any]:
    from pairwright.audit.table import TOKEN_CHECKS

    return dict(TOKEN_CHECKS)


def test_a_token_across_the_boundary(made: Made) -> None:
    # The prompt ends in ">", the second answer begins with "~": together they are one token.
    data = made([("ask", "good", "bad"), ("ask", "~hm", "bad"), ("ask", "good", "~hm")])
    found = tokens.boundary_mismatch(data, tokenizer=tokenizer())
    assert (found.count, found.rows, found.level) == (2, (1, 2), "error")


def test_a_template_that_writes_another_prompt_is_a_boundary_mismatch(made: Made) -> None:
    found = tokens.boundary_mismatch(made([("ask", "good", "bad")]), tokenizer=tokenizer(UNSTABLE))
    assert found.count == 1
    assert tokens.template_refusal(made([("ask", "good", "bad")]), tokenizer=tokenizer(UNSTABLE)).count == 0


def test_template_refusal(made: Made) -> None:
    data = made(
        [("ask", "good", "bad"), ([system("s"), user("ask")], "good", "bad"), ("x", "y", [assistant("z"), system("s")])]
    )
    found = tokens.template_refusal(data, tokenizer=tokenizer())
    assert (found.count, found.rows, found.level) == (2, (1, 2), "error")


def test_two_bos_from_template_and_tokenizer(made: Made) -> None:
    data = made([("ask", "good", "bad")])
    found = tokens.double_bos(data, tokenizer=tokenizer(WITH_BOS, adds="<s> $A"))
    assert (found.count, found.level) == (1, "warning")
    assert tokens.double_bos(data, tokenizer=tokenizer(PLAIN, adds="<s> $A")).count == 0
    assert tokens.double_bos(data, tokenizer=tokenizer(WITH_BOS)).count == 0


def test_two_bos_from_the_text(made: Made) -> None:
    data = made([("<s>ask", "good", "bad"), ("ask", "good", "bad")])
    found = tokens.double_bos(data, tokenizer=tokenizer(WITH_BOS))
    assert (found.rows, found.level) == ((0,), "error")


def test_two_eos_from_the_text_and_from_the_tokenizer(made: Made) -> None:
    data = made([("ask", "good</s>", "bad"), ("ask", "good", "bad"), ("ask", "a</s> ", "bad")])
    found = tokens.double_eos(data, tokenizer=tokenizer())
    assert (found.rows, found.level) == ((0, 2), "error")  # white space between the two does not hide them
    added = tokens.double_eos(data, tokenizer=tokenizer(adds="$A </s>"))
    assert added.count == 3  # the template's line feed after its EOS does not hide the second one


def test_truncation(made: Made) -> None:
    # The prompt is 4 tokens ("ask>"); an answer of k characters is k + 2 tokens (its EOS and a line feed).
    data = made([("ask", "aaaaXY", "aaaaZ"), ("ask", "a", "b"), ("ask", "a" * 6, "b"), ("a" * 20, "x", "y")])
    model = tokenizer()
    equal = tokens.equal_after_truncation(data, tokenizer=model, max_length=8)
    assert equal.rows == (0, 3)
    lost = tokens.lost_to_truncation(data, tokenizer=model, max_length=8)
    assert (lost.rows, lost.level) == ((0, 2, 3), "error")
    assert "1 of them one that is lost whole" in lost.says
    # Cut at four tokens, the long prompt leaves room for its answers: 4 + 3 tokens.
    assert tokens.lost_to_truncation(data, tokenizer=model, max_length=8, max_prompt_length=4).rows == (0, 2)
    assert tokens.lost_to_truncation(data, tokenizer=model, max_length=12, max_prompt_length=4).count == 0


def test_equal_texts_are_not_equal_after_truncation(made: Made) -> None:
    assert tokens.equal_after_truncation(made([("p", "same", "same")]), tokenizer=tokenizer(), max_length=4).count == 0


def test_the_tokenizers_own_limit_counts_and_none_is_said(made: Made) -> None:
    data = made([("ask", "a" * 9, "b")])
    assert tokens.lost_to_truncation(data, tokenizer=tokenizer(model_max_length=8)).count == 1
    unlimited = tokens.lost_to_truncation(data, tokenizer=tokenizer())
    assert unlimited.count == 0
    assert "no max_length was given" in unlimited.says


def test_the_goal_is_in_place(made: Made) -> None:
    form = GoalFormat(template="goal {scores}", placement="auto")
    step = Step(name="relabel", settings={"goal": form.model_dump(mode="json")})
    data = made([("ask", "x", "y", 8.0, 3.0)], goal=[8.0], lineage=[step])
    # "goal Overall score: 8.", an empty line, "ask>": 22 + 2 + 4 = 28 tokens; an answer of 3 fits in 31 and not in 30.
    model = tokenizer()
    assert tokens.lost_to_truncation(data, tokenizer=model, max_length=31).count == 0
    assert tokens.lost_to_truncation(data, tokenizer=model, max_length=30).count == 1
    # This template refuses a system role, so that `auto` must have chosen the user's turn.
    assert tokens.template_refusal(data, tokenizer=model).count == 0


def test_from_a_path_through_the_audit(made: Made, tmp_path: Path) -> None:
    tokenizer(WITH_BOS).save_pretrained(tmp_path)
    result = audit(made([("ask", "~good", "bad")]), tokenizer=str(tmp_path), max_length=100)
    assert result["boundary_mismatch"].count == 1
    assert result["double_bos"].count == 0
    without = audit(made([("ask", "~good", "bad")]))
    assert "boundary_mismatch" not in {found.check for found in without.findings}


def test_no_tokenizer_there_is_one_sentence(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no directory"):
        audit(made([("ask", "good", "bad")]), tokenizer=str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="holds no tokenizer"):
        audit(made([("ask", "good", "bad")]), tokenizer=str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="cannot open the tokenizer"):
        audit(made([("ask", "good", "bad")]), tokenizer=str(tmp_path))


def test_a_tokenizer_without_a_chat_template_has_the_plain_one(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tokenizer()
    bare.chat_template = None
    bare.name_or_path = "a base model"
    found = audit(made([("ask", "good", "bad")]), tokenizer=bare)
    assert "a base model: the tokenizer has no chat template" in capsys.readouterr().err
    assert found["template_refusal"].count == found["boundary_mismatch"].count == 0
    assert bare.chat_template is None
