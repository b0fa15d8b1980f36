"""Whatever a raw row is, an adapter does not raise, and every row ends as a kept or a dropped item."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import portions, sources, tables
from pipeline.portions import Portion, RowMapper
from pipeline.raw import MALFORMED_JSON, RawRow
from pipeline.schemas import KINDS, ORIGIN_KEY
from tests.sources.examples import EXAMPLES

# surrogate halves are valid in JSON (as \\ud800) and in Python, but not in UTF-8
TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.sampled_from(["N/A", " ", "user", "system"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def adapters() -> list[str]:
    folder = Path(sources.__file__).parent
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every part of a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*path, key))


def replaced(value: Any, path: tuple, new: Any) -> Any:
    """The value with another part at `path`."""
    if not path:
        return new
    value = copy.deepcopy(value)
    part = value
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = new
    return value


def standardized(adapter: str, rows: list[RawRow]) -> Portion:
    """What the adapter makes of all rows; the portions together obey the table."""
    module = sources.adapter(adapter)
    rules = module.Rules.model_validate_json(json.dumps(EXAMPLES[adapter][0]))
    parts = list(RowMapper("s", module.KIND, module, rules).of_rows(rows))
    kept, drops = pl.concat([part.kept for part in parts]), pl.concat([part.drops for part in parts])
    tables.check(KINDS[module.KIND], kept)
    for frame in (kept, drops):
        assert frame.select(ORIGIN_KEY).rows() == frame.select(ORIGIN_KEY).sort(ORIGIN_KEY).rows()
    return Portion(kept, drops, sum(part.rows for part in parts))


def test_every_adapter_has_an_example():
    assert sorted(EXAMPLES) == adapters()


@pytest.mark.parametrize("adapter", adapters())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_json_value_is_kept_or_dropped(adapter, data):
    example = EXAMPLES[adapter][1]
    damaged = st.sampled_from(list(places(example))).flatmap(
        lambda path: JSON.map(lambda new: replaced(example, path, new))
    )
    values = data.draw(st.lists(damaged | JSON, min_size=1, max_size=4))
    rows = [RawRow("f.jsonl", number, value) for number, value in enumerate(values)]
    rows.append(RawRow("f.jsonl", len(rows), None, MALFORMED_JSON, "cut off"))
    with pytest.MonkeyPatch.context() as change:
        change.setattr(portions, "CHUNK_ITEMS", 2)
        kept, drops, answered = standardized(adapter, rows)
    assert answered == len(rows)
    origins = pl.concat([kept.select(ORIGIN_KEY), drops.select(ORIGIN_KEY)])
    assert not origins.is_duplicated().any()
    assert set(origins["row"]) == set(range(len(rows)))


@pytest.mark.parametrize("adapter", [name for name in adapters() if name != "helpsteer"])
def test_the_example_row_is_kept(adapter):
    kept, drops, _ = standardized(adapter, [RawRow("f.jsonl", 0, EXAMPLES[adapter][1])])
    assert drops.is_empty()
    assert kept.height >= 1
