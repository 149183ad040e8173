"""One answer in a row and what a judge said of it: AlpacaEval outputs, MT-bench judgments, rubric ratings."""

from pairwright.chat import Message, assistant, user
from pairwright.formats.mapping import mapped
from pairwright.formats.record import (
    Answer,
    Columns,
    Format,
    Record,
    Row,
    Unreadable,
    number,
    optional_text,
    rest,
    text,
)
from pairwright.formats.sides import prompt_of, response_of


def _mt_bench_record(row: Row) -> Record:
    """FastChat's single-answer judgment: of turn 2, the prompt holds the first question and its answer."""
    questions, answers, turn = row.get("questions"), row.get("answers"), row.get("turn")
    if not (isinstance(questions, list) and isinstance(answers, list) and turn in (1, 2)):
        raise Unreadable("missing_column", "'questions', 'answers' and 'turn' do not name an answer")
    if len(questions) < turn or len(answers) < turn or not all(isinstance(t, str) for t in [*questions, *answers]):
        raise Unreadable("not_text", "'questions' or 'answers' lack the text of the turn")
    prompt: list[Message] = [user(questions[0])]
    if turn == 2:
        prompt += [assistant(answers[0]), user(questions[1])]
    notes: list[str] = []
    score = number(row.get("score"), notes)
    extras = rest(row, "questions", "answers", "score", "model")
    answer = Answer([assistant(answers[turn - 1])], optional_text(row.get("model")), score, extras=extras)
    return Record(prompt, (answer,), notes=notes)


def _ratings_record(row: Row) -> Record:
    """Several ratings of one answer by one judge: score is their mean, each is score_gpt4_<n>."""
    notes: list[str] = []
    ratings = row.get("gpt4_scores")
    if not isinstance(ratings, list) or not ratings:
        raise Unreadable("bad_label", "'gpt4_scores' is no list of ratings")
    values = [number(rating, notes) for rating in ratings]
    known = [value for value in values if value is not None]
    answer = Answer(
        response_of(row.get("response"), notes, "response"),
        optional_text(row.get("model")),
        sum(known) / len(known) if known else None,
        {f"gpt4_{i}": value for i, value in enumerate(values, start=1)},
        rest(row, "prompt", "response", "model", "gpt4_scores"),
    )
    return Record(prompt_of(text(row, "prompt"), notes), (answer,), notes=notes)


ALPACA_OUTPUTS = Format(
    name="alpaca_eval_outputs",
    says="one judged output in a row: instruction, output, preference (probability to beat the baseline), model",
    source="tatsu-lab/alpaca_eval, flattened annotations",
    columns=("instruction", "output", "preference"),
    rows=mapped(Columns(prompt="instruction", response="output", score="preference", model="model")),
    notes=("score is the judge's probability that the answer beats the baseline (0-1)",),
)
MT_BENCH = Format(
    name="mt_bench_single",
    says="FastChat single-answer judgments: questions, answers, turn, score (-1: the judge could not be read)",
    source="lm-sys/FastChat, llm_judge",
    columns=("questions", "answers", "turn", "score"),
    rows=_mt_bench_record,
    notes=("score is the judge's rating (1-10); -1 is the source's word for unread and is kept for the audit to find",),
)
RATINGS = Format(
    name="prometheus_ratings",
    says="prompt, response, gpt4_scores (several ratings of one answer), criterion",
    source="prometheus-eval, eval/benchmark/data",
    columns=("prompt", "response", "gpt4_scores"),
    rows=_ratings_record,
    notes=("score is the mean of the judge's ratings; each is in score_gpt4_<n>",),
)
