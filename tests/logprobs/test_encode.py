"""Encoding in batches and from the last border on gives the tokens that encoding one by one gives."""

import random
from typing import Any

import pytest

import readers
import tiny
from pairwright.chat import Conversation, assistant, render, render_prompt, system, user
from pairwright.errors import InputError
from pairwright.logprobs import Limits, PromptTokens, Texts, Tokens, tokenise, tokenise_many, tokenise_prompt
from pairwright.logprobs.encode import Encoder

WIDE = Limits(4000, 3000)
PIECES = [
    *("one", " two", "three\n", "\n\n", "  ", "\t", " ", "Red", "red words", "done", "x", "12", "!", "…", "ﬁ", "①"),
    *(
        "Café",
        "e\u0301",
        "İ",
        "ß",
        "ς",
        "漢字",
        "العربية",
        "👩\u200d👩\u200d👧",
        "\u200b",
        "\ufeff",
        "\u00a0",
        "\x00",
        "\r\n",
    ),
    *(
        "<s>",
        "</s>",
        " </s>",
        "<unk>",
        "<pad>",
        " <pad> ",
        "<|im_start|>",
        "<|im_end|>",
        "<|im",
        "_start|>",
        "x<|im_end|>",
    ),
    *("<|im_start|>user", "assistant\n", "▁", "<", "[INST]", "[/INST]", "User:", "Assistant:"),
]


@pytest.fixture(scope="module", params=readers.MADE)
def reader(request: pytest.FixtureRequest) -> Any:
    return readers.MADE[request.param]()


def some_rows(seed: int, count: int, longest: int = 12) -> list[Texts]:
    """Prompts of one to three messages with two answers, of odd pieces; prompts and answers come back at times."""
    draw = random.Random(seed)

    def text() -> str:
        return "".join(draw.choices(PIECES, k=draw.randint(1, longest)))

    # An x before the template's token: in one of the tokenizers another added token swallows half of it.
    rows = [Texts([user("a"), assistant("b"), user("x")], "", [[assistant("one")], [assistant("two")]])]
    for _ in range(count - 1):
        prompt = [user(text())]
        if draw.random() < 0.3:
            prompt = [user(text()), assistant(text()), *prompt]
        if draw.random() < 0.3:
            prompt = list(draw.choice(rows).prompt or [])
        answers = [[assistant(text())], [assistant(text())]]
        if draw.random() < 0.5:
            answers[0] = list(draw.choice(rows).answers[0] or [])
        rows.append(Texts(prompt, "", answers))
    return rows


def one_by_one(reader: Any, prompt: Conversation, answer: Conversation) -> tuple[list[int], list[int], bool]:
    """The tokens as the rules say them, each text encoded by itself and whole: prompt, completion, rejoined."""

    def ids_of(text: str) -> list[int]:
        found: list[int] = reader(text, add_special_tokens=False)["input_ids"]
        return found

    text, completion = render(reader, prompt, answer)
    head, whole = ids_of(text), ids_of(text + completion)
    rejoined = whole[: len(head)] != head
    ids = ids_of(completion) if rejoined else whole[len(head) :]
    # The completion ends with its last EOS if nothing that can be seen follows, and with one in any case.
    ends = [at for at, token in enumerate(ids) if token == reader.eos_token_id]
    if ends and not reader.decode(ids[ends[-1] + 1 :]).strip():
        ids = ids[: ends[-1]]
        while ids[-1:] == [reader.eos_token_id]:
            ids = ids[:-1]
    return head, [*ids, reader.eos_token_id], rejoined


def test_batches_from_the_border_on_equal_whole_texts_one_by_one(reader: Any) -> None:
    rows = some_rows(1, 300)  # more than one chunk
    found = list(tokenise_many(reader, rows, limits=WIDE))
    assert len(found) == len(rows)
    for row, (head, answers) in zip(rows, found, strict=True):
        for answer, tokens in zip(row.answers, answers, strict=True):
            if tokens.lost == "empty":
                continue
            expected = one_by_one(reader, row.prompt or [], answer or [])
            assert (tokens.prompt_ids, tokens.completion_ids, tokens.rejoined) == expected
            assert head.ids == expected[0]


def test_prompts_that_are_cut_are_the_tokens_of_their_cut_text(reader: Any) -> None:
    rows = some_rows(2, 40, longest=60)
    limits = Limits(400, 60)
    cut = 0
    for row, (head, answers) in zip(rows, tokenise_many(reader, rows, limits=limits), strict=True):
        assert head.ids == reader(render_prompt(reader, head.messages), add_special_tokens=False)["input_ids"]
        assert head == tokenise_prompt(reader, row.prompt, limits=limits)
        cut += head.cut > 0
        for answer, tokens in zip(row.answers, answers, strict=True):
            assert tokens == tokenise(reader, row.prompt, answer, limits=limits)
            if tokens.lost is None:
                assert (tokens.prompt_ids, tokens.completion_ids, tokens.rejoined) == one_by_one(
                    reader, head.messages, answer or []
                )
    assert cut > 10


def test_every_reason_to_lose_an_answer_among_others(reader: Any) -> None:
    good = [assistant("one two")]
    rows = [
        Texts([user("count")], "", [good, None, [assistant(" \n")], [assistant("a"), user("b"), assistant("c")]]),
        Texts(None, "", [good, None]),
        Texts([{"role": "user", "content": None}], "", [good]),  # type: ignore[typeddict-item]
        Texts([user("count")], "", []),
        Texts([user("count")], "", [[assistant("one " * 4000)], good]),
        Texts([assistant("long " * 4000), user("count")], "", [good]),
    ]
    lost = [[each.lost for each in answers] for _, answers in tokenise_many(reader, rows, limits=WIDE)]
    assert lost == [
        [None, "missing_answer", "empty", "several_turns"],
        ["missing_prompt", "missing_answer"],
        ["missing_prompt"],
        [],
        ["lost_to_truncation", None],
        ["lost_to_truncation"],
    ]


def test_rows_are_read_in_chunks() -> None:
    taken = 0

    def rows() -> Any:
        nonlocal taken
        for row in some_rows(3, 2) * 1000:
            taken += 1
            yield row

    next(tokenise_many(tiny.tokenizer(), rows(), limits=WIDE))
    assert taken == 256


def test_an_answer_is_encoded_once_for_all_prompts_that_a_border_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = Encoder.many

    def count(self: Encoder, texts: Any) -> Any:
        sizes.extend(map(len, dict.fromkeys(texts)))
        return original(self, texts)

    monkeypatch.setattr(Encoder, "many", count)
    answer = "word " * 200
    rows = [Texts([system(f"goal {i}"), user("ask")], "", [[assistant(answer)]]) for i in range(50)]
    tokens: list[tuple[PromptTokens, list[Tokens]]] = list(tokenise_many(tiny.tokenizer(), rows, limits=WIDE))
    assert sum(size > len(answer) for size in sizes) == 1
    assert len({tuple(each.completion_ids) for _, (each,) in tokens}) == 1


@pytest.mark.parametrize(
    ("name", "border"),
    [
        ("byte-level, header after the border", "<|im_start|>"),
        ("byte-level, border at the end", "</s>"),
        ("byte-level, no border", None),
        ("byte-level, tokens that overlap", "<s>"),
        ("sentence piece", "<s>"),
        ("Python", None),
    ],
)
def test_where_a_text_may_be_taken_apart(name: str, border: str | None) -> None:
    reader = readers.MADE[name]()
    text = render_prompt(reader, [user("count <s> <|im_start|>")] if "overlap" in name else [user("count")])
    ids = reader(text, add_special_tokens=False)["input_ids"]
    at, left = Encoder(reader).tail(text, ids)
    assert text[at:].startswith(border or text[:1])
    assert (at == 0) == (border is None or name == "sentence piece")
    assert ids[len(ids) - left :] == reader(text[at:], add_special_tokens=False)["input_ids"]


def test_nothing_is_taken_apart_where_the_argument_does_not_hold() -> None:
    import tokenizers as t

    class Own:
        def pre_tokenize(self, text: Any) -> None: ...

    python = readers.byte_level()
    python.backend_tokenizer.pre_tokenizer = t.pre_tokenizers.PreTokenizer.custom(Own())
    split = readers.byte_level()
    split.split_special_tokens = True
    for reader in (python, split, readers.byte_level(dropout=0.5)):
        assert Encoder(reader).tail("<|im_start|>", [3]) == (0, 1)


def test_truncation_and_padding_that_a_caller_left_on_do_not_last() -> None:
    reader = tiny.tokenizer()
    encoder = Encoder(reader)
    before = encoder.many(["one two three", "four"])
    reader(["one two three", "four"], truncation=True, max_length=1, padding="max_length")
    assert encoder.many(["one two three", "four"]) == before
    assert min(map(len, before)) > 1


def test_a_template_that_refuses_is_one_sentence_from_a_batch_too() -> None:
    rows = [Texts([user("one")], "", []), Texts([system("no"), user("one")], "", [])]
    with pytest.raises(InputError, match="refuses a conversation of roles"):
        list(tokenise_many(tiny.tokenizer(tiny.WITHOUT_SYSTEM), rows, limits=WIDE))
