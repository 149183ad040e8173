"""A run with a sweep: trainings that differ in beta and seed, and a diagnosis of each, for the tests of the page."""

import json
from pathlib import Path

from explored import log, made_step, pairs_of
from pairwright.charts import Chart, Series
from pairwright.diagnose.finding import Diagnosis, Finding, Part
from pairwright.evaluate.result import Metric, Result
from pairwright.runs import write_text

BETAS = (1.0, 0.1, 0.01)
SEEDS = (1, 2)
HOSTILE = "</script><b onclick=alert(1)>x\u202e"


def trainings(betas=BETAS) -> list[tuple[str, float, int]]:
    return [(f"dpo-{beta:g}-{seed}", beta, seed) for beta in betas for seed in SEEDS]


def fall(beta: float, seed: int) -> float:
    """What the diagnosis found in a training: the smaller beta, the further it fell."""
    return -1.0 / beta - seed / 4


def found(subject: str, value: float) -> Finding:
    return Finding(
        check="likelihood_displacement",
        subject=subject,
        level="warning" if value < -50 else "note" if value < -5 else "fine",
        says=f"It fell by {value} {HOSTILE}",
        value=value,
        low=value - 0.5,
        high=value + 0.5,
        n=64,
        means="It means something.",
        remedy="Try `beta`." if value < -5 else "",
        source="arXiv 1234.56789",
    )


def part_of(subject: str, value: float) -> Part:
    start = Series(name="start", x=[0, 10], y=[0.0, 0.0], reference=True)
    change = Chart(
        id="change",
        title="Change",
        says="What changed.",
        x="step",
        y="nats",
        series=[
            Series(name="chosen", x=[0, 10], y=[0.0, value], low=[0.0, value - 1], high=[0.0, value + 1]),
            Series(name="rejected", x=[0, 10], y=[0.0, 2 * value]),
            start,
            Series(name="smoothed", x=[0, 10], y=[0.0, value / 2], reference=True),
        ],
    )
    cloud = Series(name="prompts", x=[value, 2 * value], y=[1.0, 2.0])
    lengths = Chart(id="cloud", title="Cloud", says="", x="a", y="b", kind="points", series=[cloud])
    metrics = (Metric(name="change", value=value, low=value - 0.5, high=value + 0.5, n=64, says="what changed"),)
    return Part(
        name="displacement",
        subject=subject,
        title="Where it goes",
        result=Result(name="displacement", n=64, metrics=metrics, notes=("said of all", f"said of {subject}")),
        findings=(found(subject, value),),
        charts=(change, lengths),
    )


def budget(names: list[tuple[str, float, int]]) -> Part:
    size = range(len(names))
    points = Series(name="dpo", x=[float(i) for i in size], y=[2.0 * i for i in size], labels=[n for n, _, _ in names])
    law = Series(name="law", x=[0, 5], y=[1, 2], reference=True)
    chart = Chart(id="score", title="Score by distance", says="", x="d", y="score", kind="points", series=[points, law])
    subject = ", ".join(name for name, _, _ in names)
    result = Result(name="budget", n=len(names), metrics=(), notes=tuple(f"note {i}" for i in range(9)))
    return Part(name="budget", subject=subject, title="What it bought", result=result, charts=(chart,))


def swept_run(root: Path, betas=BETAS) -> Path:
    """Data, a start, trainings of a sweep, what two models wrote, and a diagnosis in which the budget comes last."""
    names = trainings(betas)
    made_step(root, 1, "data", "read", lambda d: pairs_of(["a", "b"], ["c", "d"]).save(d / "data"))
    made_step(root, 2, "start", "train", log, **{"from": "data"}, loss="sft", seed=3)
    for i, (name, beta, seed) in enumerate(names, 3):
        made_step(root, i, name, "train", log, **{"from": "data"}, loss="dpo", model="step:start", beta=beta, seed=seed)
    last = names[-1][0]
    made_step(root, 90, "answers", "generate", lambda d: None, model=f"step:{last}")
    made_step(root, 91, "gold", "score", lambda d: None, **{"from": "answers"})
    parts = [part_of(name, fall(beta, seed)) for name, beta, seed in names]
    diagnosis = Diagnosis(runs=(root.name,), parts=(*parts, budget(names)))
    write_text(root / "diagnosis.json", diagnosis.to_json())
    return root


def island_of(page: str) -> dict[str, dict]:
    """The charts that a page draws, by their ids."""
    text = page.split('<script type="application/json" id="charts">', 1)[1].split("</script>", 1)[0]
    return {chart["id"]: chart for chart in json.loads(text)}
