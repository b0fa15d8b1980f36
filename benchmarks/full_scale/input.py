"""Raw files at the scale of the paper's mix 2, in the forms in which the Hub has them.

Ten sets in their upstream schemas whose rows give, by the rules of recipes/paper.yaml with `plan.RULES`, the
pairs and prompts of Table 5 of arXiv 2405.07863 and, on average, its lengths; beside them are rows that the
rules drop, in about the numbers that upstream has. The same seed gives the same rows.

    python -m benchmarks.full_scale.input OUT [--fraction F] [--only SOURCE ...]
"""

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.full_scale import paired, posts, rated, trees
from benchmarks.full_scale.benchmarks import items
from benchmarks.full_scale.kit import Kit, Rows
from benchmarks.full_scale.plan import TABLE_5
from benchmarks.full_scale.prompts import Prompts, Shared
from benchmarks.full_scale.texts import data_folder, pools, size
from benchmarks.full_scale.writing import write

SEED = 20_240_513
LEAVES = ("ultrafeedback", "hh_rlhf", "pku_saferlhf")
"""Sources whose prompts later ones repeat, in this order of making."""


@dataclass(frozen=True)
class Made:
    """What one source came to."""

    files: list[str]
    rows: int
    pairs: int
    prompts: int
    bytes: int
    """On disk."""


Maker = Callable[[Kit], Rows]
MAKERS: dict[str, tuple[Maker, str]] = {
    "ultrafeedback": (rated.ultrafeedback, "chat"),
    "hh_rlhf": (paired.hh_rlhf, "chat"),
    "pku_saferlhf": (paired.pku_saferlhf, "chat"),
    "shp": (posts.shp, "chat"),
    "helpsteer": (rated.helpsteer, "chat"),
    "ultrainteract": (trees.ultrainteract, "math"),
    "codeultrafeedback": (rated.codeultrafeedback, "code"),
    "argilla_math": (paired.argilla_math, "math"),
    "distilabel_orca": (paired.distilabel_orca, "chat"),
    "capybara_preferences": (paired.capybara_preferences, "chat"),
}


def make(out: Path, fraction: float = 1.0, only: tuple[str, ...] = ()) -> dict[str, Made]:
    """Write the raw files of each source below `out`, with `manifest.json`; gives what there is.

    With `only`, the other sources are left out; what is repeated across sources is then not the same.
    """
    folder, _ = data_folder()
    texts = items(folder)
    pool = pools(folder, texts)
    shared: Shared | None = None
    left: list[tuple[str, str, str]] = []
    made: dict[str, Made] = {}
    for name, (maker, kind) in MAKERS.items():
        if only and name not in only:
            continue
        started = time.monotonic()
        rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
        goal = TABLE_5[name].part(fraction)
        kit = Kit(rng, goal, pool[kind], Prompts(rng, pool[kind], texts, shared), fraction, [])
        files, rows = write(out / name, maker(kit))
        made[name] = Made(files, rows, goal.pairs, goal.prompts, sum_bytes(out / name))
        if name in LEAVES:
            left += kit.leaves
            ordered = sorted(left, key=lambda row: (size(row[0]), row[0]))
            shared = Shared(np.array([size(row[0]) for row in ordered]), ordered)
        told(name, made[name], time.monotonic() - started)
    content = {name: vars(source) for name, source in made.items()}
    (out / "manifest.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return made


def sum_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def told(name: str, source: Made, seconds: float) -> None:
    """A line on stderr."""
    sys.stderr.write(f"{name}: {source.rows} raw rows, {source.bytes / 1e6:.0f} MB, {seconds:.0f} s\n")


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description="Write raw files at the scale of the paper's mix 2.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", default=[], choices=MAKERS)
    words = parser.parse_args()
    make(words.out, words.fraction, tuple(words.only))


if __name__ == "__main__":
    main()
