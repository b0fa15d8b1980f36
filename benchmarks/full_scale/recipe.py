"""The project that the mix at full scale is made in: params.yaml and the raw files, where `fetch` puts them.

Sources and mix are those of recipes/paper.yaml, with files made here, with the rules that the input is made
for, and with the benchmarks that are there: all of them below $PAIRMILL_DATA, or those of data/samples.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.full_scale import benchmarks
from benchmarks.full_scale.plan import RULES, TABLE_5
from benchmarks.full_scale.texts import data_folder
from pipeline.params import parse, read_file
from pipeline.source_params import Source
from pipeline.stages.mix import MixParams

PAPER = Path("recipes/paper.yaml")
MIX = "mix2"
RAW = Path("data/raw")
#: More than the paper's recipe takes: a hundredth of the families of a small input may be none.
TEST_FRACTION = 0.05


def prepare(project: Path, fraction: float) -> int:
    """Make raw files and params.yaml of a project, unless its raw files are there; gives their bytes."""
    manifest = project / RAW / "manifest.json"
    if not manifest.is_file():
        # In a process of its own: the kernel counts the memory of a stage's parent as the stage's.
        words = [sys.executable, "-m", "benchmarks.full_scale.input", str(project / RAW)]
        subprocess.run([*words, "--fraction", str(fraction)], check=True)
    folder, _ = data_folder()
    present = benchmarks.files(folder)
    for name, path in present.items():
        place = project / RAW / name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(path.resolve())
    made = json.loads(manifest.read_text(encoding="utf-8"))
    content = recipe({name: source["files"] for name, source in made.items()}, present)
    # JSON is YAML 1.2.
    (project / "params.yaml").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return sum(source["bytes"] for source in made.values())


def recipe(files: dict[str, list[str]], present: dict[str, Path]) -> dict[str, Any]:
    """The params of mix 2 for these raw files and benchmarks, as the stages will check them."""
    paper = read_file(PAPER)
    sources = {name: preference_source(paper["sources"][name], files[name], name) for name in TABLE_5}
    sources |= {name: benchmark_source(name, path) for name, path in present.items()}
    mix = paper["mixes"][MIX]
    mix = mix | {
        "decontaminate": mix["decontaminate"] | {"benchmarks": list(present)},
        "split": mix["split"] | {"test_fraction": TEST_FRACTION},
    }
    for name, source in sources.items():
        parse(f"sources.{name}", Source, source)
    parse(f"mixes.{MIX}", MixParams, mix)
    return {"sources": sources, "mixes": {MIX: mix}}


def kinds(project: Path) -> dict[str, str]:
    """The kind of each source of a prepared project, in order."""
    content = json.loads((project / "params.yaml").read_text(encoding="utf-8"))
    return {name: source["kind"] for name, source in content["sources"].items()}


def preference_source(section: dict[str, Any], files: list[str], name: str) -> dict[str, Any]:
    """A source of the paper's recipe with other files."""
    # The rows were just made: their digests, which only `fetch` reads, are not worth the time.
    named = [{"path": file, "sha256": None} for file in files]
    rules = section["rules"] | RULES.get(name, {})
    return section | {"origin": "path:raw", "files": named, "rules": rules, "max_bad_fraction": 0.05}


def benchmark_source(name: str, path: Path) -> dict[str, Any]:
    """A benchmark of the folder of real rows."""
    benchmark = benchmarks.BENCHMARKS[name]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "adapter": benchmark.adapter,
        "kind": "benchmarks",
        "origin": "path:raw",
        "files": [{"path": path.name, "sha256": digest}],
        "licence": "see the set",
        "redistributable": False,
        "rules": benchmark.rules,
        "max_bad_fraction": 0.05,
    }
