import csv
import json
import math
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from pipeline import tables
from pipeline.errors import UserError
from pipeline.schemas import CANDIDATES, JUDGMENTS, MIX, PAIRS, VERDICTS
from pipeline.stages import report
from tests.stages import small_run

NAMES = ("index.html", "metrics.json", "iterations.csv", "ledger.csv")


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, out: str = "reports") -> Path:
    """The report of the run in `folder`."""
    monkeypatch.chdir(folder)
    words = [Path("data") / name for name in small_run.ORDER] + [Path(out) / name for name in NAMES]
    monkeypatch.setattr(sys, "argv", ["report", *map(str, words)])
    report.main()
    return folder / out


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    small_run.make(tmp_path / "data")
    return run(tmp_path, monkeypatch)


@pytest.fixture
def figures(made) -> dict:
    return json.loads((made / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture
def page(made) -> str:
    return (made / "index.html").read_text(encoding="utf-8")


def part(table: ET.Element, tag: str) -> ET.Element:
    """The head or the body of a table."""
    found = table.find(tag)
    assert found is not None
    return found


def parsed(page: str) -> ET.Element:
    """The page as XML, which a page is only if every tag is closed and every text escaped."""
    return ET.fromstring(page.replace("<!DOCTYPE html>", ""))


def grid(page: str, caption: str) -> list[list[str]]:
    """The cells of the table with this caption, below its head."""
    for table in parsed(page).iter("table"):
        if table.findtext("caption") == caption:
            return [["".join(cell.itertext()) for cell in row] for row in part(table, "tbody")]
    raise AssertionError(f"no table {caption!r}")


def test_the_mix_is_measured_in_tokens_and_counted_by_source(figures, page):
    main = figures["mixes"]["main"]
    assert (main["in"], main["kept"], main["train"], main["test"], main["leaked_clusters"]) == (9, 5, 3, 2, 0)
    assert main["dropped"] == {"tie": 3, "too long": 1}
    assert main["tokens"]["chosen"] == round((3 + 2 + 1 + 2 + 1) / 5, 6)
    assert grid(page, "Dropped rows by source and reason") == [
        ["hh", "8", "2", "1", "5"],
        ["other", "1", "1", "0", "0"],
    ]


def test_table_5_stands_beside_the_papers_figures(page):
    hh, total = grid(page, "Table 5")
    assert hh == ["hh in the paper", "Human", "LLM", "5 80", "5 90", "2.8 10.5", "1.8 20.0", "1.6 15.0"]
    assert total == ["all", "\u2013", "\u2013", "5", "5", "2.8", "1.8", "1.6"]
    assert grid(page, "Table 5, test side")[0][3:] == ["2", "2", "1.5", "1.5", "1.5"]


def test_baselines_are_shown_for_both_sides_and_beside_their_gate(figures, page):
    # Test: the longer answer wins once in two; in train gpt beats llama two to one, in test one to one.
    accuracy = {name: one["mean"] for name, one in figures["mixes"]["main"]["baselines"]["test"].items()}
    assert (accuracy["longer wins"], accuracy["source decides"]) == (0.5, 0.5)
    rows = grid(page, "Content-blind baselines, gate 75.0%")
    assert {row[0] for row in rows} == set(accuracy)
    assert {row[1] for row in rows} == {"passes"}
    longer = rows[0]
    assert longer[2].startswith("50.0 ") and longer[3].startswith("50.0 ")
    assert grid(page, "Content-blind baselines by source, train side, %")[0][0] == "hh"


def test_the_ledger_has_one_line_per_stage_source_and_reason(made):
    with (made / "ledger.csv").open(encoding="utf-8") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        ("standardize@hh", "hh", "no answer", "1"),
        ("mix@main", "hh", "tie", "2"),
        ("mix@main", "hh", "too long", "1"),
        ("mix@main", "other", "tie", "1"),
        ("prompts", "asks", "exact duplicate", "1"),
        ("pair@t1", "t1", "tie", "1"),
    ]


def test_policies_are_compared_in_pairs_with_pi0(made, figures):
    with (made / "iterations.csv").open(encoding="utf-8") as file:
        rows = {row["policy"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["t0", "offline_dpo", "t1"]
    t1 = rows["t1"]
    assert [float(t1[name]) for name in ("reward", "gain", "gain_low", "gain_high")] == [3.0, 1.0, 1.0, 1.0]
    assert [float(t1[name]) for name in ("win_rate", "length", "kl", "words")] == [1.0, 22.0, 0.25, 2.0]
    assert (t1["candidates"], t1["pairs"], t1["margin"]) == ("4", "1", "3.0")
    assert rows["offline_dpo"]["pairs"] == ""
    assert float(t1["reward_low"]) < 3.0 < float(t1["reward_high"])
    assert figures["policies"]["offline_dpo"]["win_rate"]["mean"] == 0.666667


def test_an_iteration_shows_its_rewards_lengths_and_the_best_of_n_bound(figures):
    t1 = figures["iterations"]["t1"]
    assert (t1["candidates"], t1["pairs"], t1["margin"], t1["unfinished"]) == (4, 1, 3.0, 0.5)
    assert t1["reward"] == {"best": 3.0, "mean": 2.25, "worst": 1.5}
    assert t1["best_of_n_kl_bound"] == 0.193147  # log 2 - 1 / 2
    assert t1["length_bias"] == {"bt": {"prompts": 0, "without": {"fewer than 3 answers": 2}}}
    assert t1["dropped"]["pair"] == {"tie": 1}


def test_the_length_bias_of_each_judge_is_shown(made, monkeypatch):
    folder = made.parent / "data" / "iterations" / "t1"
    candidates = tables.read(CANDIDATES, folder / "generate" / "candidates.parquet")
    same = pl.col("prompt_id") == candidates["prompt_id"][0]
    rows = pl.concat(
        candidates.filter(same)
        .head(1)
        .with_columns(candidate_id=pl.lit(f"{i:016x}"), tokens=pl.lit(10 + i, pl.Int64))
        for i in range(4)
    )
    tables.write(CANDIDATES, rows, folder / "generate" / "candidates.parquet")
    ids = {f"{side}_id": pl.lit(f"{i:016x}") for i, side in enumerate(("chosen", "rejected"))}
    pairs = tables.read(PAIRS, folder / "pair" / "pairs.parquet").with_columns(**ids)
    tables.write(PAIRS, pairs, folder / "pair" / "pairs.parquet")
    scores = {"bt": [1.0, 2.0, 3.0, 4.0], "pairwise": [0.5, 0.5, 0.5, 0.5]}
    said = [
        rows.select(
            "candidate_id",
            "prompt_id",
            judge=pl.lit(judge),
            score=pl.Series(values),
            disagreement=pl.lit(None, pl.Float64),
            comparisons=pl.lit(0, pl.Int64),
        )
        for judge, values in scores.items()
    ]
    tables.write(JUDGMENTS, pl.concat(said), folder / "judge" / "judgments.parquet")
    out = run(made.parent, monkeypatch, "biased")
    figures = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["iterations"]["t1"]
    assert figures["length_bias"] == {
        "bt": {"correlation": {"mean": 1.0, "low": 1.0, "high": 1.0}, "prompts": 1},
        "pairwise": {"prompts": 0, "without": {"all scores equal": 1}},
    }
    page = (out / "index.html").read_text(encoding="utf-8")
    bt, pairwise = grid(page, "Length bias on t1")
    assert (bt[1].split()[0], bt[2], bt[3]) == ("1.000", "1", "0")
    assert pairwise[1:] == ["\u2013", "0", "1 all scores equal"]
    assert "heat8" in page and "mean score of the prompt" in page


def test_an_iteration_shows_who_answered_and_how(page):
    nothing = ["0", "0", *["\u2013"] * 5]
    assert grid(page, "Samples of t1") == [
        ["policies/t0", "1.0", "2", "2", "100.0%", "0.0%", "0.0%", "20.0", "1.00"],
        ["base", "1.0", "2", "2", "0.0%", "100.0%", "0.0%", "10.0", "1.00"],
        ["offline_dpo", "1.0", *nothing],
        ["all", "\u2013", "4", "4", "50.0%", "50.0%", "0.0%", "15.0", "2.00"],
    ]


def test_an_iteration_shows_which_answers_of_its_pairs_were_cut(page, figures):
    shown = dict(grid(page, "Pairs of t1"))
    assert shown["Chosen answer was cut at the limit"] == "0.0%"
    assert shown["Rejected answer was cut at the limit"] == "100.0%"
    assert [figures["iterations"]["t1"][f"{side}_cut"] for side in ("chosen", "rejected")] == [0.0, 1.0]


def test_other_pair_rules_stand_beside_the_recipes(page, figures):
    rules = grid(page, "Pair rules on t1")
    assert rules[0] == ["best_worst", "none", "1", "1", "3.000", "13.0", "100.0%", "100.0%", "50.0%"]
    assert rules[1] == ["margin_band, low 0.5, high 2.0", "none", "0", "0", *["\u2013"] * 5]
    assert grid(page, "Judges of t1") == [["bt and pairwise", "0.500", "2"]]
    assert figures["pair_rules"]["t1"]["rank_agreement"] == {"bt and pairwise": 0.5}
    assert figures["pair_rules"]["t1"]["rules"]["best_worst; length none"]["length_gap"] == 13.0


def test_packing_counts_tokens_and_fill(figures):
    assert {name: figures["sft"][name] for name in ("kept", "blocks", "tokens", "fill")} == {
        "kept": 3,
        "blocks": 2,
        "tokens": 6,
        "fill": 0.75,
    }


def test_judges_stand_beside_longer_wins(figures, page):
    assert figures["judges"]["main"]["bt"]["mean"] == 1.0
    assert figures["judges"]["main"]["longer wins"]["mean"] == 0.5
    assert figures["judges"]["bench"]["longer wins"]["mean"] == 0.5  # right in math, wrong in code
    row = grid(page, "RewardBench, accuracy in % (95% interval)")[0]
    assert row[:4] == ["Bradley-Terry reward model", "\u2013", "\u2013", "\u2013"]
    assert row[4].startswith("73.2 ")  # 447 / (447 + 164): only the subsets that are here count
    assert row[5] == "\u2013"  # no mean of four sections where there is one
    assert row[6].startswith("85.7 ")  # 984 / (984 + 164)
    assert "Safety: refusals-dangerous, refusals-offensive, xstest-should-refuse" in page
    assert figures["reward_bench"]["missing"]["Reasoning"] == 5
    assert figures["reward_bench"]["longer wins"]["Reasoning"] == figures["reward_bench"]["bt"]["Reasoning"]


def test_sets_are_scored_together_and_a_pair_of_two_sets_once(made, monkeypatch):
    # bt is wrong on hep-go of `bench`; `more` has that pair again, and a right one of hep-cpp.
    path = made.parent / "data" / "judge_evaluation" / "verdicts.parquet"
    rows = tables.read(VERDICTS, path)
    own = rows.filter(subset="hep-go").with_columns(set=pl.lit("more"))
    other = own.with_columns(subset=pl.lit("hep-cpp"), pair_id=pl.lit("f" * 16), correct=1.0)
    named_so = rows.filter(set="main").with_columns(subset=pl.lit("donotanswer"))  # a source of a mix
    tables.write(VERDICTS, pl.concat([rows.filter(pl.col("set") != "main"), named_so, own, other]), path)
    out = run(made.parent, monkeypatch, "together")
    figures = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["reward_bench"]["bt"]
    assert figures["Reasoning"]["mean"] == round((447 + 164) / (447 + 164 + 164), 6)
    assert "Safety" not in figures


def test_rm_bench_stands_in_a_table_of_its_own(made, monkeypatch):
    path = made.parent / "data" / "judge_evaluation" / "verdicts.parquet"
    rows = tables.read(VERDICTS, path)
    first = rows.filter(subset="hep-go")
    styles = [
        first.with_columns(
            set=pl.lit("rm"),
            subset=pl.lit(f"chat-{how}"),
            pair_id=pl.lit(f"{i:016x}"),
            prompt_id=pl.lit(f"{i % 2:016x}"),
            correct=right,
        )
        for i, (how, right) in enumerate([("easy", 1.0), ("easy", 1.0), ("normal", 0.5), ("hard", 0.0)])
    ]
    assert "RM-Bench" not in (made / "index.html").read_text(encoding="utf-8")
    tables.write(VERDICTS, pl.concat([rows, *styles]), path)
    out = run(made.parent, monkeypatch, "styled")
    page = (out / "index.html").read_text(encoding="utf-8")
    [row] = grid(page, "RM-Bench, accuracy in % (95% interval)")
    shown = ["50.0", "\u2013", "\u2013", "\u2013", "100.0", "50.0", "0.0", "50.0"]
    assert [cell.split()[0] for cell in row[1:]] == shown
    assert "Math: math; Safety: safety-refuse, safety-response" in page
    figures = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert figures["rm_bench"]["bt"]["Average"]["mean"] == 0.5
    assert figures["reward_bench"] == json.loads((made / "metrics.json").read_text())["reward_bench"]


def test_held_out_pairs_are_shown_by_source_beside_every_baseline(figures, page):
    by_source = figures["judges"]["main"]["subsets"]["hh"]
    # Training says that gpt wins, and that longer wins as often as not; of the two test pairs gpt wins one.
    assert {name: one["mean"] for name, one in by_source.items() if name != "first wins"} == {
        "bt": 1.0,
        "longer wins": 0.5,
        "source decides": 0.5,
        "longer or shorter by source": 0.5,
    }
    assert by_source["bt"] == figures["judges"]["main"]["bt"]
    assert grid(page, "Subsets of main, accuracy in %")[0][:2] == ["hh", "2"]
    assert set(figures["judges"]["bench"]["subsets"]["hep-go"]) == {"bt", "longer wins"}


def test_confidence_is_measured_for_judges_and_not_for_baselines(figures, page):
    # Both verdicts of bt on the mix are right by a margin of 0.5.
    told = 1 / (1 + math.exp(-0.5))
    assert figures["judges"]["main"]["confidence"] == {
        "bt": {"expected_calibration_error": round(1 - told, 6), "mean": round(told, 6)}
    }
    assert grid(page, "Confidence on main") == [
        ["Bradley-Terry reward model", f"{1 - told:.3f}", f"{told:.3f}", "\u2013"]
    ]
    assert "Reliability of bt" in page and "Margins of bt on bench" in page


def test_every_stage_is_shown_with_what_it_kept(page):
    rows = grid(page, "Rows through every stage that may drop some")
    shown = {row[0]: row[3:] for row in rows}
    assert shown["mix@main"] == ["9", "5", "4", "55.6%"]
    assert len(shown) == 4 + 1 + 3 + 7 + 6
    assert shown["offline_pairs"][:3] == ["0", "0", "0"]
    for into, kept, dropped, _ in shown.values():
        assert int(into) == int(kept) + int(dropped)
    assert "Rows in = rows kept + rows dropped, in all 21 stages" in page
    assert "fails" not in page


def test_the_control_stands_beside_the_judge_with_what_both_were_trained_on(page):
    rows = {row[0]: row for row in grid(page, "Seen by a model that the loop never asked")}
    assert rows["t0"][2:] == ["\u2013", "\u2013"]
    assert rows["offline_dpo"][2].startswith("0.000")
    assert rows["t1"][2].startswith("0.500")
    assert rows["t1"][3].startswith("66.7")  # the judge prefers t1 on all three prompts, the control on two
    assert "sources in both: hh" in page


def test_a_leak_and_a_wrong_sum_are_shown_and_not_hidden(made, monkeypatch):
    folder = made.parent / "data" / "mixes" / "main"
    leaked = tables.read(MIX, folder / "test.parquet").with_columns(cluster_id=pl.lit("c0"))
    tables.write(MIX, leaked.head(1), folder / "test.parquet")
    counts = made.parent / "data" / "packed" / "counts.json"
    counts.write_text(counts.read_text().replace('"kept": 3', '"kept": 2'))
    words = (run(made.parent, monkeypatch) / "index.html").read_text(encoding="utf-8")
    assert "not in pack" in words
    assert "1 of 3 prompt clusters are on both sides" in words
    assert words.count('<li class="bad">') == 3


def test_the_page_is_one_well_formed_file_without_outside_addresses(page):
    root = parsed(page)
    HTMLParser().feed(page)
    assert len(page.encode()) < 1_000_000
    assert not list(root.iter("script"))
    for element in root.iter():
        for name, value in element.attrib.items():
            assert name not in ("src", "srcset", "data") and not name.startswith("on"), (element.tag, name)
            assert name != "href" or value.startswith("#")
    assert not re.search(r"url\(|@import", page)
    targets = {element.get("id") for element in root.iter() if element.get("id")}
    assert {link.get("href", "")[1:] for link in root.iter("a")} == targets


def test_text_of_rows_is_escaped_and_cannot_act(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "\x07" not in page


def test_tables_name_their_columns_and_rows(page):
    for table in parsed(page).iter("table"):
        assert table.findtext("caption")
        assert all(cell.get("scope") == "col" for cell in part(table, "thead").iter("th"))
        width = len(list(part(table, "thead").iter("th")))
        assert all(len(row) == width for row in part(table, "tbody"))


def test_drawings_have_titles(page):
    for drawing in parsed(page).iter("svg"):
        assert drawing.get("role") == "img" and drawing.findtext("title")


def test_the_same_inputs_give_the_same_bytes(made, monkeypatch):
    again = run(made.parent, monkeypatch, "again")
    for name in NAMES:
        assert (again / name).read_bytes() == (made / name).read_bytes(), name


def test_what_is_left_of_a_removed_iteration_does_not_count(made, monkeypatch):
    (made.parent / "params.yaml").write_text(small_run.PARAMS.replace("{t1: {prev: t0}}", "{}"))
    page = (run(made.parent, monkeypatch, "fewer") / "index.html").read_text(encoding="utf-8")
    assert "pair@t1" not in page


def test_a_missing_table_names_the_stage_that_makes_it(made, monkeypatch):
    (made.parent / "data" / "select" / "verdict.json").unlink()
    with pytest.raises(UserError, match="dvc repro select"):
        run(made.parent, monkeypatch)


def test_a_curve_with_other_columns_is_refused(made, monkeypatch):
    (made.parent / "data" / "curves" / "reward" / "loss.tsv").write_text("epoch\tloss\n1\t2.0\n")
    with pytest.raises(UserError, match=r"expected the columns step and loss, found \['epoch', 'loss'\]"):
        run(made.parent, monkeypatch)
