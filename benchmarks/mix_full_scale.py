"""The paper's mix 2 at its own scale, from raw files to train and test: time, memory, and how both grow.

The ten sources of Table 5 (848,965 pairs) are made by `full_scale.input`; then the stages run one after the
other, each in a process of its own as DVC runs it, on a tenth of the input and on all of it. The figure is
pairs of Table 5 per second at full size; there is no peer, for no other program does this. One run takes
minutes, so one is what `--repeats` is if not given. Making the input is not measured.

    python -m benchmarks.mix_full_scale [--fraction F] [--repeats N] [--keep FOLDER] [--prepare FOLDER]

`--fraction 0.1` measures a tenth of the input, and a hundredth to compare it with. `--keep` leaves input and
tables in a folder, where a next run finds the input. `--prepare` only makes a project folder with the input
and its params.yaml, to run single stages in. All of it takes about 5 GB of disk.
"""

import argparse
import os
import shutil
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.full_scale import recipe as recipe
from benchmarks.full_scale.checks import checked
from benchmarks.full_scale.plan import TABLE_5
from benchmarks.full_scale.processes import Cost, run_stage
from benchmarks.full_scale.texts import data_folder
from benchmarks.measure import Result, tell

STANDARD = Path("data/standard")
MIXED = Path("data/mixes") / recipe.MIX
PART = 0.1
"""Of the input that the whole is compared with."""
WITHIN_SECONDS, WITHIN_MIB, WITHIN_LINEAR = 600, 6 * 1024, 1.3


@dataclass(frozen=True)
class Run:
    """The stages on an input of one size."""

    costs: list[Cost]
    counts: dict[str, dict[str, Any]]
    """Rows in, kept and dropped by stage."""

    @property
    def seconds(self) -> float:
        """All stages, one after the other."""
        return sum(cost.seconds for cost in self.costs)

    @property
    def cpu_seconds(self) -> float:
        """All stages, all their threads."""
        return sum(cost.cpu_seconds for cost in self.costs)

    @property
    def peak_mib(self) -> int:
        """Of the stage that takes the most."""
        return max(cost.peak_mib for cost in self.costs)


def measured(project: Path, fraction: float) -> Run:
    """Run every stage of a prepared project anew, and check what they gave."""
    for made in (STANDARD, MIXED):
        shutil.rmtree(project / made, ignore_errors=True)
    costs = [
        run_stage(project, f"standardize@{name}", name, f"{recipe.RAW}/{name}", f"{STANDARD}/{kind}/{name}")
        for name, kind in recipe.kinds(project).items()
    ]
    inputs = (f"{STANDARD}/preferences", f"{STANDARD}/benchmarks")
    costs.append(run_stage(project, f"mix@{recipe.MIX}", recipe.MIX, *inputs, str(MIXED)))
    return Run(costs, checked(project, fraction, MIXED))


def result(part: list[Run], whole: list[Run], fraction: float, size: int) -> Result:
    """The figures; of several runs the one with the median time."""
    small, large = (sorted(runs, key=lambda run: run.seconds)[len(runs) // 2] for runs in (part, whole))
    pairs = sum(goal.part(fraction).pairs for goal in TABLE_5.values())
    linear = large.seconds / small.seconds * PART
    peak = max(run.peak_mib for run in whole)
    scale = "the paper's size" if fraction == 1 else f"{fraction:g} of the paper's size"
    return Result(
        name="mix_full_scale",
        ours=pairs / large.seconds,
        peer=None,
        ratio=None,
        unit="pairs/s",
        peer_is=None,
        input={"rows": pairs, "bytes": size},
        equality="Table 5's pairs and prompts of every source; rows in = kept + dropped; no prompt_id or "
        "cluster_id in both train and test",
        runs=len(whole),
        notes={
            "scale": scale,
            "texts_from": data_folder()[1],
            "seconds": round(large.seconds, 1),
            "cpu_seconds": round(large.cpu_seconds, 1),
            "peak_mib": peak,
            "linear": round(linear, 3),
            "linear_cpu": round(large.cpu_seconds / small.cpu_seconds * PART, 3),
            "part_seconds": round(small.seconds, 1),
            "part_peak_mib": max(run.peak_mib for run in part),
            "load": [round(load, 1) for load in os.getloadavg()],
            "limits": f"{WITHIN_SECONDS} s, {WITHIN_MIB} MiB, linear {WITHIN_LINEAR}",
            "within": (
                statistics.median(run.seconds for run in whole) < WITHIN_SECONDS
                and peak < WITHIN_MIB
                and linear <= WITHIN_LINEAR
            ),
            "stages": {
                cost.stage: vars(rounded(cost))
                | {"linear": round(cost.seconds / before.seconds * PART, 3)}
                | large.counts.get(cost.stage, {})
                for cost, before in zip(large.costs, small.costs, strict=True)
            },
        },
    )


def rounded(cost: Cost) -> Cost:
    """With tenths of seconds."""
    return Cost(cost.stage, round(cost.seconds, 1), round(cost.cpu_seconds, 1), cost.peak_mib)


def main() -> None:
    """Make the input, measure a tenth and the whole, tell."""
    parser = argparse.ArgumentParser(
        description="The paper's mix 2 at its own scale, from raw files to splits."
    )
    parser.add_argument("--fraction", type=float, default=1.0, help="of Table 5's pairs; 1 if not given")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each size; 1, for one takes minutes")
    parser.add_argument("--prepare", type=Path, help="make a project folder here and measure nothing")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave everything there")
    words = parser.parse_args()
    if words.prepare:
        recipe.prepare(words.prepare, words.fraction)
        return
    with tempfile.TemporaryDirectory(prefix="mix_full_scale.") as folder:
        place = words.keep or Path(folder)
        small, large = place / "part", place / "whole"
        recipe.prepare(small, words.fraction * PART)
        size = recipe.prepare(large, words.fraction)
        runs = [
            (measured(small, words.fraction * PART), measured(large, words.fraction))
            for _ in range(words.repeats)
        ]
    tell(result([a for a, _ in runs], [b for _, b in runs], words.fraction, size))


if __name__ == "__main__":
    main()
