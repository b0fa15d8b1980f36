"""The edge to the Hugging Face Hub: gather what a target says, write it as a folder, upload it in one commit.

A target is what a stage made: `mixes/<name>`, `iterations/<t>` or `release`. Its rows become sharded
Parquet with plain Arrow types, its card is computed (cards.py), and `facts.json` holds every figure.
The same target at the same revision gives the same folder, to the byte.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from httpx2 import HTTPError
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HFValidationError

from pipeline import tables
from pipeline.cards import Account, CardFacts, Terms, card
from pipeline.errors import UserError
from pipeline.ledger import write_json
from pipeline.pair_facts import facts_by, margin_quantiles, pair_facts
from pipeline.pair_texts import told_pairs
from pipeline.params import PARAMS_FILE, load
from pipeline.provenance import Step, provenance, read_lock, step
from pipeline.released import RELEASED, with_origin
from pipeline.schemas import MIX, SLICE
from pipeline.source_params import Source
from pipeline.tables import Table

log = logging.getLogger(__name__)

SHARD_ROWS = 100_000
FACTS_FILE = "facts.json"
EVERY = "all"
"""The config that joins all iterations of a release."""

ACCOUNTED = frozenset({"standardize", "mix", "prompts", "generate", "pair"})
"""The stages that drop rows."""

Splits = Mapping[str, pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Publication:
    """The rows of a target, by config and split, and the stages that account for them, its own last."""

    target: str
    table: Table
    configs: Mapping[str, Splits]
    steps: tuple[Step, ...]

    @property
    def rows(self) -> pl.DataFrame:
        """All rows, whichever config and split."""
        return pl.concat(frame for splits in self.configs.values() for frame in splits.values())


def gather(target: str) -> Publication:
    """Read a target; UserError where there is no such target, or it was not made."""
    lock = read_lock()
    match target.strip("/").split("/"):
        case ["mixes", name]:
            return mix(target, name, lock)
        case ["iterations", name]:
            return iterations(target, {name: pairs_of(name, lock)}, (), lock)
        case ["release"]:
            made = step(lock, "release")
            names = sorted((path.parent.name for path in made.folder.glob("*/train.parquet")), key=natural)
            frames = {name: tables.read(RELEASED, made.folder / name / "train.parquet") for name in names}
            return iterations(target, frames, (made,), lock)
    mixes = sorted(name.partition("@")[2] for name in lock if name.startswith("mix@"))
    pairs = sorted(name.partition("@")[2] for name in lock if name.startswith("pair@"))
    known = [*(f"mixes/{name}" for name in mixes), *(f"iterations/{name}" for name in pairs), "release"]
    raise UserError(
        f"expected one of {', '.join(known)}, found {target!r}; pairmill publish {known[0]} --repo ORG/NAME"
    )


def natural(name: str) -> tuple[int, str]:
    """A sort key with t2 before t10."""
    return len(name), name


def mix(target: str, name: str, lock: Mapping[str, Step]) -> Publication:
    """A mix: its splits, with the accounts of its sources."""
    made = step(lock, f"mix@{name}")
    read = {split: tables.read(MIX, made.folder / f"{split}.parquet") for split in ("train", "test")}
    splits = {split: frame for split, frame in read.items() if not frame.is_empty()}
    steps = (*standardized(read.values(), lock), made)
    return Publication(target=target, table=MIX, configs={name: splits}, steps=steps)


def pairs_of(name: str, lock: Mapping[str, Step]) -> pl.DataFrame:
    """The pairs of one iteration, with the origin of each prompt."""
    pairs = told_pairs(step(lock, f"generate@{name}").folder, step(lock, f"pair@{name}").folder)
    return with_origin(pairs, tables.read(SLICE, step(lock, "prompts").folder / f"{name}.parquet"))


def iterations(
    target: str, frames: Mapping[str, pl.DataFrame], last: Sequence[Step], lock: Mapping[str, Step]
) -> Publication:
    """Pairs by iteration, with the accounts of everything from the prompts' sources on."""
    made = [step(lock, f"{stage}@{name}") for name in frames for stage in ("generate", "judge", "pair")]
    steps = (*standardized(frames.values(), lock), step(lock, "prompts"), *made, *last)
    configs = {name: {"train": frame} for name, frame in frames.items()}
    return Publication(target=target, table=RELEASED, configs=configs, steps=steps)


def standardized(frames: Any, lock: Mapping[str, Step]) -> list[Step]:
    """The stages that brought and made the sources of these rows."""
    sources = sorted({source for frame in frames for source in frame["source"].unique()})
    return [step(lock, f"{stage}@{source}") for stage in ("fetch", "standardize") for source in sources]


def terms_of(sources: Sequence[str], accepted: bool) -> dict[str, Terms]:
    """Licence and origin of each source; UserError where one may not be handed on and none accepted that."""
    sections = {name: load(f"sources.{name}", Source, Path(PARAMS_FILE)) for name in sources}
    terms = {
        name: Terms(licence=its.licence, redistributable=its.redistributable, origin=its.origin)
        for name, its in sections.items()
    }
    barred = [f"{name} ({its.licence})" for name, its in terms.items() if not its.redistributable]
    if barred and not accepted:
        raise UserError(
            f"expected sources that may be handed on, found {', '.join(barred)} with redistributable: false "
            f"in {PARAMS_FILE}; leave them out, or, if you have the right, publish with --accept-licences"
        )
    return terms


def account(made: Step) -> Account | None:
    """The account that a stage left beside its output, or None where it drops nothing by its nature."""
    if made.name.partition("@")[0] not in ACCOUNTED:
        return None
    path = made.folder / "counts.json"
    if not path.exists():
        raise UserError(f"{path} is missing; bring it here with: dvc pull {made.name}")
    counts = read_json(path)
    return Account(
        stage=made.name,
        unit=counts["unit"],
        rows_in=counts["in"],
        kept=counts["kept"],
        dropped=counts["dropped"],
    )


def read_json(path: Path) -> Any:
    """A JSON file of ours."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_folder(what: Publication, repo: str, folder: Path, *, accepted: bool) -> CardFacts:
    """Write shards, README.md and facts.json into `folder` (new or empty), and give the facts."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder}: expected a new or empty folder, found files; choose another, or remove it"
        )
    if what.rows.is_empty():
        raise UserError(f"{what.target}: expected a pair, found none; relax {PARAMS_FILE}, then: dvc repro")
    record = provenance(what.steps)
    by_source = facts_by(what.rows, "source")
    terms = terms_of(list(by_source), accepted)
    facts = CardFacts(
        target=what.target,
        repo=repo,
        columns=tuple(what.table.columns),
        splits={
            c: {s: pair_facts(frame) for s, frame in splits.items()} for c, splits in what.configs.items()
        },
        files=write_data(what, folder),
        every=pair_facts(what.rows),
        by_source=by_source,
        terms=terms,
        accounts=tuple(found for made in what.steps if (found := account(made))),
        provenance=record,
        judges=margin_quantiles(what.rows) if "judge" in what.table.columns else {},
    )
    (folder / "README.md").write_text(card(facts), encoding="utf-8")
    write_json(folder / FACTS_FILE, asdict(facts))
    return facts


def write_data(what: Publication, folder: Path) -> dict[str, dict[str, list[str]]]:
    """Write all shards; gives their paths below `folder` by config and split."""
    files = {
        config: {
            split: write_shards(what.table, frame, folder, f"{config}/{split}")
            for split, frame in splits.items()
        }
        for config, splits in what.configs.items()
    }
    if what.target == "release":
        return {EVERY: {"train": [path for splits in files.values() for path in splits["train"]]}} | files
    return files


def write_shards(
    table: Table, frame: pl.DataFrame, folder: Path, stem: str, rows: int = SHARD_ROWS
) -> list[str]:
    """Write `frame` as `<stem>-00000-of-00001.parquet` and so on; gives the paths below `folder`.

    Arrow's plain string and list are used, not Polars' large ones, so that the columns have the
    features of other TRL data sets and can be concatenated with them.
    """
    ordered = frame.sort(table.key)
    shards = [ordered.slice(start, rows) for start in range(0, frame.height, rows)]
    paths = [f"{stem}-{i:05d}-of-{len(shards):05d}.parquet" for i in range(len(shards))]
    (folder / stem).parent.mkdir(parents=True, exist_ok=True)
    for path, shard in zip(paths, shards, strict=True):
        arrow = shard.to_arrow()
        plain_schema = pa.schema([pa.field(column.name, plain(column.type)) for column in arrow.schema])
        pq.write_table(arrow.cast(plain_schema), folder / path, compression="zstd", row_group_size=10_000)
    return paths


def plain(kind: pa.DataType) -> pa.DataType:
    """An Arrow type with 32-bit offsets throughout."""
    if pa.types.is_large_list(kind):
        return pa.list_(plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(part.name, plain(part.type)) for part in kind])
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


def upload(folder: Path, repo: str, target: str, *, public: bool) -> str:
    """Make the data set repository `repo` be `folder`, in one commit; gives the commit's address.

    The repository is created if need be (private unless `public`). One that holds anything but an
    earlier publication of the same target is refused.
    """
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    try:
        api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
        stale = held(api, repo, target) - set(paths)
        added = [CommitOperationAdd(path, str(folder / path)) for path in paths]
        removed = [CommitOperationDelete(path) for path in sorted(stale)]
        done = api.create_commit(
            repo, [*added, *removed], commit_message=f"Publish {target}", repo_type="dataset"
        )
    except (HTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"{repo}: expected {api.endpoint} to take the data set, found: {' '.join(str(error).split())}; "
            f"log in with: hf auth login, or look at the folder with --dry-run DIR"
        ) from error
    log.info("published %d files to %s", len(paths), repo)
    return str(done.commit_url)


def held(api: HfApi, repo: str, target: str) -> set[str]:
    """The files that a repository of this target holds; UserError where it holds something else."""
    files = set(api.list_repo_files(repo, repo_type="dataset")) - {".gitattributes"}
    if not files:
        return files
    found = "files that pairmill did not publish"
    if FACTS_FILE in files:
        published = published_target(Path(api.hf_hub_download(repo, FACTS_FILE, repo_type="dataset")))
        if published == target:
            return files
        found = f"the target {published}" if published else found
    raise UserError(
        f"{repo}: expected an empty repository or an earlier publication of {target}, found {found}; "
        f"publish to another one: pairmill publish {target} --repo ..."
    )


def published_target(path: Path) -> str | None:
    """The target that a facts.json speaks of, or None where it is not one of ours."""
    try:
        facts = read_json(path)
    except ValueError:
        return None
    return facts.get("target") if isinstance(facts, dict) else None
