"""Which answers are computed together: the answers to one prompt as a tree, trees of similar size as a batch.

The batches depend on the work alone: on which prompts and answers there are, not on their order, on what is known
already, or on how many processes share them. A killed run that resumes, or two processes, compute the same batches and
get the same bits.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class _Tree(NamedTuple):
    """A prompt and some of the answers to it.

    Attributes:
        tokens: of the prompt and of the answers, each once.
        answers: indices of the answers.
    """

    tokens: int
    answers: list[int]


def batches(
    prompt_lengths: Sequence[int],
    answer_lengths: Sequence[int],
    owner: Sequence[int],
    *,
    order: Sequence[int],
    budget: int,
) -> Iterator[list[int]]:
    """Indices of answers in batches: trees of similar size, the largest first, each batch at most `budget` tokens.

    A batch costs the size of its largest tree for each of its trees; a tree counts its prompt once. The largest come
    first, so that a machine that has too little memory says so at once. A tree larger than the budget is cut into
    several, and a single answer larger than it is a batch of its own.

    Args:
        prompt_lengths: tokens of each prompt, [P].
        answer_lengths: tokens of each answer, [N].
        owner: which prompt each answer belongs to, [N].
        order: the answers in an order that depends on nothing but their content; ties in size are broken by it.
        budget: tokens.
    """
    grown = _trees(prompt_lengths, answer_lengths, owner, order, budget)
    group: list[_Tree] = []
    for tree in sorted(grown, key=lambda tree: -tree.tokens):  # a stable sort, so `order` breaks ties
        if group and group[0].tokens * (len(group) + 1) > budget:
            yield [i for each in group for i in each.answers]
            group = []
        group.append(tree)
    if group:
        yield [i for each in group for i in each.answers]


def _trees(
    prompt_lengths: Sequence[int],
    answer_lengths: Sequence[int],
    owner: Sequence[int],
    order: Sequence[int],
    budget: int,
) -> list[_Tree]:
    of_prompt: dict[int, list[int]] = {}
    for i in order:
        of_prompt.setdefault(owner[i], []).append(i)
    grown: list[_Tree] = []
    members: list[int]
    for prompt, answers in of_prompt.items():
        size, members = prompt_lengths[prompt], []
        for i in answers:
            if members and size + answer_lengths[i] > budget:
                grown.append(_Tree(size, members))
                size, members = prompt_lengths[prompt], []
            size += answer_lengths[i]
            members.append(i)
        grown.append(_Tree(size, members))
    return grown
