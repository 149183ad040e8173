"""Pairs whose source only has its own names for the columns: argilla, distilabel, OpenRLHF, NeMo, and the like."""

from collections.abc import Sequence

from pairwright.formats.hh import fits as dialogues
from pairwright.formats.mapping import mapped
from pairwright.formats.record import Answer, Columns, Format, Pair, Record, Row, Unreadable, number, rest
from pairwright.formats.sides import prompt_of, response_of
from pairwright.formats.trl import first_of

ARGILLA = Format(
    name="argilla",
    says="prompt, chosen, rejected, chosen-rating, rejected-rating, chosen-model, rejected-model",
    source="argilla/ultrafeedback-binarized-preferences-cleaned",
    columns=("prompt", "chosen", "rejected", "chosen-rating", "rejected-rating"),
    rows=mapped(Columns(prompt="prompt", chosen="chosen", rejected="rejected")),
    clean=Columns(prompt="prompt", chosen="chosen", rejected="rejected"),
    notes=("score is the source's rating",),
)
ARGILLA_AVERAGE = Format(
    name="argilla_average",
    says="instruction, chosen_response, rejected_response, chosen_avg_rating, rejected_avg_rating",
    source="argilla/ultrafeedback-binarized-preferences",
    columns=("instruction", "chosen_response", "rejected_response"),
    rows=mapped(Columns(prompt="instruction", chosen="chosen_response", rejected="rejected_response")),
    notes=("score is the mean of the source's ratings",),
)
ORCA = Format(
    name="orca_pairs",
    says="system, input, chosen, rejected, rating, status (distilabel's Orca pairs)",
    source="argilla/distilabel-intel-orca-dpo-pairs",
    columns=("system", "input", "chosen", "rejected"),
    rows=mapped(Columns(prompt="input", chosen="chosen", rejected="rejected", system="system")),
    notes=("score is chosen_score where the source has it; the two-element rating stays as it is, among the extras",),
)
DISTILABEL = Format(
    name="distilabel",
    says="prompt, chosen, rejected, chosen_rating, rejected_rating, chosen_model, rejected_model",
    source="distilabel, the steps FormatChatGenerationDPO and FormatTextGenerationDPO",
    columns=("prompt", "chosen", "rejected", "chosen_rating", "rejected_rating"),
    rows=mapped(Columns(prompt="prompt", chosen="chosen", rejected="rejected")),
    clean=Columns(prompt="prompt", chosen="chosen", rejected="rejected"),
    notes=("score is the source's rating",),
)
OPENRLHF = Format(
    name="openrlhf",
    says="chosen, rejected, chosen_score, rejected_score (with or without prompt)",
    source="OpenRLHF/preference_dataset_mixture2_and_safe_pku",
    columns=("chosen", "rejected", "chosen_score", "rejected_score"),
    rows=mapped(Columns(chosen="chosen", rejected="rejected")),
    clean=Columns(chosen="chosen", rejected="rejected"),
    fits=lambda rows: first_of(rows, "prompt") is None,
)
NEMO_ALIGNER = Format(
    name="nemo_aligner",
    says="prompt, chosen_response, rejected_response, chosen_reward, rejected_reward",
    source="NVIDIA NeMo-Aligner, docs/user-guide/dpo.rst",
    columns=("prompt", "chosen_response", "rejected_response"),
    rows=mapped(Columns(prompt="prompt", chosen="chosen_response", rejected="rejected_response")),
)
TORCHTUNE = Format(
    name="stack_exchange_paired",
    says="question, response_j (chosen), response_k (rejected)",
    source="lvwerra/stack-exchange-paired, read by torchtune's stack_exchange_paired_dataset",
    columns=("question", "response_j", "response_k"),
    rows=mapped(Columns(prompt="question", chosen="response_j", rejected="response_k")),
)
HH_RLHF = Format(
    name="hh_rlhf",
    says="chosen and rejected as one text of Human and Assistant turns",
    source="Anthropic/hh-rlhf",
    columns=("chosen", "rejected"),
    rows=mapped(Columns(chosen="chosen", rejected="rejected")),
    clean=Columns(chosen="chosen", rejected="rejected"),
    fits=lambda rows: first_of(rows, "prompt") is None and dialogues(rows),
)


def _skywork(rows: Sequence[Row]) -> bool:
    return isinstance(first_of(rows, "chosen"), list) and first_of(rows, "prompt") is None


SKYWORK = Format(
    name="skywork",
    says="chosen and rejected as whole conversations, and source",
    source="Skywork/Skywork-Reward-Preference-80K-v0.2",
    columns=("chosen", "rejected", "source"),
    rows=mapped(Columns(chosen="chosen", rejected="rejected")),
    clean=Columns(chosen="chosen", rejected="rejected"),
    fits=_skywork,
)


def _nemo_rl_record(row: Row) -> Record:
    """NeMo-RL: `context` and ranked `completions`; the lower rank is the better answer, no score is invented."""
    completions = row.get("completions")
    if not isinstance(completions, list) or not completions:
        raise Unreadable("no_answer", "'completions' is no list of answers")
    notes: list[str] = []
    prompt = prompt_of(row.get("context"), notes, "context")
    answers, ranks = [], []
    for item in completions:
        answers.append(Answer(response_of(item.get("completion"), notes, "completion")))
        ranks.append(number(item.get("rank"), notes))
    pairs = []
    if len(answers) == 2 and None not in ranks and ranks[0] != ranks[1]:
        better = 0 if float(ranks[0] or 0) < float(ranks[1] or 0) else 1
        pairs = [Pair(better, 1 - better)]
    scores = [None if rank is None else -rank for rank in ranks]
    ranked = [answer._replace(scores={"rank": score}) for answer, score in zip(answers, scores, strict=True)]
    if not pairs:
        notes.append("no comparison of exactly two differently ranked answers, so no pair; pair by score_rank")
    return Record(prompt, ranked, pairs, prompt_extras=rest(row, "context", "completions"), notes=notes)


NEMO_RL = Format(
    name="nemo_rl",
    says="context and completions with their rank (0 best)",
    source="NVIDIA NeMo-RL, docs/guides/dpo.md",
    columns=("context", "completions"),
    rows=_nemo_rl_record,
    notes=("score_rank is the rank turned round (0 best becomes 0, 1 becomes -1): higher is better",),
)
