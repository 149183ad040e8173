"""Worlds with an exact gold reward, for the quickstart, for reproductions and for tests.

judges.py         judges of known error for the world of language
language.py       instructions of three skills, answers by able and weak authors, gold 1 to 10
lists.py          instructions "name nine fruits, but not apple or pear", answers of known skill, gold 1 to 10
quickstart.py     the verb `quickstart`
quickstart.yaml   its recipe: the whole job, offline, on a laptop
rewriting.py      what evolves prompts of lists, in place of a model
tabular.py        prompts times answers: every policy, expectation and divergence exact
tree.py           token trees: rewards at tokens, soft values, exact policies
"""
