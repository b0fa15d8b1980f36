"""A small project that could be published: git, DVC, params and the outputs of every stage that a card cites.

The stages copy what is written here into place, so that dvc.lock is DVC's own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pipeline import tables
from pipeline.ids import answer_id, content_id, pair_id, prompt_id
from pipeline.ledger import Ledger
from pipeline.schemas import CANDIDATES, MIX, PAIRS, PREFERENCES, SLICE

LICENCES = {"alpha": ("MIT", "true"), "beta": ("CC-BY-NC-4.0", "false"), "gamma": ("Reddit terms", "true")}
MIXES = {"demo": ["alpha"], "tainted": ["alpha", "beta"], "odd": ["alpha", "gamma"]}
ITERATIONS = {"t1": "t0", "t2": "t1"}

GROUP = """\
  {verb}:
    foreach: ${{{over}}}
    do:
      cmd: mkdir -p {parent} && cp -r made/{path} {parent}/
      deps: ["made/{path}"]
      params: ["{params}"]
      outs: ["data/{path}"]
"""
PROMPTS_AND_RELEASE = """\
  prompts:
    cmd: mkdir -p data && cp -r made/prompts data/
    deps: [made/prompts]
    params: [prompts]
    outs: [data/prompts]
  release:
    cmd: python -m pipeline.stages.release data/iterations data/prompts data/release
    deps: [data/iterations, data/prompts]
    params: [iterations]
    outs: [data/release]
"""


def conversation(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def preference(source: str, row: int) -> dict:
    """Pair `row` of a source: the chosen answer is the longer one in three of four rows."""
    prompt = conversation(("system", "Be brief."), ("user", f"{source} asks |{row}|: caf\u00e9?"))
    short, long = (
        conversation(("assistant", text)) for text in (f"no {row}", f"yes, because {row} is right")
    )
    chosen, rejected = (short, long) if row % 4 == 3 else (long, short)
    return {
        "source": source,
        "file": "train.jsonl",
        "row": row,
        "item": 0,
        "prompt_id": prompt_id(prompt),
        "pair_id": pair_id(prompt, chosen, rejected),
        "chosen_id": answer_id(chosen),
        "rejected_id": answer_id(rejected),
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "chosen_score": 2.0 if row % 2 else None,
        "rejected_score": 1.0 if row % 2 else None,
        "chosen_by": "gpt-4",
        "rejected_by": None,
    }


def standardized(source: str) -> pl.DataFrame:
    """Twelve rows, of which the last two are dropped later."""
    return pl.DataFrame([preference(source, row) for row in range(12)], schema=PREFERENCES.schema)


def make_source(folder: Path, source: str) -> None:
    rows = standardized(source)
    bad = rows.head(1).with_columns(row=pl.lit(99, pl.Int64), reason=pl.lit("empty answer"))
    tables.write(PREFERENCES, rows, folder / "preferences.parquet")
    ledger = Ledger(f"standardize@{source}", "items")
    ledger.drop(bad)
    ledger.close(rows.height + 1, rows.height, folder)


def make_mix(folder: Path, name: str) -> None:
    rows = pl.concat([standardized(source) for source in MIXES[name]])
    kept = rows.filter(pl.col("row") < 10).with_columns(cluster_id=pl.col("prompt_id"))
    test = pl.col("row") < 2
    tables.write(MIX, kept.filter(~test).select(list(MIX.columns)), folder / "train.parquet")
    tables.write(MIX, kept.filter(test).select(list(MIX.columns)), folder / "test.parquet")
    ledger = Ledger(f"mix@{name}", "pairs")
    late = rows.filter(pl.col("row") >= 10)
    reason = pl.when(pl.col("row") == 10).then(pl.lit("exact duplicate")).otherwise(pl.lit("near duplicate"))
    ledger.drop(late.with_columns(reason=reason))
    ledger.close(rows.height, kept.height, folder)


def slice_of(iteration: str) -> pl.DataFrame:
    """Six prompts per iteration, no prompt in two."""
    rows = standardized("alpha").filter((pl.col("row") % 2) == list(ITERATIONS).index(iteration))
    return rows.with_columns(cluster_id=pl.col("prompt_id")).select(list(SLICE.columns))


def pairs_of(iteration: str) -> pl.DataFrame:
    """A pair for each prompt of the iteration's slice."""
    return pl.DataFrame([pair(iteration, row) for row in slice_of(iteration).to_dicts()], schema=PAIRS.schema)


def texts(iteration: str) -> tuple[str, str]:
    """The chosen and the rejected answer of every pair."""
    return f"a good answer of {iteration}", "bad"


def candidates_of(iteration: str) -> pl.DataFrame:
    """The two answers to each prompt of the iteration's slice."""
    rows = [
        {
            "candidate_id": content_id(row["prompt_id"], iteration, sample),
            **{name: row[name] for name in ("prompt_id", "prompt")},
            **{"policy": "policies/t0", "sample": sample, "temperature": 1.0, "response": text},
            "response_id": answer_id(conversation(("assistant", text))),
            **{"characters": len(text), "tokens": 5, "finish_reason": "stop"},
        }
        for row in slice_of(iteration).to_dicts()
        for sample, text in enumerate(texts(iteration))
    ]
    return pl.DataFrame(rows, schema=CANDIDATES.schema)


def pair(iteration: str, row: dict) -> dict:
    chosen, rejected = (conversation(("assistant", text)) for text in texts(iteration))
    margin = 0.5 + row["row"]
    return {
        "prompt_id": row["prompt_id"],
        "pair_id": pair_id(row["prompt"], chosen, rejected),
        "iteration": iteration,
        "chosen_id": content_id(row["prompt_id"], iteration, 0),
        "rejected_id": content_id(row["prompt_id"], iteration, 1),
        "chosen_ended": True,
        "rejected_ended": row["row"] % 3 > 0,
        "chosen_score": 1.0 + margin,
        "rejected_score": 1.0,
        "margin": margin,
        "judge": "reward",
    }


def make_iterations(made: Path) -> None:
    prompts = 0
    for name in ITERATIONS:
        tables.write(SLICE, slice_of(name), made / "prompts" / f"{name}.parquet")
        prompts += slice_of(name).height
        pairs = pairs_of(name)
        folder = made / "iterations" / name
        tables.write(PAIRS, pairs, folder / "pair" / "pairs.parquet")
        tables.write(CANDIDATES, candidates_of(name), folder / "generate" / "candidates.parquet")
        Ledger(f"generate@{name}", "candidates").close(24, 24, made / "iterations" / name / "generate")
        Ledger(f"pair@{name}", "prompts").close(
            pairs.height, pairs.height, made / "iterations" / name / "pair"
        )
        (made / "iterations" / name / "judge").mkdir()
        (made / "iterations" / name / "judge" / "judgments.parquet").write_bytes(b"not read by a card")
    Ledger("prompts", "prompts").close(prompts, prompts, made / "prompts")


def params() -> str:
    """params.yaml: the sections that the stages below record."""
    lines = ["sources:"]
    for name, (licence, free) in LICENCES.items():
        lines += [f"  {name}:", "    adapter: hh_rlhf", "    kind: preferences", f"    origin: path:{name}"]
        lines += [f"    licence: {licence}", f"    redistributable: {free}", "    rules: {}"]
        lines += [f"    files: [{{path: train.jsonl, sha256: '{'0' * 64}'}}]", "    max_bad_fraction: 0.5"]
    lines += ["mixes:", *(f"  {name}: {{sources: [{', '.join(used)}]}}" for name, used in MIXES.items())]
    lines += ["iterations:", *(f"  {name}: {{prev: {prev}}}" for name, prev in ITERATIONS.items())]
    return "\n".join([*lines, "pair: {min_margin: 0.25}", "prompts: {seed: 1}", ""])


def stages() -> str:
    """dvc.yaml: each stage copies its folder from made/ to data/; release is the real one."""
    groups = (
        ("fetch", "sources", "raw/${key}", "sources.${key}.origin"),
        ("standardize", "sources", "standard/preferences/${key}", "sources.${key}.adapter"),
        ("mix", "mixes", "mixes/${key}", "mixes.${key}"),
        *(
            (verb, "iterations", f"iterations/${{key}}/{verb}", "pair")
            for verb in ("generate", "judge", "pair")
        ),
    )
    texts = [
        GROUP.format(
            verb=verb, over=over, path=path, parent=f"data/{path}".rpartition("/")[0], params=section
        )
        for verb, over, path, section in groups
    ]
    return "".join(["stages:\n", *texts, PROMPTS_AND_RELEASE])


def environment() -> dict[str, str]:
    """The environment of a git and dvc that know nobody's settings."""
    here = Path(__file__).parent.parent
    who = {f"GIT_{role}_{what}": "tester" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "DVC_NO_ANALYTICS": "1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | who | nobody | {"PATH": path, "PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}


def run(folder: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program in the project."""
    return subprocess.run(
        words, cwd=folder, env=environment() | (env or {}), capture_output=True, text=True, check=False
    )


def must(folder: Path, *words: str) -> str:
    """Run a program in the project; it must succeed."""
    done = run(folder, *words)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def commit(folder: Path) -> None:
    must(folder, "git", "add", "-A")
    must(folder, "git", "commit", "-q", "-m", "state")


def build(folder: Path) -> Path:
    """The project, reproduced and committed."""
    made = folder / "made"
    for source in LICENCES:
        make_source(made / "standard" / "preferences" / source, source)
        (made / "raw" / source).mkdir(parents=True)
        (made / "raw" / source / "train.jsonl").write_text(source)
    for name in MIXES:
        make_mix(made / "mixes" / name, name)
    make_iterations(made)
    (folder / "params.yaml").write_text(params())
    (folder / "dvc.yaml").write_text(stages())
    (folder / ".gitignore").write_text("/data/\n/.pairmill/\n")
    must(folder, "git", "init", "-q")
    must(folder, "dvc", "init", "-q")
    must(folder, "dvc", "repro", "-q")
    commit(folder)
    return folder


def copy_of_project(factory: pytest.TempPathFactory, to: Path) -> Path:
    """A copy that a test may spoil; the project is built once per run."""
    built = factory.getbasetemp() / "published-project"
    if not built.exists():
        built.mkdir()
        build(built)
    shutil.copytree(built, to, symlinks=True)
    return to
