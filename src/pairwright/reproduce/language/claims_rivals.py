"""The claims that set relabelled training against its rivals: one for each, and one for all of them."""

from pairwright.reproduce.claim import Claim

_RAD = "arXiv 2410.08067"
_TABLE_8 = "with a Llama-3-8B and PairRM's scores of its own answers, reward-augmented 48.2 / 53.2"
_TABLE_12 = "from Zephyr-SFT, reward-augmented 16.66 / 13.37"
_UNIT = "win rates by AlpacaEval 2, length-controlled / raw"


def _against(rival: str, called: str, paper: str, source: str) -> Claim:
    """The claim against one rival; its check has the same name."""
    return Claim(
        name=f"ra_against_{rival}",
        says=f"At equal steps, relabelled DPO asked for the top score gives better answers than {called}.",
        paper=f"{paper} ({_UNIT}).",
        source=source,
        world="language",
        check=f"pairwright.reproduce.language.rivals:against_{rival}",
    )


_ALL = (
    _against(
        "rpo",
        "reward-aware preference optimisation (RPO)",
        f"RPO 40.8 / 41.7; {_TABLE_8}. Qwen2-7B: 20.29 / 17.34 against 31.17 / 27.58; Gemma-2-9B: 43.14 / 30.93 "
        "against 59.27 / 54.56",
        f"{_RAD}, tables 8 and 10; the rival: arXiv 2406.11704",
    ),
    _against("simpo", "SimPO", f"SimPO 44.7 / 40.5; {_TABLE_8}", f"{_RAD}, table 8; the rival: arXiv 2405.14734"),
    _against("ipo", "IPO", f"IPO 35.6 / 35.6; {_TABLE_8}", f"{_RAD}, table 8; the rival: arXiv 2310.12036"),
    _against("kto", "KTO", f"KTO 33.1 / 31.8; {_TABLE_8}", f"{_RAD}, table 8; the rival: arXiv 2402.01306"),
    _against(
        "r_dpo",
        "length-regularised DPO (R-DPO)",
        f"R-DPO 41.1 / 37.8; {_TABLE_8}",
        f"{_RAD}, table 8; the rival: arXiv 2403.19159",
    ),
    _against("orpo", "ORPO", f"ORPO 28.5 / 27.4; {_TABLE_8}", f"{_RAD}, table 8; the rival: arXiv 2403.07691"),
    _against("cpo", "CPO", f"CPO 28.9 / 32.2; {_TABLE_8}", f"{_RAD}, table 8; the rival: arXiv 2401.08417"),
    _against("rrhf", "RRHF", f"RRHF 31.3 / 28.4; {_TABLE_8}", f"{_RAD}, table 8; the rival: arXiv 2304.05302"),
    _against("slic", "SLiC-HF", f"SLiC 26.9 / 27.5; {_TABLE_8}", f"{_RAD}, table 8; the rival: arXiv 2305.10425"),
    _against(
        "nca",
        "NCA, on pairs or on scored groups",
        f"NCA on pairs 11.50 / 8.43, on scores 12.87 / 9.56; {_TABLE_12}",
        f"{_RAD}, table 12; the rival: arXiv 2402.05369",
    ),
    _against(
        "infonca",
        "InfoNCA on scored groups",
        f"InfoNCA on pairs 13.68 / 11.00, on scores 14.83 / 11.34; {_TABLE_12}",
        f"{_RAD}, table 12; the rival: arXiv 2402.05369",
    ),
    _against(
        "steerlm",
        "SteerLM's training, which learns each answer under its own score and is asked for the top one too",
        f"SteerLM raw 8.21; {_TABLE_12}",
        f"{_RAD}, table 12; the rival: arXiv 2310.05344",
    ),
    _against(
        "dpa",
        "DPA's training, which learns the best answer along a drawn direction and is asked for the best direction",
        f"DPA 11.13 / 10.58; {_TABLE_12}",
        f"{_RAD}, table 12; the rival: arXiv 2402.18571",
    ),
    _against(
        "c_rlft",
        "C-RLFT, which learns each answer under its class with that class's weight and is asked for the best class",
        "The released OpenChat model 17.43 / 11.36; reward-augmented with five attributes 56.57 / 52.19",
        f"{_RAD}, table 9; the rival: arXiv 2309.11235",
    ),
)

RIVALS: dict[str, Claim] = {claim.name: claim for claim in _ALL} | {
    "ra_first_of_all": Claim(
        name="ra_first_of_all",
        says="At equal steps, relabelled DPO asked for the top score gives better answers than DPO and fourteen "
        "other ways of training.",
        paper=f"First in tables 8, 10 and 12; in table 8, of ten, 48.2 / 53.2 against 44.7 / 40.5 of SimPO ({_UNIT}).",
        source=f"{_RAD}, tables 8, 10 and 12",
        world="language",
        check="pairwright.reproduce.language.rivals:ra_first_of_all",
    )
}
