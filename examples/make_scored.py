"""Write `scored.jsonl`, the small file that the README reads: answers from the world of lists, with planted faults.

Run: python examples/make_scored.py
"""

from pathlib import Path

import orjson

from pairwright import pair
from pairwright.worlds import lists

HERE = Path(__file__).parent


def main() -> None:
    """Best and worst of four answers to 200 instructions, judged with noise; then faults that real files have."""
    prefs = pair(lists.make(prompts=200, answers=4, noise=1.0, seed=7), "best_random", seed=7)
    rows = [
        {
            "prompt": row["prompt"][0]["content"],
            "chosen": row["chosen"][0]["content"],
            "rejected": row["rejected"][0]["content"],
            "score_chosen": row["score_chosen"],
            "score_rejected": row["score_rejected"],
        }
        for row in prefs.rows()
    ]
    for row in rows[10:200:17]:
        row["score_rejected"] = row["score_chosen"]  # a tie
    rows[20]["rejected"] = rows[20]["chosen"]  # one text, two scores
    rows[40]["rejected"] = ""  # nothing was generated
    rows[60]["score_chosen"], rows[60]["score_rejected"] = rows[60]["score_rejected"], rows[60]["score_chosen"]
    rows[80]["score_rejected"] = None  # the judge could not be parsed
    lines = [orjson.dumps(row).decode() for row in rows]
    lines.insert(100, '{"prompt": "Name nine birds", "chosen": "robin eagle')  # cut off on the way
    (HERE / "scored.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
