"""The checks by name. A check is a plug: `check(data, *, settings...) -> Finding`.

The first argument of ours is a `Preferences` or its `Facts`, so that an audit measures the data once; one of your own
(`"module:function"`) is given the `Preferences`.
"""

from collections.abc import Callable, Mapping

from pairwright.audit.bias import length_bias
from pairwright.audit.finding import Finding
from pairwright.audit.leaks import duplicate_prompt, near_duplicate_across_splits, split_leakage
from pairwright.audit.prompts import prompt_mismatch
from pairwright.audit.scores import (
    constant_score,
    label_against_score,
    non_finite_score,
    out_of_scale,
    score_tie,
    sentinel_score,
    unscored,
)
from pairwright.audit.texts import (
    control_characters,
    empty_answer,
    empty_chosen,
    empty_rejected,
    equal_text,
    equal_text_different_score,
    same_role_turns,
)
from pairwright.audit.tokens import (
    boundary_mismatch,
    double_bos,
    double_eos,
    equal_after_truncation,
    lost_to_truncation,
    template_refusal,
)

Check = Callable[..., Finding]

DATA_CHECKS: Mapping[str, Check] = {
    "score_tie": score_tie,
    "label_against_score": label_against_score,
    "unscored": unscored,
    "non_finite_score": non_finite_score,
    "sentinel_score": sentinel_score,
    "out_of_scale": out_of_scale,
    "constant_score": constant_score,
    "equal_text": equal_text,
    "equal_text_different_score": equal_text_different_score,
    "empty_chosen": empty_chosen,
    "empty_rejected": empty_rejected,
    "empty_answer": empty_answer,
    "length_bias": length_bias,
    "duplicate_prompt": duplicate_prompt,
    "split_leakage": split_leakage,
    "near_duplicate_across_splits": near_duplicate_across_splits,
    "same_role_turns": same_role_turns,
    "prompt_mismatch": prompt_mismatch,
    "control_characters": control_characters,
}
"""Checks of the data alone."""

TOKEN_CHECKS: Mapping[str, Check] = {
    "template_refusal": template_refusal,
    "boundary_mismatch": boundary_mismatch,
    "double_bos": double_bos,
    "double_eos": double_eos,
    "equal_after_truncation": equal_after_truncation,
    "lost_to_truncation": lost_to_truncation,
}
"""Checks of what a model reads; they need a tokenizer."""

CHECKS: Mapping[str, Check] = {**DATA_CHECKS, **TOKEN_CHECKS}
