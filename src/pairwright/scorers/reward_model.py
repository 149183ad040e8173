"""Scores from a reward model: one number, several named heads, or a gated sum beside its parts."""

import copy
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pairwright.chat import assistant, render_whole, user
from pairwright.errors import InputError
from pairwright.logprobs.columns import answer_texts
from pairwright.logprobs.encode import Encoder
from pairwright.logprobs.models import Dtype
from pairwright.preferences import Preferences
from pairwright.scorers.classifier import Classifier, classify, code_beside, open_reading, pad_token
from pairwright.scorers.sample import Scores, lost_before

Heads = list[str] | dict[str, int]
_ROWS = 1024
"""Conversations that are encoded at a time."""


def reward_model(
    prefs: Preferences,
    *,
    model: str | Path,
    heads: Heads | None = None,
    field: str = "logits",
    heads_field: str | None = None,
    tokenizer: str | Path | None = None,
    chat_template: Path | None = None,
    dtype: Dtype = "float32",
    batch_tokens: Annotated[int, Field(gt=0)] = 8192,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    ray: bool = False,
    keep: str | Path | None = None,
) -> Scores:
    """What a reward model (`AutoModelForSequenceClassification`) says of each answer after its prompt.

    The chat template of the model's tokenizer writes prompt and answer, special tokens too, and nothing is added. What
    the model has is scored as it is: a score has the model's own scale.

    - One number: it is the `score`.
    - Several heads, such as attributes: `heads` names them, and `score_<name>` gets each; there is no overall score.
      Names that the model's configuration has (`id2label`) need not be given.
    - A gated model, whose output has an overall number in one field and its parts in another (as ArmoRM has `score` and
      `rewards`): `field` is the first, `heads_field` the second, and `heads` names the parts.

    An answer is null, and counted, that is missing (`missing_answer`, `missing_prompt`) or without a character but
    space (`empty`), whose conversation the template refuses (`template_refused`), or whose conversation has more tokens
    than `max_length` (`too_long`): nothing is cut, since a score of half a conversation is a score of something else,
    and answers to one prompt must be judged after the same prompt.

    Several processes under `accelerate launch` share the work; each gets all of it.

    Args:
        prefs: prompts and answers; goals play no part.
        model: a `save_pretrained` directory or a hub name; an adapter must be merged first.
        heads: names of the heads, in order; or a part of them by number, counted from 0: `{helpfulness: 9}`.
        field: of the model's output, with the overall number; or with the heads, where there is no `heads_field`.
        heads_field: of the model's output, with the heads beside an overall number.
        tokenizer: the model's own when not given.
        chat_template: a file with a Jinja chat template, for a tokenizer without its own or with a wrong one.
        dtype: precision of the model's weights.
        batch_tokens: tokens of a batch with its padding, at most (a longer conversation is a batch of its own).
        max_length: tokens of a conversation; None is all that the model has positions for.
        trust_remote_code: run Python code that lies beside the model; only for one that you trust.
        ray: compute on a Ray cluster; as in `logprobs`.
        keep: a directory in which finished batches are kept, for a job that is killed; as in `score`.

    Raises:
        InputError: there is no such model, a part of it has no weights, its tokenizer has no chat template or no pad
            token, the template hides messages or refuses every conversation, or the heads are not those of the model.
        PairwrightError: a worker or another process stopped.
    """
    reading = open_reading(model, tokenizer=tokenizer, max_length=max_length, trust_remote_code=trust_remote_code)
    fields = (field,) if heads_field is None else (field, heads_field)

    def named(widths: Mapping[str, int]) -> dict[str, int]:
        try:
            return _named(heads, [widths[each] for each in fields], reading.config, model)
        except InputError as error:
            raise InputError(f"{error}{code_beside(reading.config, trust_remote_code)}") from error

    if fields == ("logits",) and not trust_remote_code:  # else only the output itself says how many numbers it has
        named({field: reading.config.num_labels})
    reader = _with_template(reading.tokenizer, model, chat_template)
    read = _conversations(prefs, reader, model, reading.max_length)
    classifier = Classifier(
        model=str(model),
        fields=fields,
        dtype=dtype,
        pad=pad_token(reading, read.texts, model=model),
        trust_remote_code=trust_remote_code,
    )
    found = classify(
        read.texts,
        classifier,
        config=reading.config,
        batch_tokens=batch_tokens,
        label="reward_model",
        ray=ray,
        keep=keep,
        expect=named,
    )
    if not read.texts:
        return Scores(pl.Series([None] * read.answers, dtype=pl.Float64), read.lost, prefs)
    places = named({each: values.shape[1] for each, values in found.items()})
    columns = {name: _among_all(found[fields[-1]][:, at], read) for name, at in places.items()}
    overall = None if places and heads_field is None else _among_all(found[field][:, 0], read)
    return Scores(overall, read.lost, prefs, columns=columns)


class _Read(NamedTuple):
    """Conversations as tokens.

    Attributes:
        texts: token ids of those that can be scored, [N].
        place: which of all answers each of them is, [N].
        answers: how many answers there are.
        lost: how many cannot be scored, by reason.
    """

    texts: list[NDArray[np.int32]]
    place: list[int]
    answers: int
    lost: dict[str, int]


def _conversations(prefs: Preferences, tokenizer: Any, model: str | Path, max_length: int) -> _Read:
    """Every answer after its prompt, as the template writes them.

    Raises:
        InputError: the template refuses all of them.
    """
    encoder = Encoder(tokenizer)
    read = _Read([], [], prefs.counts().responses, {})
    refused: InputError | None = None
    rows = enumerate(answer_texts(prefs))
    while chunk := list(islice(rows, _ROWS)):
        written: dict[int, str] = {}
        lost: list[str] = []
        for at, (prompt, _, (answer,)) in chunk:
            if why := lost_before(prompt, answer):
                lost.append(why)
                continue
            try:
                written[at] = render_whole(tokenizer, [*(prompt or []), *(answer or [])])
            except InputError as error:
                refused = refused or error
                lost.append("template_refused")
        for at, ids in zip(written, encoder.many(list(written.values())), strict=True):
            if len(ids) > max_length:
                lost.append("too_long")
            else:
                read.texts.append(np.asarray(ids, dtype=np.int32))
                read.place.append(at)
        for why in lost:
            read.lost[why] = read.lost.get(why, 0) + 1
    if refused is not None and read.lost["template_refused"] == read.answers:
        raise InputError(f"{refused}; it refuses every answer, so name a file with another template by chat_template")
    return read


def _among_all(values: NDArray[np.float64], read: _Read) -> pl.Series:
    """Numbers in the places that their answers have among all; null for the others."""
    found: list[float | None] = [None] * read.answers
    for at, value in zip(read.place, values.tolist(), strict=True):
        found[at] = value
    return pl.Series(found, dtype=pl.Float64)


def _named(heads: Heads | None, widths: Sequence[int], config: Any, model: str | Path) -> dict[str, int]:
    """Which column of the last field each head is; none where the model has one number alone.

    Args:
        heads: names as they were given.
        widths: how many numbers each field has: one field, or that of the overall number and that of the heads.
        config: the model's configuration.
        model: for messages.

    Raises:
        InputError: the names are not those of so many heads, or the first of two fields has not one number.
    """
    if len(widths) == 2 and widths[0] != 1:
        raise InputError(f"the field of {model} for the overall score has {widths[0]} numbers; name one that has one")
    if widths == [1]:
        if heads is not None:
            raise InputError(f"{model} has one number and no heads to name; leave out heads (--heads)")
        return {}
    number = widths[-1]
    if heads is None:
        labels = config.id2label or {}
        heads = [str(labels.get(i, f"LABEL_{i}")) for i in range(number)]
        if len(labels) != number or any(re.fullmatch(r"LABEL_\d+", name) for name in heads):
            raise InputError(f"{model} has {number} heads without names; name them in order with heads (--heads)")
    if not isinstance(heads, dict) and len(heads) != number:
        raise InputError(
            f"{model} has {number} heads, and {len(heads)} names were given ({', '.join(heads)}); give one for each, "
            "or a name with its number, counted from 0, for those that are wanted"
        )
    places = heads if isinstance(heads, dict) else {name: i for i, name in enumerate(heads)}
    if len(places) != len(heads) or not all(places) or not places:
        raise InputError(f"heads must have names that differ, not {list(heads)}")
    if wrong := [f"{name}: {at}" for name, at in places.items() if not 0 <= at < number]:
        raise InputError(f"{model} has heads 0 to {number - 1}, and heads asks for {', '.join(wrong)}")
    return places


def _with_template(tokenizer: Any, model: str | Path, chat_template: Path | None) -> Any:
    """The tokenizer with the template that writes the conversations.

    Raises:
        InputError: it has none, there is no such file, or the template does not show what a user and an assistant say.
    """
    remedy = "name a file with the template that the model was trained with by chat_template"
    if chat_template is not None:
        if not chat_template.is_file():
            raise InputError(f"there is no file {chat_template} with a chat template")
        tokenizer = copy.copy(tokenizer)
        tokenizer.chat_template = chat_template.read_text(encoding="utf-8")
    elif not tokenizer.chat_template:
        # The plain template, which other steps put in its place, is none that the model has been trained with.
        raise InputError(
            f"the tokenizer of {model} has no chat template, and a reward model judges the text that it was trained "
            f"on; {remedy}, or set tokenizer.chat_template and save it"
        )
    asked, said = "words of the user", "words of the assistant"
    try:
        shown = render_whole(tokenizer, [user(asked), assistant(said)])
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from error
    if not 0 <= shown.find(asked) < shown.find(said):
        raise InputError(f"the chat template of {model} does not show a question and then its answer; {remedy}")
    return tokenizer
