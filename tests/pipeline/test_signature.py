"""What a verb's signature lets through."""

import pytest

from pairwright.errors import InputError
from pairwright.pipeline.signature import Setting, check


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), [1.0, float("inf")], {"a": float("nan")}])
def test_a_number_that_no_record_can_hold_is_refused(value):
    known = {"gap": Setting("gap", object, 0.0, "")}
    with pytest.raises(InputError, match=r"^relabel: gap: (nan|inf|-inf) is not a finite number$"):
        check(known, {"gap": value}, title="relabel")
    assert check(known, {"gap": [1.5]}, title="relabel") == {"gap": [1.5]}
