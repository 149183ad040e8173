"""The drawing of the way of the rows: widths are shares of the largest number of rows."""

from pairwright.preferences import Step
from pairwright.report.flow import flows
from pairwright.report.views import RunView, StepView


def corners(text):
    return [tuple(map(float, corner.split(","))) for corner in text.split()]


def widths(shape):
    """Of a shape above and below."""
    (a, _), (b, _), (c, _), (d, _) = corners(shape)
    return b - a, c - d


LINEAGE = [
    Step(name="read", rows_in=400, rows_out=300, dropped={"empty_answer": 100}),
    Step(name="split", rows_in=0, rows_out=0),
    Step(name="pair", rows_in=100, rows_out=100),
    Step(name="relabel", rows_in=100, rows_out=200),
]


def a_run(**of_training):
    data = StepView(number=1, name="data", lineage=LINEAGE)
    return RunView(name="run", steps=[data, StepView(number=2, name="dpo", verb="train", take="data", **of_training)])


def test_widths_are_shares_of_the_most_rows():
    """400 rows are 100 wide, so 300 are 75, 100 are 25 and 200 are 50."""
    (flow,) = flows(a_run(metrics=[{"step": 1, "loss": 0.5}]))
    assert (flow["names"], flow["data"]) == (["dpo"], "data")
    read, split, pair, relabel = flow["rows"]
    assert widths(read["kept"]) == (75.0, 75.0)
    assert widths(read["lost"]) == (25.0, 0.0)
    assert corners(read["lost"])[0] == (75.0, 0.0)
    assert read["made"] == ""
    assert widths(relabel["kept"]) == (25.0, 25.0)
    assert widths(relabel["made"]) == (0.0, 25.0)
    assert relabel["lost"] == ""
    assert (widths(pair["kept"]), pair["other"], relabel["other"]) == ((25.0, 25.0), True, False)
    assert (widths(split["kept"]), split["idle"], split["other"]) == ((75.0, 75.0), True, False)


def test_a_run_without_a_training_shows_the_way_of_its_last_data():
    (flow,) = flows(a_run())
    assert (flow["names"], flow["data"], len(flow["rows"])) == ([], "data", 4)


def test_trainings_on_the_same_data_share_a_drawing():
    run = a_run(metrics=[{"step": 1}])
    second = StepView(number=3, name="ipo", verb="train", take="data", metrics=[{"step": 1}])
    (flow,) = flows(run.model_copy(update={"steps": [*run.steps, second]}))
    assert flow["names"] == ["dpo", "ipo"]


def test_a_step_that_counts_nothing_breaks_nothing():
    odd = [Step(name="made by hand"), Step(name="read", rows_out=3), Step(name="all gone", rows_in=3, rows_out=0)]
    run = RunView(name="run", steps=[StepView(number=1, name="data", lineage=odd)])
    (flow,) = flows(run)
    assert widths(flow["rows"][2]["lost"]) == (100.0, 0.0)
    assert flows(RunView(name="run", steps=[StepView(number=1, name="bare")])) == []
