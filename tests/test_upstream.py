"""What adapters say of upstream sets: complete, consistent, and the paper's table."""

from pathlib import Path

import pytest

from pipeline import sources
from pipeline.params import load
from pipeline.source_params import Source
from pipeline.upstream import Upstream, described

ROOT = Path(__file__).parents[1]
MODULES = {name: sources.adapter(name) for name in sources.names()}
PAPER = [one.paper for module in MODULES.values() for one in module.SETS if one.paper]


@pytest.mark.parametrize("name", MODULES)
def test_an_adapter_says_what_it_is_for(name):
    module = MODULES[name]
    assert module.RULE
    assert not module.RULE.endswith(".")
    assert module.SETS
    for one in module.SETS:
        assert one.name.count("/") == 1
        assert one.licence
        assert one.files
        assert one.columns


@pytest.mark.parametrize("name", [name for name in MODULES if hasattr(MODULES[name], "Row")])
def test_the_columns_of_a_set_are_columns_of_the_adapters_row(name):
    fields = MODULES[name].Row.model_fields
    known = set(fields) | {field.alias for field in fields.values() if field.alias}
    for field in fields.values():
        known |= set(getattr(field.validation_alias, "choices", ()))
    if MODULES[name].Rules.model_fields.keys() & {"column", "columns", "chosen_score"}:
        return  # the rules name the columns
    for one in MODULES[name].SETS:
        assert set(one.columns) <= known


def test_table_5_has_ten_sets_whose_pairs_sum_up_to_mix2():
    assert len(PAPER) == len({row.name for row in PAPER}) == 10
    assert sum(row.pairs for row in PAPER) == 848_965
    for row in PAPER:
        assert row.prompts <= row.pairs
        assert min(row.prompt_tokens, row.chosen_tokens, row.rejected_tokens) > 0


def test_sets_that_may_not_be_passed_on_are_marked():
    for module in MODULES.values():
        for one in module.SETS:
            if any(word in one.licence for word in ("NC", "unclear", "Reddit", "none given", "other")):
                assert not one.redistributable, one.name


def test_a_source_is_described_by_its_origin_and_its_files():
    helpful, harmless = MODULES["hh_rlhf"].SETS
    origin = "hub:anthropic/hh-rlhf@" + "0" * 40
    assert described(origin, ["helpful-base/train.jsonl.gz"], (helpful, harmless)) is helpful
    assert described(origin, ["harmless-base/train.jsonl.gz"], (helpful, harmless)) is harmless
    assert described(origin, [*helpful.files, *harmless.files], (helpful, harmless)) is None
    assert described("path:data/samples/hh_rlhf", helpful.files, (helpful, harmless)) is None
    assert described("hub:stanfordnlp/SHP@x", ["askhr/train.json"], MODULES["shp"].SETS) is not None


def test_the_paper_recipe_says_of_licences_what_the_adapters_say():
    recipe = load("sources", dict[str, Source], ROOT / "recipes" / "paper.yaml")
    for name, source in recipe.items():
        files = [file.path for file in source.files]
        upstream = described(source.origin, files, MODULES[source.adapter].SETS)
        assert upstream is not None, f"{name}: {source.origin} with {files} is in no SETS of {source.adapter}"
        said = (source.licence, source.redistributable)
        assert said == (upstream.licence, upstream.redistributable), name


def test_a_number_of_rows_without_its_origin_is_a_mistake():
    with pytest.raises(AssertionError, match="without its origin"):
        Upstream(name="a/b", licence="MIT", redistributable=True, files=("f",), columns=("c",), rows=1)
