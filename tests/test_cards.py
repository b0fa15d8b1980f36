from dataclasses import replace

import pytest
from huggingface_hub import DatasetCard

from pipeline.cards import COLUMNS, Account, CardFacts, Terms, card, duplicates, size_category
from pipeline.pair_facts import PairFacts
from pipeline.provenance import Provenance, Step
from pipeline.released import RELEASED
from pipeline.schemas import MIX

PART = PairFacts(
    rows=1234,
    prompts=1000,
    prompt_chars=10.0,
    prompt_words=2.0,
    chosen_chars=31.5,
    chosen_words=6.0,
    rejected_chars=40.0,
    rejected_words=8.0,
    longer_wins_chars=0.4375,
    longer_wins_words=0.5,
)
STEP = Step(
    name="mix@demo",
    command="make a | b",
    values={"mixes.demo": {"sources": ["alpha"], "max_prompts": None}},
    inputs={"data/standard": "aa.dir"},
    outputs={"data/mixes/demo": "bb.dir"},
)
FACTS = CardFacts(
    target="mixes/demo",
    repo="org/demo",
    columns=tuple(MIX.columns),
    splits={"demo": {"train": PART}},
    files={"demo": {"train": ["demo/train-00000-of-00001.parquet"]}},
    every=PART,
    by_source={"alpha": PART},
    terms={"alpha": Terms(licence="MIT", redistributable=True, origin="path:alpha")},
    accounts=(Account(stage="mix@demo", unit="pairs", rows_in=1240, kept=1234, dropped={"a|b": 6}),),
    provenance=Provenance(revision="c" * 40, lock_md5="d" * 32, lock_sha256="e" * 64, steps=(STEP,)),
    judges={},
)


def terms(**licences: str) -> dict[str, Terms]:
    return {name: Terms(licence=text, redistributable=True, origin="") for name, text in licences.items()}


def test_the_hub_can_read_the_front_matter():
    read = DatasetCard(card(FACTS)).data
    assert read.license == ["mit"]
    assert read.size_categories == ["1K<n<10K"]
    files = [{"split": "train", "path": ["demo/train-00000-of-00001.parquet"]}]
    assert read.configs == [{"config_name": "demo", "data_files": files, "default": True}]


def test_several_known_licences_are_all_named():
    found = card(replace(FACTS, terms=terms(alpha="MIT", beta="CC-BY-4.0", gamma="mit")))
    assert DatasetCard(found).data.license == ["cc-by-4.0", "mit"]


def test_one_licence_that_the_hub_does_not_know_makes_it_other():
    found = card(replace(FACTS, terms=terms(alpha="MIT", beta="Reddit terms")))
    assert DatasetCard(found).data.license == "other"


@pytest.mark.parametrize(("rows", "name"), [(999, "n<1K"), (1000, "1K<n<10K"), (10**7, "n>10M")])
def test_size_categories_have_exclusive_upper_bounds(rows, name):
    assert size_category(rows) == name


def test_every_column_that_is_published_has_a_meaning():
    assert set(MIX.columns) | set(RELEASED.columns) == set(COLUMNS)


def test_a_bar_in_a_cell_does_not_break_its_table():
    text = card(FACTS)
    assert "| mix@demo | pairs | 1,240 | 1,234 | 6 | a\\|b 6 |" in text
    assert "`make a \\| b`" in text


def test_the_card_says_what_made_the_bytes():
    text = card(FACTS)
    for figure in ("c" * 40, "d" * 32, "e" * 64, "aa.dir", "bb.dir", "max_prompts: null", "43.8 %"):
        assert figure in text


def test_a_shorter_chosen_answer_is_called_shorter():
    assert "The chosen answer is 8.5 characters shorter in the mean" in card(FACTS)


def test_sources_that_may_not_be_handed_on_are_named():
    closed = {"alpha": Terms(licence="CC-BY-NC-4.0", redistributable=False, origin="path:alpha")}
    assert "The licences of alpha do not let their rows be handed on" in card(replace(FACTS, terms=closed))
    assert "do not let" not in card(FACTS)


def test_duplicates_are_summed_over_stages_and_reasons():
    reasons = {"exact duplicate": 2, "near-duplicate": 3, "too long": 5}
    account = Account(stage="mix@x", unit="pairs", rows_in=10, kept=0, dropped=reasons)
    assert duplicates([account, account]) == 10


def test_margins_are_shown_where_there_is_a_judge():
    assert "Margins of the judge" not in card(FACTS)
    assert "| reward | 0.25 |" in card(replace(FACTS, judges={"reward": {"0.50": 0.25}}))


def test_the_same_facts_give_the_same_card():
    assert card(FACTS) == card(replace(FACTS))
