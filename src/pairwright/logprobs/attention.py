"""Attention over packed trees: each answer sees its prompt and itself, and nothing else of the row.

transformers lets a model's attention be replaced by name. Ours is `pairwright`: given a `Forest` it computes attention
tree by tree, without padding and without a mask as large as the row squared; given none (generation, other callers) it
is the attention that the model would have had.

On a CPU each prompt and each answer is one call of PyTorch's scaled dot-product attention. On CUDA the whole row is one
call of FlexAttention, whose block mask is worked out from the trees, and which is compiled for all lengths at once.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pairwright.errors import PairwrightError

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

NAME = "pairwright"
"""The attention's name in transformers."""
BLOCK = 128
"""Side of a block of FlexAttention's mask; a packed row on CUDA is a multiple of it."""
UNMASKED = (1, 1, 1, 0)
"""Shape of the mask that a packed row is given: prepared, so that transformers makes none, and empty."""


class Tree(NamedTuple):
    """A prompt and its answers in a row, the prompt first, one answer after the other; lengths in tokens."""

    prompt: int
    answers: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Of prompt and answers."""
        return self.prompt + sum(self.answers)


class Forest:
    """The trees of a packed row, and what attention over them needs in every layer.

    Args:
        trees: in the order of the row.
        width: tokens of the row; more than the trees have where it is padded at its end.
        device: of the row.
    """

    def __init__(self, trees: Sequence[Tree], width: int, device: torch.device) -> None:
        self.trees, self.width, self.device = tuple(trees), width, device
        self.calls = 0
        """How many layers have asked; a model that asks less often than it has layers mixes tokens in other ways."""
        self._masks: dict[tuple[int, int, int | None, torch.dtype], Tensor] = {}
        self._blocks: dict[int | None, BlockMask] = {}

    @property
    def sizes(self) -> list[int]:
        """Lengths of all prompts and answers in the row's order, and of the padding."""
        sizes = [size for tree in self.trees for size in (tree.prompt, *tree.answers)]
        rest = self.width - sum(sizes)
        return [*sizes, rest] if rest else sizes

    def mask(self, queries: int, keys: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """Additive mask [queries, keys] of the last `queries` of `keys` tokens: causal, no farther than `window`."""
        key = (queries, keys, window, dtype)
        if key not in self._masks:
            at = torch.arange(keys - queries, keys, device=self.device)[:, None]
            to = torch.arange(keys, device=self.device)
            seen = to <= at if window is None else (to <= at) & (to > at - window)
            blank = torch.zeros(queries, keys, dtype=dtype, device=self.device)
            self._masks[key] = blank.masked_fill_(~seen, torch.finfo(dtype).min)
        return self._masks[key]

    def blocks(self, window: int | None) -> "BlockMask":
        """FlexAttention's mask of the row."""
        if window not in self._blocks:
            self._blocks[window] = block_mask(self, window)
        return self._blocks[window]


def use_forest_attention(model: Any) -> bool:
    """Give a model the attention of this module, for good; whether it could be given.

    Without a forest the model computes what it did before, so nothing else changes. A model that cannot mix tokens by
    attention alone, or not in a way that is known here, keeps its own attention.
    """
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ())
    # Where PyTorch's function is not enough, the reason must be one that is dealt with here.
    enough = getattr(model, "_supports_sdpa", False) or getattr(config, "attn_logit_softcapping", None) is not None
    if not enough or not layers <= {"full_attention", "sliding_attention"}:
        return False
    _register()
    try:
        model.set_attn_implementation(NAME)
    except (ValueError, AttributeError, ImportError):
        return False
    return bool(model.config._attn_implementation == NAME)


def has_forest_attention(model: Any) -> bool:
    """Whether a model has the attention of this module."""
    return getattr(model.config, "_attn_implementation", None) == NAME


def forest_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    forest: Forest | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """The attention of one layer, as transformers calls it.

    Args:
        module: the layer.
        query: [B, heads, T, D].
        key: [B, key heads, T, D].
        value: [B, key heads, T, D].
        attention_mask: used where there is no forest.
        scaling: of the scores; 1 / sqrt(D) when not given.
        dropout: rate.
        forest: the trees of the one row.
        softcap: scores are `cap * tanh(score / cap)`.
        sliding_window: tokens that are seen, the token itself among them.
        more: what transformers gives besides.

    Returns:
        [B, T, heads, D], and no weights.

    Raises:
        PairwrightError: a packed row came without its trees.
    """
    if forest is None:
        return _ordinary(module, query, key, value, attention_mask, scaling, dropout, softcap, more)
    forest.calls += 1
    window = _window(module, sliding_window)
    if query.is_cuda and not dropout:  # FlexAttention has none
        return _by_blocks(query, key, value, forest, scaling, softcap, window), None
    return _by_segments(query, key, value, forest, scaling, dropout, softcap, window), None


def _window(module: Any, given: int | None) -> int | None:
    """The window of a layer as the model's own masks have it: what it is called with is not always that."""
    config = getattr(module, "config", None)
    kinds, place = getattr(config, "layer_types", None), getattr(module, "layer_idx", None)
    window: int | None = getattr(config, "sliding_window", None)
    if kinds is not None and place is not None:
        return window if kinds[place] == "sliding_attention" else None
    return window if given is None else given


def _by_segments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    forest: Forest,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
    window: int | None,
) -> Tensor:
    """Tree by tree: the prompt sees itself, each answer the prompt and itself."""
    sizes = forest.sizes
    # One split, whose backward is one concatenation: slices would each give a gradient as long as the row.
    queries, keys, values = (iter(torch.split(states, sizes, dim=2)) for states in (query, key, value))
    attend = _scaled_product if softcap is None else _capped_product
    results = []
    for tree in forest.trees:
        q, k, v = next(queries), next(keys), next(values)
        all_near = window is None or tree.prompt <= window
        mask = None if all_near else forest.mask(tree.prompt, tree.prompt, window, q.dtype)
        results.append(attend(q, k, v, mask, scaling, dropout, softcap))
        for length in tree.answers:
            q = next(queries)
            both = torch.cat([k, next(keys)], dim=2), torch.cat([v, next(values)], dim=2)
            mask = forest.mask(length, tree.prompt + length, window, q.dtype)
            results.append(attend(q, *both, mask, scaling, dropout, softcap))
    results += queries  # the padding attends to nothing; nobody reads what it becomes
    return torch.cat(results, dim=2).transpose(1, 2).contiguous()


Product = Callable[[Tensor, Tensor, Tensor, Tensor | None, float | None, float, float | None], Tensor]


def _scaled_product(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None, dropout: float, softcap: float | None
) -> Tensor:
    return F.scaled_dot_product_attention(
        q, k, v, mask, dropout, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
    )


def _capped_product(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None, dropout: float, softcap: float | None
) -> Tensor:
    """With softly capped scores, for which PyTorch's function has no room."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is None:
        mask = torch.full(scores.shape[-2:], torch.finfo(q.dtype).min, dtype=q.dtype, device=q.device).triu(1)
    weights = (scores + mask).float().softmax(-1).to(q.dtype)
    return F.dropout(weights, dropout) @ v


def _by_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    forest: Forest,
    scaling: float | None,
    softcap: float | None,
    window: int | None,
) -> Tensor:
    """The whole row at once, blocks of it that see nothing left out."""

    def capped(score: Tensor, b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)  # type: ignore[operator]

    attend = _flex(query.is_cuda)
    found = attend(
        query,
        key,
        value,
        score_mod=None if softcap is None else capped,
        block_mask=forest.blocks(window),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return found.transpose(1, 2).contiguous()  # type: ignore[no-any-return]


@cache
def _flex(compiled: bool) -> Any:
    """FlexAttention, compiled with dynamic lengths: a row of another length is no other program."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention


def block_mask(forest: Forest, window: int | None) -> "BlockMask":
    """FlexAttention's mask of a packed row, from the trees and not from each pair of tokens.

    A block of keys is left out for a block of queries where no query sees a key, and needs no mask where every query
    sees every key; both are decided from the first and last tree, branch and position of each block.
    """
    from torch.nn.attention.flex_attention import BlockMask

    tree, branch, position = (row.to(forest.device) for row in _labels(forest))

    def sees(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        """Same tree, not later, in the prompt or in the own answer, and within the window."""
        seen = (tree[q] == tree[kv]) & (position[kv] <= position[q]) & ((branch[kv] == 0) | (branch[kv] == branch[q]))
        return seen if window is None else seen & (position[kv] > position[q] - window)

    low = {n: _by_block(row, "amin") for n, row in (("tree", tree), ("branch", branch), ("position", position))}
    high = {n: _by_block(row, "amax") for n, row in (("tree", tree), ("branch", branch), ("position", position))}
    blocks = len(low["tree"])
    order = torch.arange(blocks, device=forest.device)
    q, kv = order[:, None], order[None, :]
    one = (low["branch"] == high["branch"]) & (low["tree"] == high["tree"])
    own = low["branch"][q] == low["branch"][kv]
    prompt = low["branch"][kv] == 0
    near = torch.ones_like(own) if window is None else high["position"][kv] > low["position"][q] - window
    # A block that holds the ends of two branches has no one position; then only the trees decide.
    apart = one[q] & one[kv] & ~(own | prompt)
    far = one[q] & one[kv] & ~near
    some = (kv <= q) & (high["tree"][kv] >= low["tree"][q]) & ~apart & ~far
    same = one[q] & one[kv] & (low["tree"][q] == low["tree"][kv]) & (own | prompt) & (kv < q)
    whole = same if window is None else same & (low["position"][kv] > high["position"][q] - window)
    part = some & ~whole
    return BlockMask.from_kv_blocks(
        *_listed(part), *_listed(whole), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(forest.width, forest.width)
    )


def _labels(forest: Forest) -> tuple[Tensor, Tensor, Tensor]:
    """Tree, branch (0 for the prompt) and position of each token of the row; padding is a tree of its own."""
    tree, branch, position = [], [], []
    for number, each in enumerate(forest.trees):
        tree.append(torch.full((each.tokens,), number))
        branch += [torch.full((size,), n) for n, size in enumerate((each.prompt, *each.answers))]
        position += [torch.arange(each.prompt)]
        position += [torch.arange(each.prompt, each.prompt + size) for size in each.answers]
    rest = forest.width - sum(each.tokens for each in forest.trees)
    tree.append(torch.full((rest,), len(forest.trees)))
    branch.append(torch.zeros(rest, dtype=torch.long))
    position.append(torch.arange(rest))
    return torch.cat(tree), torch.cat(branch), torch.cat(position)


def _by_block(row: Tensor, how: str) -> Tensor:
    """The least or greatest label of each block; the last block may be short."""
    short = -len(row) % BLOCK
    padded = F.pad(row[None].float(), (0, short), mode="replicate")[0].long() if short else row
    return getattr(padded.view(-1, BLOCK), how)(-1)  # type: ignore[no-any-return]


def _listed(wanted: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has, [1, 1, n], and which, first ones first, [1, 1, n, n]."""
    which = wanted.int().argsort(dim=-1, descending=True, stable=True)
    return wanted.sum(-1).int()[None, None], which.int()[None, None]


def _ordinary(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
    more: dict[str, Any],
) -> tuple[Tensor, None]:
    """What the model would compute without this module: PyTorch's function, or one with capped scores."""
    if attention_mask is not None and attention_mask.shape[-1] == 0:
        raise PairwrightError(f"{type(module).__name__} does not hand its trees on; compute it with layout='padded'")
    if softcap is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        attention_mask = torch.zeros_like(attention_mask, dtype=query.dtype).masked_fill(
            ~attention_mask, torch.finfo(query.dtype).min
        )
    if attention_mask is None and query.shape[2] == 1:
        attention_mask = query.new_zeros(())  # one new token sees everything before it
    found = _capped_product(query, key, value, attention_mask, scaling, dropout, softcap)
    return found.transpose(1, 2).contiguous(), None


@cache
def _register() -> None:
    """Tell transformers of the attention, and that its masks, where there is no forest, are those of PyTorch's."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, forest_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
