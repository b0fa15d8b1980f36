"""Pay only for what is new: the calls to the engines after an edit, against the cells that are really new.

A project is made from the smoke recipe with prompts of its own, and models that are random instead of
trained; DVC runs the stages from the prompts to the first trained policy. Each scenario copies the project,
makes one edit and says `dvc repro`. Every answer of an engine is noted from outside the product
(benchmarks/counting); what should have been computed follows from the recipe and the tables, without the row
store, less what the first run computed. `extra_cells` counts answers beyond that, repeats included. The peer
is a workflow without a store, which computes all cells of a stage that runs.

    python -m benchmarks.incremental [--rows N]

Ends with status 1 if any scenario computed a cell too many or too few.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from benchmarks.counting.needed import Needed
from benchmarks.counting.projects import Outcome, Project
from benchmarks.measure import WORDS, Result, flags, tell
from pipeline import tables
from pipeline.engines.evaluation import KL_TEMPERATURE
from pipeline.engines.tiny_models import tiny_random
from pipeline.ids import prompt_id
from pipeline.params import load
from pipeline.schemas import HISTORY, SLICE
from pipeline.splits import borders, deal
from pipeline.stages.prompts import PromptsParams
from tests.smoke_project import change, clone, edited, environment, must

ROWS = 100
SHARD = 16
"""Rows of a shard in the scenario that is killed."""
WORKERS = 2
PROMPTS = ("fetch@dibt_10k", "standardize@dibt_10k", "prompts")
BENCHMARK = "gsm8k"
"""What the prompts are decontaminated against."""
FORCED = ("--force", "--no-run-cache")
EXECUTION = {
    **{"SAMPLE_BATCH": "3", "SCORE_BATCH_TOKENS": "300", "SHARD_ROWS": "5", "SHARD_SECONDS": "1"},
    **{"WORKERS": str(WORKERS), "THREADS": "1", "MICRO_BATCH": "1", "TENSOR_PARALLEL": "2"},
}


def texts(count: int) -> list[str]:
    """Prompts that have nothing to do with each other; a longer list begins with the shorter one."""
    drawn = random.Random(5)
    return [f"Question {i}: " + " ".join(drawn.choices(WORDS, k=12)) for i in range(count)]


def write_prompts(project: Path, prompts: list[str]) -> None:
    """Make these the prompts of the project, and pin them in the recipe."""
    file = project / "data" / "samples" / "questions" / "prompts.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    rated = {"avg_rating": 5.0, "num_responses": 3, "agreement_ratio": 1.0}
    file.write_text("".join(json.dumps({"prompt": text, **rated}) + "\n" for text in prompts))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    change(project, "sources.dibt_10k.origin", "path:data/samples/questions")
    change(project, "sources.dibt_10k.files", [{"path": "prompts.jsonl", "sha256": digest}])


def first_run(folder: Path, rows: int) -> Project:
    """One iteration with 8 samples per prompt, and slices without a cap, from nothing."""
    project = Project(clone(folder / "first"))
    for seed, name in enumerate(("base", "policies/t0", "offline_dpo", "reward", "pairwise")):
        tiny_random(project.folder / "models" / name, "smollm2", seed=seed)
    (project.folder / "data" / "standard" / "preferences").mkdir(parents=True)
    tables.write(HISTORY, HISTORY.empty(), project.folder / "data" / "history" / "t0" / "history.parquet")
    write_prompts(project.folder, texts(rows))
    with edited(project.folder) as recipe:
        dealt = {"slices": 2, "slice_share": 0.4, "per_slice": 10 * rows, "near_dedup": None}
        dealt |= {"validation_share": 0.1, "validation": 2 * rows}
        held_against = dict(recipe["prompts"]["decontaminate"]) | {"benchmarks": [BENCHMARK]}
        recipe["prompts"].update(dealt, decontaminate=held_against)
        recipe["iterations"] = {"t1": {"prev": "t0", "variant": "base"}}
        recipe["evaluate"]["temperature"] = KL_TEMPERATURE
    set_samples(project, 4)
    project.repro(
        *("recipe", f"fetch@{BENCHMARK}", f"standardize@{BENCHMARK}", *PROMPTS, "evaluate_baselines"),
        *("generate@t1", "judge@t1", "pair@t1", "gather@t1", "train@t1", "evaluate@t1"),
    )
    return project


def set_samples(project: Project, count: int) -> None:
    """`count` samples at each of two temperatures."""
    samples = [{"policy": "current", "temperature": heat, "count": count} for heat in (1.0, 0.7)]
    change(project.folder, "generate.samples", samples)


def slice_of(project: Project, name: str) -> pl.DataFrame:
    """A prompt slice of a project."""
    return tables.read(SLICE, project.folder / "data" / "prompts" / f"{name}.parquet")


def more_prompts(first: Project, stored: set[str], rows: int) -> Outcome:
    """+1% prompts: the samples and scores of those alone."""
    project, added = first.copy("prompts_plus_1_percent"), max(1, rows // 100)
    recipe = load("prompts", PromptsParams, project.folder / "params.yaml")
    new = [text for text in texts(2 * rows)[rows:] if dealt_to(text, recipe) == 1][:added]
    write_prompts(project.folder, texts(rows) + new)
    project.repro("recipe", *PROMPTS, "generate@t1", "judge@t1")
    assert slice_of(project, "t1").height - slice_of(first, "t1").height == added
    assert project.samples() == 8 * added
    needed = Needed(project.folder)
    return project.outcome(stored, needed.generate("t1"), needed.judge("t1"))


def dealt_to(text: str, recipe: PromptsParams) -> int:
    """The number of the slice that a prompt without relatives falls to."""
    number = pl.Series([int(prompt_id([{"role": "user", "content": text}]), 16)], dtype=pl.UInt64)
    ends = borders(recipe.slices, recipe.slice_share)
    hand = deal(number, ends=ends, validation_share=recipe.validation_share, seed=recipe.seed)
    return hand["slice"][0]


def more_samples(first: Project, stored: set[str], rows: int) -> Outcome:
    """n 8 -> 16: 8 more per prompt."""
    project = first.copy("samples_8_to_16")
    set_samples(project, 8)
    project.repro("generate@t1", "judge@t1")
    assert project.samples() == 8 * slice_of(project, "t1").height
    needed = Needed(project.folder)
    return project.outcome(stored, needed.generate("t1"), needed.judge("t1"))


def another_iteration(first: Project, stored: set[str], rows: int) -> Outcome:
    """T -> T+1: the cells of the new iteration alone."""
    project = first.copy("iteration_added")
    with edited(project.folder) as document:
        document["iterations"]["t2"] = {"prev": "t1", "variant": "base"}
    project.repro("generate@t2", "judge@t2", "pair@t2", "gather@t2", "train@t2", "evaluate@t2")
    needed = Needed(project.folder)
    stages = (needed.generate, needed.judge, needed.train, needed.evaluate)
    return project.outcome(stored, *(stage("t2") for stage in stages))


def other_settings(first: Project, stored: set[str], rows: int) -> Outcome:
    """Another batch, other workers and shards, and every stage forced to run: nothing.

    Training comes last: with another micro-batch its sums are rounded otherwise, and it makes a new model.
    """
    project = first.copy("execution_changed")
    stages = ["generate@t1", "judge@t1", "evaluate@t1", "train@t1"]
    settings = {f"PAIRMILL_{name}": value for name, value in EXECUTION.items()}
    needed = Needed(project.folder)
    own = [stage("t1") for stage in (needed.generate, needed.judge, needed.evaluate, needed.train)]
    for stage in stages:
        project.repro(stage, flags=FORCED, **settings)
    return project.outcome(stored, *own)


def shared_prompts(first: Project, stored: set[str], rows: int) -> Outcome:
    """Another iteration with the same policy, half of whose prompts are those of the first one."""
    project = first.copy("prompts_shared")
    old, new = slice_of(project, "t1"), slice_of(project, "t2")
    half = old.height // 2
    asked = pl.concat([old.head(half), new.head(half)]).sort("prompt_id")
    tables.write(SLICE, asked, project.folder / "both.parquet")
    needed = Needed(project.folder)
    models = needed.iteration("t1")
    folders = [str(models[role].relative_to(project.folder)) for role in ("current", "variant")]
    words = ["python", "-m", "pipeline.stages.generate", "t2", "both.parquet", *folders, "data/both"]
    must(project.folder, *words, env=project.variables())
    assert project.samples() == 8 * half
    return project.outcome(stored, needed.answers(asked, models))


def another_judge(first: Project, stored: set[str], rows: int) -> Outcome:
    """The pairwise model judges the same candidates, all pairs of them: no sample is drawn."""
    project = first.copy("judge_changed")
    change(project.folder, "judge.kind", "pairwise")
    change(project.folder, "judge.model", "models/pairwise")
    change(project.folder, "judge.ranking", "round_robin")
    project.repro("judge@t1")
    assert project.samples() == 0
    return project.outcome(stored, Needed(project.folder).judge("t1"))


def killed(first: Project, stored: set[str], rows: int) -> Outcome:
    """kill -9 midway, with an empty store, and again: at most one shard per worker is computed twice."""
    project = first.copy("killed_and_resumed")
    shutil.rmtree(project.folder / ".pairmill" / "store")
    needed = Needed(project.folder).generate("t1")
    own = {"PAIRMILL_SHARD_ROWS": str(SHARD), "PAIRMILL_WORKERS": str(WORKERS)}
    slow = environment() | project.variables(CALLS_SECONDS="0.02") | own
    words = ["dvc", "repro", "--single-item", *FORCED, "generate@t1"]
    run = subprocess.Popen(
        words,
        cwd=project.folder,
        env=slow,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(project.calls()) < len(needed) // 2 and run.poll() is None:
        time.sleep(0.02)
    assert run.poll() is None, "the run ended before it could be killed"
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    project.repro("generate@t1", flags=FORCED, **own)
    return project.outcome(set(), needed, allowed=SHARD * WORKERS)


SCENARIOS: dict[str, Callable[[Project, set[str], int], Outcome]] = {
    "prompts_plus_1_percent": more_prompts,
    "samples_8_to_16": more_samples,
    "iteration_added": another_iteration,
    "execution_changed": other_settings,
    "prompts_shared": shared_prompts,
    "judge_changed": another_judge,
    "killed_and_resumed": killed,
}


def measured(folder: Path, rows: int) -> Result:
    """The result of all scenarios."""
    first = first_run(folder, rows)
    stored, needed = set(first.calls()), Needed(first.folder)
    own = (needed.generate, needed.judge, needed.train, needed.evaluate)
    # The first run asks for more (judges and baselines), so of what it computes only repeats are wrong.
    outcomes = {"first_run": first.outcome(set(), stored, *(stage("t1") for stage in own))}
    outcomes |= {name: scenario(first, stored, rows) for name, scenario in SCENARIOS.items()}
    later = [outcomes[name] for name in SCENARIOS]
    ours, peer = (sum(map(len, cells)) for cells in ([o.calls for o in later], [o.needed for o in later]))
    return Result(
        name="incremental",
        ours=ours,
        peer=peer,
        ratio=peer / ours,
        unit="answers of engines",
        peer_is="the same stages without a row store",
        input={"rows": rows, "bytes": sum(map(len, texts(rows)))},
        equality="the cells computed and those that are new, in each scenario",
        runs=1,
        classes={name: outcome.figures() for name, outcome in outcomes.items()},
        extra_cells={name: outcome.extra for name, outcome in outcomes.items()},
    )


def main() -> None:
    """Run all scenarios in a temporary folder, tell, and fail where a cell is too many or missing."""
    words = flags(__doc__ or "", rows=ROWS).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measured(Path(folder), words.rows)
    tell(result)
    wrong = [
        name
        for name, found in (result.classes or {}).items()
        if found["missing_cells"] or found["extra_cells"]
    ]
    sys.exit(f"cells too many or missing: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
