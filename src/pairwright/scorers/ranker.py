"""Scores from a model that compares two answers: how likely each answer is to beat the others to its prompt."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pairwright.chat import Conversation, text_of
from pairwright.errors import InputError
from pairwright.logprobs.columns import answer_texts
from pairwright.logprobs.models import Dtype
from pairwright.preferences import Preferences
from pairwright.scorers.classifier import Classifier, classify, open_reading, pad_token
from pairwright.scorers.sample import Scores, lost_before

_BLANKS = ("prompt", "first", "second")
_ROWS = 1024
"""Comparisons that are encoded at a time."""


def ranker(
    prefs: Preferences,
    *,
    model: str | Path,
    template: str,
    field: str = "logits",
    tokenizer: str | Path | None = None,
    dtype: Dtype = "float32",
    batch_tokens: Annotated[int, Field(gt=0)] = 8192,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    ray: bool = False,
    keep: str | Path | None = None,
) -> Scores:
    """The mean probability that an answer beats each other answer to its prompt, by a model that compares two.

    The model reads a prompt and two answers as one text and gives one number l(i, j), the log-odds that the first
    answer, i, beats the second, j. Every two answers are read in both orders, and the log-odds are averaged:

        P(i beats j) = sigmoid((l(i, j) - l(j, i)) / 2),    score_i = mean over j other than i of P(i beats j)

    so that a constant liking for the first place cancels exactly. With K answers this is between 0 and 1, 1/2 in the
    mean of each prompt, and needs K (K - 1) readings. How often the place decided (the same place won in both orders)
    and how strong the liking for the first place is are in the lineage.

    PairRM's own head is no `AutoModelForSequenceClassification`. Such a model is reached where its repository, or a
    directory that was saved from its package, brings a class for it: with `trust_remote_code`, a `template` that writes
    its marks, and the `field` of its output with the log-odds.

    An answer is null, and counted, that is missing (`missing_answer`, `missing_prompt`) or without a character but
    space (`empty`), that is alone (`fewer_than_two_answers`), or that makes comparisons too long (`too_long`): of the
    answers to a prompt as many are left out, those of the most such comparisons first, that all others have met each
    other. Nothing is cut.

    Args:
        prefs: prompts with several answers; goals play no part.
        model: a `save_pretrained` directory or a hub name; an adapter must be merged first.
        template: what the model reads, with `{prompt}`, `{first}` and `{second}` in it, or a file with that. The
            tokenizer puts its special tokens round it. A prompt of several messages becomes `User: ...` and
            `Assistant: ...`, an empty line between them.
        field: of the model's output, with one number for each text.
        tokenizer: the model's own when not given.
        dtype: precision of the model's weights.
        batch_tokens: tokens of a batch with its padding, at most (a longer comparison is a batch of its own).
        max_length: tokens of a comparison; None is all that the model has positions for.
        trust_remote_code: run Python code that lies beside the model; only for one that you trust.
        ray: compute on a Ray cluster; as in `logprobs`.
        keep: a directory in which finished batches are kept, for a job that is killed; as in `score`.

    Raises:
        InputError: there is no such model, a part of it has no weights, its output is not one number, its tokenizer has
            no pad token, or the template lacks a blank.
        PairwrightError: a worker or another process stopped.

    Source: arXiv 2410.08067 scores answers with PairRM and does not say how; both means are ours.
    """
    form = _form(template)
    reading = open_reading(model, tokenizer=tokenizer, max_length=max_length, trust_remote_code=trust_remote_code)
    prompts, why = _answers(prefs)
    met = _meetings(prompts, form, reading.tokenizer, reading.max_length)
    why |= {"too_long": met.too_long} if met.too_long else {}
    classifier = Classifier(
        model=str(model),
        fields=(field,),
        dtype=dtype,
        pad=pad_token(reading, met.texts, model=model),
        trust_remote_code=trust_remote_code,
    )

    def one_number(widths: Mapping[str, int]) -> None:
        if widths[field] != 1:
            raise InputError(
                f"field {field!r} of {model} has {widths[field]} numbers for a text; a ranker has one, the log-odds "
                "that the first answer is better"
            )

    found = classify(
        met.texts,
        classifier,
        config=reading.config,
        batch_tokens=batch_tokens,
        label="ranker",
        ray=ray,
        keep=keep,
        expect=one_number,
    )
    values: list[float | None] = [None] * prefs.counts().responses
    if not met.texts:
        return Scores(pl.Series(values, dtype=pl.Float64), why, prefs)
    forth, back = found[field][0::2, 0], found[field][1::2, 0]
    for at, value in win_rates(met.pairs, forth, back).items():
        values[at] = value
    return Scores(pl.Series(values, dtype=pl.Float64), why, prefs, *_told(forth, back))


def win_rates(
    pairs: Sequence[tuple[int, int]], forth: NDArray[np.float64], back: NDArray[np.float64]
) -> dict[int, float]:
    """The mean probability of each answer to beat those that it has met.

    Args:
        pairs: the two answers of each comparison, [N].
        forth: log-odds that the first of the two beats the second, read in this order, [N].
        back: log-odds that the second beats the first, read in the other order, [N].
    """
    wins = 0.5 * (1.0 + np.tanh((forth - back) / 4))  # sigmoid(x) = (1 + tanh(x / 2)) / 2, without overflow
    rates: dict[int, list[float]] = {}
    for (first, second), win in zip(pairs, wins.tolist(), strict=True):
        rates.setdefault(first, []).append(win)
        rates.setdefault(second, []).append(1.0 - win)
    return {at: math.fsum(each) / len(each) for at, each in rates.items()}


class _Meetings(NamedTuple):
    """All comparisons, prompt by prompt.

    Attributes:
        pairs: which two of all answers meet, [N].
        texts: token ids of each comparison in the one order and then in the other, [2 N].
        too_long: how many answers are left out for it.
    """

    pairs: list[tuple[int, int]]
    texts: list[NDArray[np.int32]]
    too_long: int


Asked = tuple[str, dict[int, str]]
"""A prompt, and the answers to it by their place among all."""


def _answers(prefs: Preferences) -> tuple[list[Asked], dict[str, int]]:
    """Every prompt with those of its answers that can be compared, and how many answers cannot, by reason."""
    ids = prefs.responses.select("prompt_id").collect()["prompt_id"].to_list()
    why: dict[str, int] = {}
    asked: dict[str, Asked] = {}
    for at, (prompt, _, (answer,)) in enumerate(answer_texts(prefs)):
        if lost := lost_before(prompt, answer):
            why[lost] = why.get(lost, 0) + 1
        else:
            asked.setdefault(ids[at], (_told_as_text(prompt or []), {}))[1][at] = text_of(answer or [])
    several = [each for each in asked.values() if len(each[1]) > 1]
    if len(several) < len(asked):
        why["fewer_than_two_answers"] = len(asked) - len(several)
    return several, why


def _meetings(prompts: Sequence[Asked], form: Sequence[str], tokenizer: Any, max_length: int) -> _Meetings:
    """Every two answers to a prompt in both orders, as tokens, but for answers that are too long for it."""
    met, too_long = _Meetings([], [], 0), 0
    for prompt, answers in prompts:
        pairs = list(combinations(answers, 2))
        orders = [order for a, b in pairs for order in ((a, b), (b, a))]
        texts: list[NDArray[np.int32]] = []
        for start in range(0, len(orders), _ROWS):
            written = [_written(form, prompt, answers[a], answers[b]) for a, b in orders[start : start + _ROWS]]
            texts += [np.asarray(ids, dtype=np.int32) for ids in tokenizer(written, verbose=False)["input_ids"]]
        long = [i for i, (forth, back) in enumerate(_by_two(texts)) if max(len(forth), len(back)) > max_length]
        out = _left_out([pairs[i] for i in long], {at: len(text) for at, text in answers.items()})
        if len(out) == len(answers) - 1:  # nobody is left for the last one to meet
            out = set(answers)
        too_long += len(out)
        for pair, both in zip(pairs, _by_two(texts), strict=True):
            if out.isdisjoint(pair):
                met.pairs.append(pair)
                met.texts.extend(both)
    return met._replace(too_long=too_long)


def _left_out(long: Sequence[tuple[int, int]], sizes: Mapping[int, int]) -> set[int]:
    """Answers without which no comparison is too long: those of the most such comparisons first, then the longest."""
    out: set[int] = set()
    while left := [pair for pair in long if out.isdisjoint(pair)]:
        number = {at: sum(at in pair for pair in left) for pair in left for at in pair}
        out.add(max(number, key=lambda at: (number[at], sizes[at], -at)))
    return out


def _by_two(texts: Sequence[NDArray[np.int32]]) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    return list(zip(texts[0::2], texts[1::2], strict=True))


def _form(template: str) -> list[str]:
    """A template in pieces, every second one the name of a blank.

    Raises:
        InputError: it is a file that is not there, or a blank is missing.
    """
    text = template
    if "{" not in template:
        if not Path(template).is_file():
            raise InputError(f"ranker: template {template!r} has no {{prompt}}, {{first}}, {{second}}, and is no file")
        text = Path(template).read_text(encoding="utf-8")
    pieces = re.split("{(" + "|".join(_BLANKS) + ")}", text)
    if missing := [name for name in _BLANKS if name not in pieces[1::2]]:
        raise InputError(
            f"ranker: the template has no {{{missing[0]}}}; it must have {{prompt}}, {{first}}, {{second}}"
        )
    return pieces


def _written(form: Sequence[str], prompt: str, first: str, second: str) -> str:
    said = {"prompt": prompt, "first": first, "second": second}
    return "".join(said[piece] if i % 2 else piece for i, piece in enumerate(form))


def _told_as_text(prompt: Conversation) -> str:
    """A prompt as text: its one message, or several with who said them."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in prompt)


def _told(forth: NDArray[np.float64], back: NDArray[np.float64]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the places of the answers did, for the lineage."""
    sound = np.isfinite(forth) & np.isfinite(back)
    same_place = int((np.sign(forth[sound]) * np.sign(back[sound]) > 0).sum())
    number = int(sound.sum())
    if not number:
        return {}, ()
    liking = float((forth[sound] + back[sound]).mean() / 2)
    found = {
        "comparisons": len(forth),
        "position_flips": same_place,
        "position_flip_rate": same_place / number,
        "liking_for_first": liking,
    }
    note = (
        f"The place decided {same_place:,} of {number:,} comparisons ({same_place / number:.1%}): the same one won "
        f"in both orders. The liking for the first place is {liking:.3g} in log-odds; the scores are without it."
    )
    return found, (note,)
