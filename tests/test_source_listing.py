"""The listing of adapters and sources."""

from pipeline import source_listing
from pipeline.params import parse
from pipeline.source_listing import Known, adapter_lines, record, source_rows
from pipeline.source_params import Source
from pipeline.sources import shp

KNOWN = Known(
    adapter="shp",
    kind="preferences",
    rule=shp.RULE,
    parameters=("min_ratio", "seed"),
    sets=shp.SETS,
    used_by=("reddit", "votes"),
)


def source(origin: str, file: str, adapter: str = "shp") -> Source:
    section = {
        "adapter": adapter,
        "kind": "preferences",
        "origin": origin,
        "files": [{"path": file, "sha256": None}],
        "licence": "Reddit terms",
        "redistributable": False,
        "rules": {},
        "max_bad_fraction": 0.1,
    }
    return parse("sources.x", Source, section)


HUB = "hub:stanfordnlp/SHP@" + "0" * 40
RECIPE = {
    "votes": source(HUB, "askhr/train.json"),
    "reddit": source(HUB, "askhr/test.json"),
    "local": source("path:data/shp", "askhr/train.json"),
    "other": source("hub:a/b@c", "f.json", adapter="nectar"),
}


def test_an_adapter_is_told_with_all_that_a_user_needs():
    text = "\n".join(adapter_lines(KNOWN))
    assert text.startswith("shp: preferences, read by reddit, votes\n")
    for said in (
        shp.RULE,
        "min_ratio, seed",
        "hub:stanfordnlp/SHP; Reddit API terms; not to be redistributed",
        "history, human_ref_A, human_ref_B",
        "348,718 (table of the set's card)",
        "93,301 pairs of 31,003 prompts (arXiv 2405.07863, table 5)",
        "confirmed by arXiv 2409.13156, the other figures by nobody",
        "186.2, 173.6 and 88.8",
    ):
        assert said in text


def test_text_of_all_entries_begins_in_one_column():
    starts = {len(line) - len(line[11:].lstrip()) for line in adapter_lines(KNOWN) if line.startswith(" ")}
    assert starts == {13}


def test_a_source_reads_a_set_where_origin_and_files_are_the_sets():
    said = record([KNOWN], RECIPE)["sources"]
    assert {name: one["set"] for name, one in said.items()} == {
        "votes": "stanfordnlp/SHP",
        "reddit": None,
        "local": None,
    }


def test_the_sources_of_the_recipe_are_rows_under_their_heading():
    heading, *rows = source_rows(RECIPE)
    assert heading == ["source", *source_listing.SOURCE_KEYS]
    assert [row[0] for row in rows] == ["local", "other", "reddit", "votes"]
    assert rows[0] == ["local", "shp", "preferences", "path:data/shp", "Reddit terms", "False"]
