"""The scorer `judge`: a language model behind a URL that rates answers or compares them.

    prefs = score(prefs, "judge", url="http://127.0.0.1:8000/v1", model="qwen", kind="pairwise")

What is asked stands in `prompts/*.md`, each with a version. What comes back is read strictly (`readings.py`).
"""

from pairwright.scorers.judge.scorer import judge

__all__ = ["judge"]
