"""The `pairmill` command: what a person asks of the project beside `dvc repro`.

    pairmill publish mixes/<name> --repo org/name      also iterations/<t>, release
    pairmill sources [ADAPTER ...] [--json]            what can be read, under which licence, by which rule
    pairmill doctor                                    is this checkout fit to run?
    pairmill plan [STAGE ...] [--all] [--json]         what would run, which rows it computes, how long
    pairmill store stats [--json]                      the row store: what it holds, and who asks it
    pairmill store gc [--dry-run]                      remove the rows that the recipe does not ask
    pairmill compare FOLDER ... [--against POLICY]     policies of several runs of a recipe, such as of seeds
    pairmill costs                                     wall time and peak memory of each stage that ran here

Exit status: 0 done, 1 the doctor found something, 2 a user's mistake.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline import edge
from pipeline import sources as adapters
from pipeline.doctor import Finding, examine
from pipeline.errors import UserError
from pipeline.params import PARAMS_FILE, load
from pipeline.publishing import gather, upload, write_folder
from pipeline.source_listing import Known, adapter_lines, record, source_rows
from pipeline.source_params import Source


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="pairmill", description="Questions and orders beside `dvc repro`.")
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "publish", help="put a mix or the pairs of iterations on the Hugging Face Hub"
    )
    command.add_argument("target", help="mixes/<name>, iterations/<t> or release")
    command.add_argument(
        "--repo", required=True, metavar="ORG/NAME", help="data set repository, made if need be"
    )
    command.add_argument("--public", action="store_true", help="a new repository is private without this")
    command.add_argument(
        "--accept-licences", action="store_true", help="publish rows of sources that are not redistributable"
    )
    command.add_argument(
        "--dry-run", type=Path, metavar="DIR", help="write the folder to DIR and upload nothing"
    )
    command.set_defaults(run=publish)

    command = commands.add_parser(
        "sources", help="adapters with their data sets, licences and rules; and the sources of params.yaml"
    )
    command.add_argument("adapters", nargs="*", metavar="ADAPTER", help="only these; default: every adapter")
    command.add_argument("--json", action="store_true", help="for machines")
    command.set_defaults(run=sources)

    command = commands.add_parser(
        "doctor",
        help="check params, pipeline, disk and base model; or whether the judges' scores can be trusted",
    )
    command.set_defaults(run=doctor)
    patients = command.add_subparsers(metavar="WHAT")
    patient = patients.add_parser(
        "judges", help="score built-in conversations alone, batched, reordered and padded with each model"
    )
    patient.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help="models; default: those of the recipe that exist",
    )
    patient.set_defaults(run=doctor_judges)

    command = commands.add_parser(
        "plan", help="which stages would run, how many rows each would compute, and how long that takes"
    )
    command.add_argument("targets", nargs="*", metavar="STAGE", help="as for dvc repro; default: every stage")
    command.add_argument("--all", action="store_true", help="list stages that are up to date, too")
    command.add_argument("--json", action="store_true", help="for machines")
    command.set_defaults(run=plan_repro)

    add_store(commands)

    command = commands.add_parser(
        "compare", help="the policies of several runs of a recipe, such as one per seed, against one of them"
    )
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="checkouts that were run")
    command.add_argument("--against", default="t0", metavar="POLICY", help="default: t0")
    command.set_defaults(run=compare)

    command = commands.add_parser("costs", help="wall time and peak memory of each stage, as last run here")
    command.set_defaults(run=costs)
    return root


def add_store(commands: Any) -> None:
    """The command line of `store`."""
    group = commands.add_parser(
        "store", help="the row store: what it holds, and removal of what is not asked"
    )
    orders = group.add_subparsers(required=True, metavar="ORDER")

    command = orders.add_parser("stats", help="each set of cells: what computes it, who asks it, its size")
    command.add_argument("--json", action="store_true", help="for machines")
    command.set_defaults(run=store_stats)

    command = orders.add_parser("gc", help="remove the rows that no stage of the recipe asks")
    command.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    command.add_argument(
        "--older-than", type=float, default=1.0, metavar="DAYS", help="younger rows stay (default: 1)"
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="where it cannot be told what a stage asks, keep all that it might",
    )
    command.set_defaults(run=store_gc)


def publish(words: argparse.Namespace) -> int:
    """Write the folder of a target, and upload it unless this is a dry run."""
    what = gather(words.target)
    if words.dry_run:
        facts = write_folder(what, words.repo, words.dry_run, accepted=words.accept_licences)
        say(f"{facts.every.rows:,} pairs in {words.dry_run}, nothing uploaded")
        return 0
    with TemporaryDirectory(prefix="pairmill-") as folder:
        facts = write_folder(what, words.repo, Path(folder), accepted=words.accept_licences)
        address = upload(Path(folder), words.repo, what.target, public=words.public)
    say(f"{facts.every.rows:,} pairs in {words.repo}: {address}")
    return 0


def sources(words: argparse.Namespace) -> int:
    """Every adapter with what it reads, and a line per source of params.yaml, where there is such a file."""
    recipe = load("sources", dict[str, Source], Path(PARAMS_FILE)) if Path(PARAMS_FILE).exists() else {}
    known = [known_adapter(name, recipe) for name in words.adapters or adapters.names()]
    if words.json:
        say(json.dumps(record(known, recipe), indent=1))
        return 0
    for one in known:
        say(*adapter_lines(one), "")
    if recipe and not words.adapters:
        say(*aligned(source_rows(recipe)))
    return 0


def known_adapter(name: str, recipe: Mapping[str, Source]) -> Known:
    """What an adapter says of itself, and the recipe's sources that use it."""
    module = adapters.adapter(name)
    return Known(
        adapter=name,
        kind=module.KIND,
        rule=module.RULE,
        parameters=tuple(module.Rules.model_fields),
        sets=module.SETS,
        used_by=tuple(source for source, entry in sorted(recipe.items()) if entry.adapter == name),
    )


def doctor(_: argparse.Namespace) -> int:
    """One line per check; status 1 where one failed."""
    return told(examine())


def doctor_judges(words: argparse.Namespace) -> int:
    """One line per model; status 1 where a score depends on more than weights, template and text."""
    from pipeline.commands import judges

    return told(judges.findings(words.folders))


def told(findings: Iterable[Finding]) -> int:
    """One line per finding; the status is 1 where one is bad."""
    good = True
    for finding in findings:
        good &= finding.good
        say(f"{'ok ' if finding.good else 'BAD'} {finding.name}: {finding.message}")
    return 0 if good else 1


def plan_repro(words: argparse.Namespace) -> int:
    """What `dvc repro` would do."""
    from pipeline.commands import plan, store

    entries, place = plan.made(words.targets), store.whereabouts()
    if words.json:
        say(json.dumps(plan.record(entries, place), indent=1))
        return 0
    if rows := plan.table(entries, every=words.all):
        say(*aligned(rows), "")
    say(*plan.summary(entries), store.described(place))
    return 0


def store_stats(words: argparse.Namespace) -> int:
    """What the row store holds, set by set."""
    from pipeline.commands import store

    sets, found = store.listing()
    if words.json:
        say(json.dumps(store.record(sets, found), indent=1))
        return 0
    say(*aligned(store.table(sets, found)), "", *store.summary(sets, found))
    return 0


def store_gc(words: argparse.Namespace) -> int:
    """Remove what the recipe does not reach."""
    from pipeline.commands import store

    removed = store.collect(days=words.older_than, dry_run=words.dry_run, force=words.force)
    say(*store.report(removed, dry_run=words.dry_run))
    return 0


def compare(words: argparse.Namespace) -> int:
    """One line per policy: gains with intervals over prompts, and in each run."""
    from pipeline.commands.compare import compared

    say(*aligned(compared(words.folders, words.against)))
    return 0


def costs(_: argparse.Namespace) -> int:
    """One line per stage that ran here: seconds and peak resident memory in MiB; then the sums."""
    records = edge.recorded()
    if not records:
        raise UserError("expected records of runs, found none in this checkout; make them with: dvc repro")
    seconds = [float(record["seconds"]) for record in records.values()]
    peaks = [int(record["peak_mib"]) for record in records.values()]
    rows = [
        [name, f"{spent:.1f}", str(peak)] for name, spent, peak in zip(records, seconds, peaks, strict=True)
    ]
    total = ["all stages", f"{sum(seconds):.1f}", str(max(peaks))]
    say(*aligned([["stage", "seconds", "peak MiB"], *rows, total]))
    return 0


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows of cells as lines with straight columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def say(*lines: str) -> None:
    """Write lines to stdout."""
    sys.stdout.writelines(f"{text}\n" for text in lines)
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and leave the process."""
    words = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    edge.quieten()
    try:
        sys.exit(words.run(words))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
