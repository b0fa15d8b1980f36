"""Damaged raw files for every adapter, and what `standardize` makes of them.

    python -m tests.fuzz [--files N] [--seed S] [ADAPTER ...]

A file is a few valid rows, damaged as rows, written in a format, and perhaps damaged again as bytes. The
run ends in one of two ways: with tables in which every item is kept or dropped, or with a UserError of one
line. Everything else is a failure and is printed with what reproduces it.
"""

import argparse
import json
import random
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from pipeline import sources
from pipeline.errors import UserError
from pipeline.params import parse
from pipeline.source_params import Source
from pipeline.stages.standardize import standardize
from tests.damage import damaged_bytes, damaged_rows
from tests.raw_files import packed, written
from tests.sample_defects import rows_of
from tests.sources.examples import EXAMPLES

#: The sample file whose rows an adapter reads with the rules of its example.
SAMPLE_FILES = {
    "alpaca": "gpt4_llm/alpaca_gpt4_data.json",
    "argilla_math": "argilla_math/data/train-00000-of-00001.parquet",
    "capybara_preferences": "capybara_preferences/data/train-00000-of-00001.parquet",
    "codeultrafeedback": "codeultrafeedback/data/train-00000-of-00001.parquet",
    "dibt": "dibt_10k/data/train-00000-of-00001.parquet",
    "distilabel_orca": "orca_dpo_pairs/data/train-00000-of-00001.parquet",
    "helpsteer": "helpsteer/train.jsonl.gz",
    "helpsteer2": "helpsteer2/preference/preference.jsonl.gz",
    "hh_rlhf": "hh_rlhf/helpful-base/train.jsonl.gz",
    "mmlu": "benchmarks/mmlu/test.jsonl",
    "nectar": "nectar/data/rlaif.parquet",
    "pku_saferlhf": "pku_saferlhf/train.jsonl.gz",
    "reward_bench": "benchmarks/reward_bench/filtered.jsonl",
    "sharegpt": "sharegpt/ShareGPT_V3_unfiltered_cleaned_split.json",
    "shp": "shp/askculinary/train.json",
    "summarize_from_feedback": "summarize_from_feedback/comparisons/batch3.json",
    "ultrafeedback": "ultrafeedback/flan.jsonl",
    "ultrainteract": "ultrainteract/0000_pair.parquet",
}
ROWS = 5


@dataclass
class Tally:
    """How the files of one adapter ended."""

    whole: int = 0
    """Standardized, every item accounted for."""
    stopped: Counter[str] = field(default_factory=Counter)
    """By the beginning of the message that stopped them."""
    failures: list[str] = field(default_factory=list)

    @property
    def files(self) -> int:
        return self.whole + self.stopped.total() + len(self.failures)


def fuzz(adapter: str, files: int, seed: int, folder: Path) -> Tally:
    """Standardize `files` damaged files of one adapter."""
    tally = Tally()
    for number in range(files):
        run = f"{adapter} {seed} {number}"
        name, content, how = damaged_file(adapter, random.Random(run))
        try:
            stopped = outcome(adapter, folder, name, content)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - any failure is looked for; a panic of Polars is no Exception
            tally.failures.append(f"{run}: {name}: {how}\n{traceback.format_exc(limit=-4)}")
        else:
            tally.whole += stopped is None
            tally.stopped.update([] if stopped is None else [stopped[:40]])
    return tally


def damaged_file(adapter: str, rng: random.Random) -> tuple[str, bytes, str]:
    """A file name, its bytes and what was done to them; each part of the damage may be absent."""
    rows, how = base_rows(adapter, rng), []
    if rng.random() < 0.7:
        rows, how = damaged_rows(rows, rng)
    name, content = written(rows, rng)
    if rng.random() < 0.3:
        content, damage = damaged_bytes(content, rng)
        how.append(damage)
    name, content = packed(name, content, rng)
    if rng.random() < 0.15 or not how:
        content, damage = damaged_bytes(content, rng)
        how.append(damage)
    return name, content, ", ".join(how)


def base_rows(adapter: str, rng: random.Random) -> list[dict[str, Any]]:
    """The example's row, and neighbours of the sample file, or the example's again."""
    example = EXAMPLES[adapter][1]
    file = SAMPLE_FILES.get(adapter)
    samples = rows_of(file) if file else [example] * ROWS
    start = rng.randrange(len(samples) - ROWS + 2)
    return json.loads(json.dumps([example, *samples[start : start + ROWS - 1]]))


def outcome(adapter: str, folder: Path, name: str, content: bytes) -> str | None:
    """None where the file was standardized and accounts for every item, else the UserError's words."""
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / name).write_bytes(content)
    try:
        counts: Any = standardize("fuzz", section(adapter, name), folder / "raw", folder / "out")
    except UserError as error:
        said = str(error)
        assert said, "an error without words"
        assert "\n" not in said, f"more than a line: {said!r}"
        assert len(said) < 4000, f"{len(said)} characters"
        return said.removeprefix(name).removeprefix(": ")
    finally:
        (folder / "raw" / name).unlink()
    kind = sources.adapter(adapter).KIND
    tables = (folder / "out" / f"{kind}.parquet", folder / "out" / "ledger.parquet")
    kept, dropped = (pq.read_metadata(table).num_rows for table in tables)
    assert counts["in"] == counts["kept"] + sum(counts["dropped"].values())
    assert (kept, dropped) == (counts["kept"], sum(counts["dropped"].values()))
    return None


def section(adapter: str, name: str) -> Source:
    """The source of params.yaml that reads the damaged file; any part of it may be bad."""
    return parse(
        "sources.fuzz",
        Source,
        {
            "adapter": adapter,
            "kind": sources.adapter(adapter).KIND,
            "origin": "path:here",
            "files": [{"path": name, "sha256": None}],
            "licence": "CC0-1.0",
            "redistributable": True,
            "rules": EXAMPLES[adapter][0],
            "max_bad_fraction": 1.0,
        },
    )


def main() -> None:
    """Fuzz the named adapters, or all; status 1 where a file failed."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    words.add_argument("adapters", nargs="*", default=sources.names())
    words.add_argument("--files", type=int, default=200)
    words.add_argument("--seed", type=int, default=1)
    asked = words.parse_args()
    failed = False
    for adapter in asked.adapters or sources.names():
        with TemporaryDirectory() as folder:
            tally = fuzz(adapter, asked.files, asked.seed, Path(folder))
        failed |= bool(tally.failures)
        sys.stdout.writelines(f"{line}\n" for line in printed(adapter, tally))
    sys.exit(1 if failed else 0)


def printed(adapter: str, tally: Tally) -> Iterator[str]:
    """How the files ended, the messages that stopped some, and the failures."""
    counts = f"{tally.whole} accounted for, {tally.stopped.total()} stopped, {len(tally.failures)} failed"
    yield f"{adapter}: {counts}"
    for said, count in tally.stopped.most_common():
        yield f"    {count:4} {said}"
    yield from tally.failures


if __name__ == "__main__":
    main()
