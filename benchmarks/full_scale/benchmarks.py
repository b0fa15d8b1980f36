"""The benchmarks that the mix at full scale is kept clear of: their files, adapters and texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.full_scale.texts import SAMPLES, members, rows


@dataclass(frozen=True)
class Benchmark:
    """One set."""

    file: str
    """Below the folder of real rows."""
    sample: str | None
    """Below data/samples/benchmarks; None where there is no sample."""
    adapter: str
    rules: dict[str, Any]


BENCHMARKS = {
    "alpaca_eval": Benchmark(
        "alpaca-eval/alpaca_eval.jsonl.gz",
        "alpaca_eval/alpaca_eval.json",
        "benchmark",
        {"columns": ["instruction"]},
    ),
    "mt_bench": Benchmark("mt-bench/question.jsonl", None, "benchmark", {"columns": ["turns"]}),
    "gsm8k": Benchmark("gsm8k/test.jsonl.gz", "gsm8k/test.jsonl", "benchmark", {"columns": ["question"]}),
    "mmlu": Benchmark("mmlu/mmlu_csv.zip", "mmlu/test.jsonl", "mmlu", {"with_choices": False}),
    "humaneval": Benchmark(
        "humaneval/HumanEval.jsonl.gz", "humaneval/HumanEval.jsonl.gz", "benchmark", {"columns": ["prompt"]}
    ),
    "mbpp": Benchmark("mbpp/mbpp.jsonl.gz", None, "benchmark", {"columns": ["text"]}),
    "truthfulqa": Benchmark(
        "truthfulqa/TruthfulQA.csv.gz", "truthfulqa/TruthfulQA.csv", "benchmark", {"columns": ["Question"]}
    ),
    "arc": Benchmark("arc/ai2arc.jsonl.gz", None, "benchmark", {"columns": ["question.stem"]}),
}


def files(folder: Path) -> dict[str, Path]:
    """The file of each benchmark that there is."""
    if folder == SAMPLES:
        named = {name: SAMPLES / "benchmarks" / b.sample for name, b in BENCHMARKS.items() if b.sample}
    else:
        named = {name: folder / b.file for name, b in BENCHMARKS.items()}
    return {name: path for name, path in named.items() if path.is_file()}


def items(folder: Path) -> list[str]:
    """The texts of all benchmarks, of at least four words."""
    found: list[str] = []
    for name, path in files(folder).items():
        columns = BENCHMARKS[name].rules.get("columns", ["question"])
        if path.suffix == ".zip":
            found += [record[0] for record in members(path)]
        else:
            found += [text for row in rows(path) for column in columns for text in at(row, column.split("."))]
    return [text for text in found if text.count(" ") >= 3]


def at(value: Any, path: list[str]) -> list[str]:
    """The text or texts at the end of a path of keys."""
    for key in path:
        value = value.get(key)
    return value if isinstance(value, list) else [value]
