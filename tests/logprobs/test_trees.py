from hypothesis import given, settings
from hypothesis import strategies as st

from pairwright.logprobs.trees import batches


def test_answers_to_one_prompt_share_it_and_similar_trees_share_a_batch() -> None:
    heads, texts, owner = [10, 2, 9], [5, 1, 5, 3, 2], [0, 1, 0, 1, 2]
    # Trees: 10 + 5 + 5 = 20, 2 + 1 + 3 = 6, 9 + 2 = 11.
    assert list(batches(heads, texts, owner, order=range(5), budget=21)) == [[0, 2], [4], [1, 3]]
    assert list(batches(heads, texts, owner, order=range(5), budget=22)) == [[0, 2], [4, 1, 3]]
    assert list(batches(heads, texts, owner, order=range(5), budget=60)) == [[0, 2, 4, 1, 3]]


def test_a_tree_larger_than_the_budget_is_cut_and_counts_its_prompt_in_each_part() -> None:
    assert list(batches([10], [4, 4, 4, 30], [0, 0, 0, 0], order=range(4), budget=18)) == [[3], [0, 1], [2]]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_answer_is_in_one_batch_and_the_order_decides_alone(data: st.DataObject) -> None:
    heads = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=8))
    texts = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=30))
    owner = [data.draw(st.integers(0, len(heads) - 1)) for _ in texts]
    budget = data.draw(st.integers(1, 200))
    found = list(batches(heads, texts, owner, order=range(len(texts)), budget=budget))
    assert sorted(i for group in found for i in group) == list(range(len(texts)))
    for group in found:
        size = sum(texts[i] for i in group) + sum(heads[p] for p in {owner[i] for i in group})
        assert size <= budget or len(group) == 1
    turned = data.draw(st.permutations(range(len(texts))))
    place = dict(enumerate(turned))
    again = batches(
        heads,
        [texts[i] for i in turned],
        [owner[i] for i in turned],
        order=sorted(range(len(texts)), key=turned.__getitem__),
        budget=budget,
    )
    assert [[place[i] for i in group] for group in again] == found
