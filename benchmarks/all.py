"""Run every benchmark and write docs/benchmarks.md.

python -m benchmarks.all [--out FILE] [--whole]

The mix at full scale takes ten minutes or more with the making of its input: without --whole it is run on a
tenth of the paper's size, and compared with a hundredth.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NAMES = (
    *("standardize", "dedup", "decontaminate", "packing", "pairs", "mix_full_scale", "startup"),
    *("generation_transformers", "generation_vllm", "scoring", "projection", "incremental"),
    "reference_memory",
)
#: What a benchmark needs besides the extras of `make setup`; without it the benchmark is left out.
PACKAGES = {"generation_vllm": "vllm"}
MODEL = ("generation_transformers", "generation_vllm", "scoring")
"""Benchmarks that take a model and a type of numbers."""
BASE = Path("models/base")

HEAD = """\
# Benchmarks

`make bench` writes this page. Each line is the last line of `python -m benchmarks.<name>`: the median of
`runs` runs of ours and of the peer, taken in turns, after both were checked to give the same result.
Figures on GPUs are on [another page](gpu.md), to which `make gpu-check` adds lines; this one is replaced.

Machine: {cores} CPU cores, {memory} GiB of memory; Python {python}, polars {polars},
datasets {datasets}, transformers {transformers}, TRL {trl}, torch {torch}.

| benchmark | ours | peer | times as fast, or as small | unit | runs | input | checked to be equal | peer is |
|---|---|---|---|---|---|---|---|---|
"""


def run(name: str, *, whole: bool) -> dict[str, Any]:
    """The JSON line of one benchmark."""
    words = [sys.executable, "-m", f"benchmarks.{name}"]
    if name in MODEL and BASE.is_dir():
        words += ["--model", str(BASE), "--dtype", "bfloat16"]
    if name == "reference_memory" and BASE.is_dir():
        words += ["--model", str(BASE)]
    if name == "mix_full_scale" and not whole:
        words += ["--fraction", "0.1"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def lacks(name: str) -> bool:
    """Whether a package that the benchmark needs is not installed."""
    return name in PACKAGES and find_spec(PACKAGES[name]) is None


def page(results: list[dict[str, Any]], left_out: Sequence[str] = ()) -> str:
    """The results as Markdown, and the names of the benchmarks that were left out."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    packages = {name: version(name) for name in ("polars", "datasets", "transformers", "trl", "torch")}
    head = HEAD.format(
        cores=os.cpu_count(),
        memory=round(pages * size / 2**30),
        python=platform.python_version(),
        **packages,
    )
    told = [*map(notes, results), *(f"- `{name}`: not run, without {PACKAGES[name]}." for name in left_out)]
    return head + "\n".join(map(line, results)) + "\n\n" + "\n".join(told) + "\n"


def line(result: dict[str, Any]) -> str:
    """One row of the table."""
    taken = result["input"]
    cells = [
        f"`{result['name']}`",
        figure(result["ours"]),
        figure(result["peer"]),
        figure(result["ratio"]),
        result["unit"],
        str(result["runs"]),
        f"{taken['rows']:,} rows, {taken['bytes'] / 1e6:,.1f} MB",
        result["equality"],
        result["peer_is"] or "none",
    ]
    return f"| {' | '.join(cells)} |"


def notes(result: dict[str, Any]) -> str:
    """What a benchmark measured besides; a line below it for whatever has parts."""
    measured = {
        key: result[key] for key in ("recall", "precision", "classes", "extra_cells") if key in result
    }
    found = result["notes"] | measured
    parts = {key: value for key, value in found.items() if isinstance(value, dict)}
    lines = [f"- `{result['name']}`: {plain(found) or 'nothing else'}."]
    for key, value in parts.items():
        inner = {name: part for name, part in value.items() if isinstance(part, dict)}
        lines.append(f"  - {key.replace('_', ' ')}: {plain(value)}".rstrip(" :"))
        lines += [f"    - {name}: {plain(part)}" for name, part in inner.items()]
    return "\n".join(lines)


def plain(values: dict[str, Any]) -> str:
    """The values that have no parts."""
    told = {key: value for key, value in values.items() if not isinstance(value, dict)}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in told.items())


def figure(value: float | None) -> str:
    """Three significant digits, or a dash."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Run all, write the page."""
    parser = argparse.ArgumentParser(description="Run every benchmark and write the page.")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--whole", action="store_true", help="run the mix at the paper's own scale")
    words = parser.parse_args()
    results, left_out = [], list(filter(lacks, NAMES))
    for name in sorted(set(NAMES) - set(left_out), key=NAMES.index):
        results.append(run(name, whole=words.whole))
        sys.stdout.write(json.dumps(results[-1]) + "\n")
        sys.stdout.flush()
    words.out.write_text(page(results, left_out), encoding="utf-8")


if __name__ == "__main__":
    main()
