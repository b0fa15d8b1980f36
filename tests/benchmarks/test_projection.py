"""The limits of the projection's benchmark: what is beyond one is named, what is at one is not."""

import pytest

from benchmarks.measure import Result
from benchmarks.projection import LOOKUP_SECONDS, PROJECTION_MIB, PROJECTION_SECONDS, beyond


def result(side: str, what: str, more: float) -> Result:
    """A result at all limits, of which one figure is `more`."""
    most = {"seconds": PROJECTION_SECONDS, "peak_mib": PROJECTION_MIB}
    told = {"ours": {**most}, "scattered": {**most}, "stage": {**most}}
    told["lookup"] = {"seconds": LOOKUP_SECONDS, "peak_mib": PROJECTION_MIB}
    told[side][what] += more
    ours = told.pop("ours")
    return Result(
        name="projection",
        ours=ours["seconds"],
        peer=None,
        ratio=None,
        unit="s",
        peer_is=None,
        input={"rows": 160_000, "bytes": 1},
        equality="",
        runs=1,
        notes={"peak_mib": ours["peak_mib"], **told},
    )


@pytest.mark.parametrize("what", ["seconds", "peak_mib"])
@pytest.mark.parametrize("side", ["ours", "scattered", "stage"])
def test_a_projection_beyond_its_time_or_memory_is_named(side, what):
    assert beyond(result(side, what, 0)) == []
    (line,) = beyond(result(side, what, 1))
    assert line.startswith(f"{side}: expected at most") and what in line


def test_a_look_up_beyond_its_time_is_named():
    (line,) = beyond(result("lookup", "seconds", 1))
    assert line.startswith("lookup: expected at most 10 seconds")
