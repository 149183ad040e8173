"""The records of charts."""

import json
import math

from pairwright.charts import Chart, Series


def test_what_is_not_finite_is_a_gap_and_valid_json():
    series = Series(name="a", x=[1, 2.5, "x"], y=[math.nan, math.inf, 2], low=[-math.inf, 1.0, None])
    chart = Chart(id="c", title="t", says="s", x="x", y="y", series=[series])
    said = json.loads(json.dumps(chart.model_dump(mode="json"), allow_nan=False))["series"][0]
    assert said["y"] == [None, None, 2]
    assert said["low"] == [None, 1.0, None]
    assert said["x"] == [1, 2.5, "x"]
