"""Base models of the language world, each made once and kept in the store."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from pairwright.logprobs.tokenise import Limits
from pairwright.place import store_place
from pairwright.reproduce.language.setting import MAX_LENGTH, MAX_PROMPT, Base
from pairwright.reproduce.language.training import opened, trained
from pairwright.runs import digest_file, digest_of, digests, write_beside
from pairwright.train.data import point_examples
from pairwright.train.scratch import scratch
from pairwright.worlds import language

STEPS, BATCH, RATE = 1400, 64, 6e-3
TEXTS = 16_000
_ROOMS = ("logprobs", "losses", "train")


def base_place(base: Base) -> Path:
    """The directory of a base model; it is made when it is not there. About a minute on one core.

    It has read a quarter of the instructions, none of which a preference asks, with answers of every quality, by able
    authors and by weak ones; a share of them states the score, in other words than the goal sentence.
    """
    package = Path(__file__).parents[2]
    world = {name: digest_file(package / "worlds" / name) for name in ("judges.py", "language.py", "lists.py")}
    own = {name: digest_file(Path(__file__).with_name(name)) for name in ("bases.py", "training.py")}
    rooms = {f"{room}/{name}": found for room in _ROOMS for name, found in digests(package / room).items()}
    code = digest_of(world | own | rooms)
    name = hashlib.sha256(f"{base!r} {code} {STEPS} {BATCH} {RATE} {TEXTS} {torch.__version__}".encode()).hexdigest()[
        :24
    ]
    place = store_place() / "reproduce" / "bases" / name
    if not (place / "config.json").is_file():
        _make(base, place)
    return place


def _make(base: Base, place: Path) -> None:
    prefs = language.text(prompts=TEXTS, rated=base.rated, error=base.error, seed=base.seed)
    place.parent.mkdir(parents=True, exist_ok=True)
    with write_beside(place) as new:
        scratch(
            prefs,
            output=new,
            kind="word",
            hidden_size=base.width,
            layers=base.layers,
            heads=4,
            max_length=MAX_LENGTH,
            seed=base.seed,
        )
        model, tokenizer = opened(new)
        rows = point_examples(prefs, tokenizer, split="train", limits=Limits(MAX_LENGTH, MAX_PROMPT)).rows
        made: Any = trained(
            model, rows, [{"name": "sft"}], kind="responses", steps=STEPS, batch=BATCH, rate=RATE, seed=base.seed
        )
        made.save_pretrained(new)
