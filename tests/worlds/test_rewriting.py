"""The stand-in that writes prompts of the world of lists."""

from pairwright import evolve
from pairwright.chat import user
from pairwright.evolve import OPERATORS, read_operator
from pairwright.generate.request import Request
from pairwright.worlds.lists import CATEGORIES, make, read_prompt, text
from pairwright.worlds.rewriting import rewriter

ENGINE = "pairwright.worlds.rewriting:rewriter"


def test_every_operator_gives_an_instruction_of_this_world():
    old = "Name nine fruits, but not apple or pear."
    requests = [Request([user(read_operator(name).ask(old))], "", seed) for name in OPERATORS for seed in range(20)]
    written = [drawn.text for drawn in rewriter(requests)]
    asked = [read_prompt([user(each)]) for each in written]
    assert all(found is not None and len(found[1]) == 2 for found in asked)
    assert {found[0] for found in asked} > {"fruits"}
    assert sum(found[0] == "fruits" for found in asked) > 50  # 80 of 100 are expected
    assert written == [drawn.text for drawn in rewriter(requests)]


def test_a_request_of_another_world_gives_an_empty_text():
    assert [drawn.text for drawn in rewriter([Request([user("Sing.")], "", 1)])] == [""]


def test_no_evolved_prompt_is_one_that_the_base_has_read():
    made = evolve(make(prompts=60, answers=2, seed=3), model="rewriter", engine=ENGINE, seed=3)
    assert made.counts().prompts > 250  # of 300; the others repeat one
    for category, forbidden in (read_prompt(prompt) for prompt in made.prompts.collect()["prompt"].to_list()):
        first, second = (CATEGORIES[category].index(word) for word in forbidden)
        assert (first + second) % 2 == 0
    read = text(prompts=40, seed=3).prompts.collect()["prompt"].to_list()
    for category, forbidden in map(read_prompt, read):
        assert sum(CATEGORIES[category].index(word) for word in forbidden) % 2 == 1
