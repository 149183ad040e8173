"""Splits by prompt."""

from pathlib import Path

import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.formats.read import read
from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.split import split


def made(prompts: list[str], pairs: list[str]) -> Preferences:
    answers = [name for name in prompts for _ in range(2)]
    at = {name: 2 * i for i, name in enumerate(prompts)}
    return Preferences.of(
        pl.DataFrame({"prompt_id": prompts, "prompt": [[{"role": "user", "content": p}] for p in prompts]}),
        pl.DataFrame({"prompt_id": answers, "response": [[{"role": "assistant", "content": "A"}] for _ in answers]}),
        pl.DataFrame(
            {
                "prompt_id": pairs,
                "chosen_id": [at.get(p, 0) for p in pairs],
                "rejected_id": [at.get(p, 0) + 1 for p in pairs],
            }
        ),
    )


NAMES = [f"p{i}" for i in range(400)]


def sides(prefs: Preferences) -> dict[str, str]:
    return dict(prefs.prompts.select("prompt_id", "split").collect().iter_rows())


def test_every_pair_of_a_prompt_lies_on_one_side() -> None:
    prefs = split(made(NAMES, NAMES * 3), test=0.25, seed=1)
    pairs = prefs.pairs.select("prompt_id", "split").collect()
    assert pairs["prompt_id"].to_list() == NAMES * 3
    known = sides(prefs)
    assert all(known[prompt] == side for prompt, side in pairs.iter_rows())
    # 400 draws with p = 0.25: standard deviation 8.7.
    assert 70 <= sum(side == "test" for side in known.values()) <= 130


def test_the_side_does_not_depend_on_order_or_on_other_prompts() -> None:
    whole = sides(split(made(NAMES, NAMES), test=0.25, seed=1))
    part = sides(split(made(NAMES[300:100:-1], []), test=0.25, seed=1))
    assert part == {name: whole[name] for name in part}
    assert sides(split(made(NAMES, NAMES), test=0.25, seed=2)) != whole


def test_a_larger_test_share_contains_the_smaller() -> None:
    small, large = (sides(split(made(NAMES, []), test=share)) for share in (0.1, 0.3))
    assert all(large[name] == "test" for name, side in small.items() if side == "test")


@pytest.mark.parametrize(("share", "side"), [(0.0, "train"), (1.0, "test")])
def test_none_and_all_are_exact(share: float, side: str) -> None:
    assert set(sides(split(made(NAMES, []), test=share)).values()) == {side}


def test_an_earlier_split_is_replaced_and_said() -> None:
    first = split(made(NAMES, NAMES), test=0.5, seed=3)
    second = split(first, test=0.0)
    assert set(second.pairs.collect()["split"]) == {"train"}
    assert "An earlier split was replaced." in second.lineage[-1].notes
    assert "test" in set(first.pairs.collect()["split"])  # the input is as it was


def test_bad_requests_are_sentences() -> None:
    with pytest.raises(InputError, match="share from 0 to 1, not 10"):
        split(made(NAMES, []), test=10)
    with pytest.raises(InputError, match="1 pairs speak of prompts that are not in prompts"):
        split(made(["a"], ["b"]))


def test_a_split_survives_the_disk(tmp_path: Path) -> None:
    prefs = split(made(NAMES, NAMES), test=0.2)
    assert Preferences.load(prefs.save(tmp_path / "d")) == prefs


def relabelled(tmp_path: Path, count: int) -> tuple[Preferences, Preferences]:
    """Scored pairs, and the flat file of what relabelling made of them, read again."""
    rows = [
        {"prompt": f"Q{i}", "chosen": f"good {i}", "rejected": f"bad {i}", "score_chosen": 9.0, "score_rejected": 2.0}
        for i in range(count)
    ]
    before = read(rows)
    return before, read(relabel(before).export(tmp_path / "ra.parquet"))


def test_copies_of_a_pair_stay_together_though_their_prompts_differ(tmp_path: Path) -> None:
    before, flat = relabelled(tmp_path, 60)
    assert flat.counts().prompts == 120
    got = split(flat, test=0.4, seed=3).pairs.select("source_prompt_id", "split").unique().collect()
    assert len(got) == 60
    # It is the split that the data had got before relabelling.
    assert dict(got.iter_rows()) == sides(split(before, test=0.4, seed=3))
    assert 10 <= (got["split"] == "test").sum() <= 38


def test_copies_that_nothing_joins_are_refused(tmp_path: Path) -> None:
    _, flat = relabelled(tmp_path, 3)
    loose = Preferences.of(flat.prompts, flat.responses, flat.pairs.drop("source_prompt_id"), flat.lineage)
    with pytest.raises(InputError, match=r"no source_prompt_id.*split the data before relabelling"):
        split(loose)


def test_a_source_prompt_id_of_plain_data_decides_nothing() -> None:
    prefs = made(NAMES, NAMES)
    other = Preferences.of(
        prefs.prompts, prefs.responses, prefs.pairs.with_columns(source_prompt_id=pl.lit("the same for all"))
    )
    assert sides(split(other, test=0.25, seed=1)) == sides(split(prefs, test=0.25, seed=1))
