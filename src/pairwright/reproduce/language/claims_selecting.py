"""Claims about which pairs to train on, by a metric, a share or over rounds, in the world of language."""

from pairwright.reproduce.claim import Claim

_PAPER = "arXiv 2503.01864"
_HOME = "pairwright.reproduce.language.selecting"

SELECTING: dict[str, Claim] = {
    "potential_top_40": Claim(
        name="potential_top_40",
        says="Under a judge that errs, DPO on the 40% of the pairs by alignment potential gives a higher gold score "
        "than on as many by explicit gap, by a small implicit margin, by the signed variant M_+, or drawn evenly, at "
        "equal steps.",
        paper="Alignment potential first among the metrics at equal size.",
        source=f"{_PAPER}, main results",
        world="language",
        check=f"{_HOME}:potential_top_40",
    ),
    "potential_picks_right_labels": Claim(
        name="potential_picks_right_labels",
        says="More of the labels are right among the 40% of the pairs by alignment potential than by its signed "
        "variant M_+, whether the judge errs little or much.",
        paper="The pairs by potential agree with GPT-4 more than those by M_+, which ranks mislabelled pairs high.",
        source=f"{_PAPER}, figures 2 and 3",
        world="language",
        check=f"{_HOME}:potential_picks_right_labels",
    ),
    "potential_over_sizes": Claim(
        name="potential_over_sizes",
        says="Whatever the share of the pairs, 20%, 40% or 60%, those by alignment potential give a higher gold score "
        "than as many drawn evenly.",
        paper="The gain persists with the size of the data.",
        source=f"{_PAPER}, main results",
        world="language",
        check=f"{_HOME}:potential_over_sizes",
    ),
    "potential_over_rounds": Claim(
        name="potential_over_rounds",
        says="In three rounds of self-play, training on the 40% of a round's pairs by alignment potential gives a "
        "higher gold score after every round than on as many drawn evenly.",
        paper="The gain persists over iterations of self-play.",
        source=f"{_PAPER}, self-play",
        world="language",
        check=f"{_HOME}:potential_over_rounds",
    ),
    "self_play_rounds": Claim(
        name="self_play_rounds",
        says="A policy that answers new instructions, whose answers a judge scores, and that trains on them, is better "
        "after each of three rounds than before it.",
        paper="Each iteration of self-play improves the model.",
        source=f"{_PAPER}, self-play",
        world="language",
        check=f"{_HOME}:self_play_rounds",
    ),
}
