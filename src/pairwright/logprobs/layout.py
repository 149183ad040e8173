"""Three ways to lay a batch out as the rows that a model reads. All give the same numbers.

- `packed`: all prompts and answers in one row, without padding; attention by trees (`attention.py`). The fastest.
- `forest`: one prompt with its answers in a row, rows padded to the longest, and a prepared 4-D mask: for models whose
  attention cannot be replaced but takes such a mask.
- `padded`: one answer with its prompt in a row, as everyone does it: for all other models.

In the first two a prompt is computed once for all its answers. An answer's positions go on where its prompt ends.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pairwright.logprobs.attention import BLOCK, UNMASKED, Forest, Tree
from pairwright.logprobs.batch import Batch

Layout = Literal["packed", "forest", "padded"]


class Rows(NamedTuple):
    """What goes into a model, and where its answers are in what comes out.

    Attributes:
        ids: token ids, [R, T].
        position: position of each token, [R, T]; None where the model's own are right.
        where: the hidden states that predict the answers' tokens, as indices into R x T, answer by answer, [n].
        given: the mask, and what else the model is called with.
        forest: the trees of a packed row; None in the other layouts.
    """

    ids: Tensor
    position: Tensor | None
    where: Tensor
    given: dict[str, Any]
    forest: Forest | None = None


def packed(batch: Batch, model: Any) -> Rows:
    """One row of all trees; on CUDA padded to whole blocks."""
    trees, order = _trees(batch)
    device = batch.prompt_ids.device
    total = sum(tree.tokens for tree in trees)
    width = total + (-total % BLOCK if device.type == "cuda" else 0)
    forest = Forest(trees, width, device)
    ids, position, where = _in_trees(batch, trees, order)
    starts = list(accumulate((tree.tokens for tree in trees), initial=0))
    row = F.pad(torch.cat(ids), (0, width - total))[None]
    at = F.pad(torch.cat(position), (0, width - total))[None]
    found = _back_in_order(where, order, [starts[t] for t in range(len(trees))])
    mask = torch.zeros(UNMASKED, dtype=torch.bool, device=device)
    return Rows(row, at, found, {"attention_mask": mask, "forest": forest}, forest)


def forest(batch: Batch, model: Any) -> Rows:
    """A row for each tree, with a mask [R, 1, T, T] for each kind of layer."""
    trees, order = _trees(batch)
    ids, position, where = _in_trees(batch, trees, order)
    row, at = pad_sequence(ids, batch_first=True), pad_sequence(position, batch_first=True)
    width = row.shape[1]
    found = _back_in_order(where, order, [t * width for t in range(len(trees))])
    branch = _branches(trees, width).to(row.device)
    same = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    order_in_row = torch.arange(width, device=row.device)
    # Padding sees itself, so that its softmax is over something; nothing sees the padding.
    causal = order_in_row[None, :] <= order_in_row[:, None]
    seen = (same & causal & (branch[:, None, :] >= 0)) | torch.eye(width, dtype=torch.bool, device=row.device)
    config = model.config.get_text_config()
    dtype = next(model.parameters()).dtype

    def mask(window: int | None) -> Tensor:
        allowed = seen if window is None else seen & (at[:, None, :] > at[:, :, None] - window)
        blank = torch.zeros(allowed.shape, dtype=dtype, device=row.device)
        return blank.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]

    return Rows(row, at, found, {"attention_mask": _by_kind_of_layer(config, mask)})


def padded(batch: Batch, model: Any) -> Rows:
    """A row for each answer, padded on the right."""
    prompts = torch.split(batch.prompt_ids, batch.prompt_lengths.tolist())
    answers = torch.split(batch.answer_ids, batch.answer_lengths.tolist())
    owners = batch.answer_prompt.tolist()
    ids = pad_sequence(
        [torch.cat([prompts[owner], answer]) for owner, answer in zip(owners, answers, strict=True)], True
    )
    starts = batch.prompt_lengths[batch.answer_prompt]
    width = ids.shape[1]
    at = torch.arange(width, device=ids.device)
    present = (at < (starts + batch.answer_lengths)[:, None]).long()
    predicts = (at >= starts[:, None] - 1) & (at < (starts + batch.answer_lengths)[:, None] - 1)
    return Rows(ids, None, predicts.flatten().nonzero().squeeze(-1), {"attention_mask": present})


LAYOUTS: dict[Layout, Callable[[Batch, Any], Rows]] = {"packed": packed, "forest": forest, "padded": padded}


def _trees(batch: Batch) -> tuple[list[Tree], list[list[int]]]:
    """The trees in the order of the prompts, and which answers each has; a prompt without answers is left out."""
    of: list[list[int]] = [[] for _ in range(len(batch.prompt_lengths))]
    for answer, owner in enumerate(batch.answer_prompt.tolist()):
        of[owner].append(answer)
    prompts, answers = batch.prompt_lengths.tolist(), batch.answer_lengths.tolist()
    trees = [Tree(prompts[p], tuple(answers[a] for a in mine)) for p, mine in enumerate(of) if mine]
    return trees, [mine for mine in of if mine]


def _in_trees(
    batch: Batch, trees: list[Tree], order: list[list[int]]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Tokens and positions of each tree, and for each answer the places in its tree that predict it."""
    prompts = torch.split(batch.prompt_ids, batch.prompt_lengths.tolist())
    answers = torch.split(batch.answer_ids, batch.answer_lengths.tolist())
    owners = batch.answer_prompt.tolist()
    device = batch.prompt_ids.device
    ids, position, where = [], [], []
    for tree, mine in zip(trees, order, strict=True):
        ids.append(torch.cat([prompts[owners[mine[0]]], *(answers[a] for a in mine)]))
        line = torch.arange(tree.prompt + max(tree.answers), device=device)
        position.append(torch.cat([line[: tree.prompt], *(line[tree.prompt : tree.prompt + n] for n in tree.answers)]))
        start = tree.prompt
        for length in tree.answers:
            # The prompt's last token predicts the answer's first; the answer's last predicts nothing that is wanted.
            places = torch.arange(start - 1, start - 1 + length, device=device)
            places[0] = tree.prompt - 1
            where.append(places)
            start += length
    return ids, position, where


def _back_in_order(where: list[Tensor], order: list[list[int]], starts: list[int]) -> Tensor:
    """The places of all answers in the batch's order, counted from the start of all rows."""
    flat = [(answer, start) for mine, start in zip(order, starts, strict=True) for answer in mine]
    found = {answer: places + start for (answer, start), places in zip(flat, where, strict=True)}
    return torch.cat([found[answer] for answer in range(len(found))])


def _branches(trees: list[Tree], width: int) -> Tensor:
    """0 in the prompt, 1, 2, ... in its answers, -1 in the padding, [R, T]."""
    rows = []
    for tree in trees:
        parts = [torch.full((size,), n) for n, size in enumerate((tree.prompt, *tree.answers))]
        rows.append(F.pad(torch.cat(parts), (0, width - tree.tokens), value=-1))
    return torch.stack(rows)


def _by_kind_of_layer(config: Any, mask: Callable[[int | None], Tensor]) -> Tensor | dict[str, Tensor]:
    """One mask, or one by name where layers differ."""
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if kinds is None:
        return mask(window)
    windows = {"full_attention": None, "sliding_attention": window}
    return {kind: mask(windows[kind]) for kind in dict.fromkeys(kinds)}
