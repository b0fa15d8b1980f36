"""`pairmill store`: what the row store holds and who asks it, and the removal of what nobody reaches."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.commands.reach import Reach, reach
from pipeline.errors import UserError
from pipeline.filling import open_store
from pipeline.upkeep import Removed, SetStats, keep, set_names, stats

DAY = 86_400


def whereabouts() -> dict[str, Any]:
    """Where the store is and how large: url, sets, rows, bytes."""
    store = open_store()
    sets = stats(store)
    return {"url": store.url, **sums(sets)}


def sums(sets: Sequence[SetStats]) -> dict[str, int]:
    """Totals of a store."""
    names = ("rows", "shards", "bytes", "damaged", "partial")
    return {"sets": len(sets), **{name: sum(getattr(one, name) for one in sets) for name in names}}


def listing() -> tuple[list[SetStats], Reach]:
    """The sets of the store, and what the recipe reaches of it."""
    return stats(open_store()), reach()


def record(sets: Sequence[SetStats], found: Reach) -> dict[str, Any]:
    """The listing for machines."""
    return {
        "url": open_store().url,
        "sets": [
            {
                "set": one.name,
                "identity": one.identity,
                "stages": found.stages.get(one.name, []),
                "rows": one.rows,
                "shards": one.shards,
                "bytes": one.bytes,
                "newest": one.newest and one.newest.isoformat(timespec="seconds"),
                "damaged": one.damaged,
                "partial": one.partial,
            }
            for one in sets
        ],
        "total": sums(sets),
        "unknown": found.blind,
    }


def table(sets: Sequence[SetStats], found: Reach) -> list[list[str]]:
    """The listing as rows of cells."""
    head = ["kind", "engine", "model", "asked by", "rows", "shards", "MiB", "newest", "damaged"]
    return [
        head,
        *(
            [
                one.name.partition("/")[0],
                str(one.identity.get("engine", "")),
                str(one.identity.get("weights", ""))[:8],
                some(found.stages.get(one.name, [])) or "-",
                f"{one.rows:,}",
                f"{one.shards:,}",
                mebibytes(one.bytes),
                one.newest.strftime("%Y-%m-%d %H:%M") if one.newest else "-",
                str(one.damaged),
            ]
            for one in sets
        ),
    ]


def summary(sets: Sequence[SetStats], found: Reach) -> Iterator[str]:
    """The totals, and the stages whose rows are not told from the others."""
    yield described(whereabouts())
    unused = [one for one in sets if one.name not in found.stages]
    if found.blind:
        yield f"not known what these stages ask: {some(list(found.blind))}"
    elif unused:
        size = mebibytes(sum(one.bytes for one in unused))
        yield f"no stage asks {len(unused)} of the sets ({size} MiB): pairmill store gc"


def described(place: Mapping[str, Any]) -> str:
    """Where the store is and how large, in a line."""
    damaged = f", {place['damaged']} damaged shards" if place["damaged"] else ""
    size = f"{place['rows']:,} rows, {mebibytes(place['bytes'])} MiB in {place['shards']:,} shards{damaged}"
    return f"row store {place['url']}: {size}"


def collect(*, days: float, dry_run: bool, force: bool) -> list[Removed]:
    """Remove what the recipe of this workspace does not reach and is older than `days`.

    UserError where it cannot be told what a stage reaches, unless `force`: then whatever it might is kept.
    """
    if not 0 <= days < float("inf"):
        raise UserError(f"store gc: expected --older-than 0 or more days, found {days:g}")
    store, found = open_store(), reach()
    if found.blind and not force:
        stage, why = next(iter(found.blind.items()))
        more = f" (and {len(found.blind) - 1} stages more)" if len(found.blind) > 1 else ""
        raise UserError(
            f"store gc: expected to know all rows that the recipe asks, not those of {stage}{more}: "
            f"{why}; or keep all rows that it might ask: --force"
        )
    wanted = found.wanted(set_names(store))
    return keep(store, wanted, older_than_seconds=days * DAY, dry_run=dry_run)


def report(removed: Sequence[Removed], *, dry_run: bool) -> Iterator[str]:
    """What was removed, or would be."""
    for why in sorted({one.why for one in removed}):
        alike = [one for one in removed if one.why == why]
        yield f"{why}: {totals(alike)}"
    yield f"{'would remove' if dry_run else 'removed'} {totals(removed)} of {open_store().url}"


def totals(removed: Sequence[Removed]) -> str:
    """Rows, files and size."""
    rows, size = sum(one.rows for one in removed), sum(one.bytes for one in removed)
    return f"{rows:,} rows, {len(removed):,} files, {mebibytes(size)} MiB"


def mebibytes(size: int) -> str:
    """Bytes as MiB."""
    return f"{size / 2**20:.1f}"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
