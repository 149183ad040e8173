"""Log-probabilities of answers: how texts become tokens, the one function that scores them, and the verb.

Nothing else in pairwright computes a log-probability. Importing this package loads no torch.
"""

from pairwright.logprobs.columns import logprobs
from pairwright.logprobs.tokenise import Limits, PromptTokens, Texts, Tokens, tokenise, tokenise_many, tokenise_prompt

__all__ = ["Limits", "PromptTokens", "Texts", "Tokens", "logprobs", "tokenise", "tokenise_many", "tokenise_prompt"]
