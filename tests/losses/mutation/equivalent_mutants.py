"""Mutants that no input can tell from their loss, by the reason. test_mutants.py compares them on random records."""

# Every loss of groups reads all fields through `filled`, and needs only some of them.
_NAMED = "{name: v.masked_fill(absent, 1) for name, v in answers.scores.items()}"
_OF_GROUPS = ("infonca", "nca", "rrhf")

_BY_REASON: dict[str, tuple[str, ...]] = {
    "absent answers are masked once more after it": (
        "infonca: in _as_given, torch.where(record.there, rewards, 0.0) -> rewards",
        "infonca: in filled, answers.logp.masked_fill(absent, 1) -> answers.logp",
        "infonca: in filled, value.masked_fill(absent, 1) -> value",
        "nca: in _as_given, torch.where(record.there, rewards, 0.0) -> rewards",
        "sppo: torch.where(there, beta * side.log_ratio, 0.0) -> beta * side.log_ratio",
    ),
    "any number does in an absent place": (
        "infonca: 0.0 -> 1.0",
        *(f"{loss}: in filled, 1 -> {number}" for loss in _OF_GROUPS for number in (2, -1)),
    ),
    "it is a helper's argument that is 1 or 0 for this loss, and not for another": (
        "apo_zero_unpaired: in _valued, down * (beta * (log_ratio - zero)).sigmoid()"
        " -> (beta * (log_ratio - zero)).sigmoid()",
        "apo_zero_unpaired: in _valued, log_ratio - zero -> log_ratio",
        "apo_zero_unpaired: in _valued, log_ratio - zero -> log_ratio + zero",
        "apo_zero_unpaired: in _valued, up * (beta * (zero - log_ratio)).sigmoid()"
        " -> (beta * (zero - log_ratio)).sigmoid()",
    ),
    "its absolute value is taken": (
        "GroupLogps.worth: score - goal -> goal - score",
        "PairLogps.score_gap: chosen - self.goal -> self.goal - chosen",
        "PairLogps.score_gap: rejected - self.goal -> self.goal - rejected",
    ),
    "it is only looked at for being there, or for its shape": (
        "GroupLogps.of: value -> _planted_detach(value)",
        "GroupLogps.there: self.answers.logp -> _planted_detach(self.answers.logp)",
    ),
    "it is squared": (
        "ipo_mean: chosen - rejected - 1 / (2 * beta) -> 1 / (2 * beta) - (chosen - rejected)",
        "ipo_sum: chosen - rejected - 1 / (2 * beta) -> 1 / (2 * beta) - (chosen - rejected)",
        "rpo_squared: chosen - rejected - eta * pair.score_gap -> eta * pair.score_gap - (chosen - rejected)",
        "sppo: in _to_win_rate, side.log_ratio - (wins - 0.5) / beta -> (wins - 0.5) / beta - side.log_ratio",
        "sppo_hard: chosen - target -> target - chosen",
    ),
    "it only feeds the implicit rewards, which the trainer detaches": (
        "sft: record.rejected.mean_logp -> _planted_detach(record.rejected.mean_logp)",
    ),
    "only its order is used, which has no gradient": (
        "aot: policy -> _planted_detach(policy)",
        "aot_unpaired: chosen -> _planted_detach(chosen)",
    ),
    "equal values are kept in order on a CPU anyway": (
        "aot: in _of_same_rank, like.argsort(stable=True) -> like.argsort(stable=False)",
        "aot_unpaired: in _of_same_rank, like.argsort(stable=True) -> like.argsort(stable=False)",
    ),
    "the loss does not read this field": (
        "infonca: in filled, answers.length -> _planted_mean(answers.length)",
        "nca: in filled, answers.length -> _planted_mean(answers.length)",
        "rrhf: in filled, answers.ref -> _planted_mean(answers.ref)",
        *(f"{loss}: in filled, answers.score -> _planted_mean(answers.score)" for loss in _OF_GROUPS),
        *(f"{loss}: in filled, None if answers.scores is None else {_NAMED} -> None" for loss in _OF_GROUPS),
        *(f"{loss}: in filled, v.masked_fill(absent, 1) -> v" for loss in _OF_GROUPS),
    ),
    "only types narrower than float64 need it; test_groups.py and test_table.py have them": (
        "alphapo: in _shaped, beta / abs(alpha) -> beta * abs(alpha)",
        "alphapo: in _shaped, beta / abs(alpha) -> beta",
        "alphapo: in _shaped, abs(alpha) -> alpha",
        "alphapo: in _shaped, abs(alpha) -> abs(-alpha)",
        *(f"{loss}: in _targets, max(alpha, torch.finfo(worth.dtype).tiny) -> alpha" for loss in ("infonca", "nca")),
    ),
    "what it is multiplied by is 0 there": ("infonca: in _targets, 0.0 -> 1.0",),
    "tokens are the second of two axes": ("ld_dpo: in _tail, -1 -> 1",),
}

EQUIVALENT: dict[str, str] = {name: reason for reason, names in _BY_REASON.items() for name in names}
"""Why, by `Mutant.name`."""
