"""Worlds with an exact gold reward, for the quickstart, for reproductions and for tests.

lists.py          instructions "name nine fruits, but not apple or pear", answers of known skill, gold 1 to 10
quickstart.py     the verb `quickstart`
quickstart.yaml   its recipe: the whole job, offline, on a laptop
tree.py           token trees: rewards at tokens, soft values, exact policies
"""
