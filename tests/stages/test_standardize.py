"""standardize: the table, the ledger and the counts of a source, and the mistakes it refuses."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import byte_streams, portions, tables
from pipeline.errors import UserError
from pipeline.ids import pair_id, prompt_id
from pipeline.ledger import counts_of
from pipeline.params import parse
from pipeline.schemas import LEDGER, PREFERENCES
from pipeline.source_params import Source
from pipeline.sources import hh_rlhf
from pipeline.stages import standardize as stage
from pipeline.stages.standardize import standardize

ROOT = Path(__file__).parents[2]
RULES = {"prompt": "explicit", "chosen_score": "up", "rejected_score": None}
ROW = {"prompt": "Q", "chosen": "good", "rejected": "bad", "up": 2}
LINES = [
    json.dumps(ROW),
    "{broken",
    json.dumps(ROW | {"chosen": "bad"}),
    json.dumps(ROW | {"prompt": 7}),
    json.dumps(ROW | {"prompt": "Q2", "up": None}),
]


def source(**change: Any) -> Source:
    section = {
        "adapter": "trl_pairs",
        "kind": "preferences",
        "origin": "path:here",
        "files": [{"path": "f.jsonl", "sha256": None}],
        "licence": "MIT",
        "redistributable": True,
        "rules": RULES | {"scores_must_agree": False},
        "max_bad_fraction": 0.5,
    }
    return parse("sources.mine", Source, section | change)


def run(folder: Path, lines: list[str], **change: Any) -> dict[str, Any]:
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / "f.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return standardize("mine", source(**change), folder / "raw", folder / "out")


def test_every_row_is_in_the_table_or_the_ledger(tmp_path):
    counts = run(tmp_path, LINES)
    kept = tables.read(PREFERENCES, tmp_path / "out" / "preferences.parquet")
    dropped = tables.read(LEDGER, tmp_path / "out" / "ledger.parquet")
    assert kept["row"].to_list() == [0, 4]
    assert dict(zip(dropped["row"], dropped["reason"], strict=True)) == {
        1: "malformed json",
        2: "identical answers",
        3: "wrong shape",
    }
    assert (counts["in"], counts["kept"]) == (5, 2)
    written = json.loads((tmp_path / "out" / "counts.json").read_text())
    assert written == counts == counts_of("standardize@mine", "preferences", 5, 2, dropped)


def test_rows_carry_origin_ids_and_scores(tmp_path):
    run(tmp_path, LINES)
    row = pl.read_parquet(tmp_path / "out" / "preferences.parquet").row(0, named=True)
    prompt, chosen = [{"role": "user", "content": "Q"}], [{"role": "assistant", "content": "good"}]
    assert (row["source"], row["file"], row["row"], row["item"]) == ("mine", "f.jsonl", 0, 0)
    assert row["prompt_id"] == prompt_id(prompt)
    assert row["pair_id"] == pair_id(prompt, chosen, row["rejected"])
    assert (row["prompt"], row["chosen"], row["chosen_score"], row["rejected_score"]) == (
        prompt,
        chosen,
        2.0,
        None,
    )
    ledger = pl.read_parquet(tmp_path / "out" / "ledger.parquet")
    same = [{"role": "assistant", "content": "bad"}]
    assert ledger.filter(reason="identical answers")["id"].item() == pair_id(prompt, same, same)


def test_the_size_of_chunks_does_not_change_a_byte(tmp_path, monkeypatch):
    lines = [
        json.dumps(ROW | {"prompt": f"Q{n}", "up": n, "chosen": "bad" if n % 3 else "good"})
        for n in range(50)
    ]
    run(tmp_path, lines)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(portions, "CHUNK_ITEMS", 7)
    run(tmp_path, lines)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == whole


def test_a_source_that_is_mostly_garbage_stops_and_shows_a_row(tmp_path):
    with pytest.raises(
        UserError, match=r"at most 30% unreadable rows, found 2 of 5; first: f.jsonl row 1: malformed"
    ):
        run(tmp_path, LINES, max_bad_fraction=0.3)
    assert not (tmp_path / "out").exists()


def test_rows_that_rules_drop_are_not_garbage(tmp_path):
    assert run(tmp_path, [LINES[0], LINES[2], LINES[2]], max_bad_fraction=0.0)["kept"] == 1


def test_a_source_that_keeps_nothing_stops_and_says_why(tmp_path):
    with pytest.raises(UserError, match="identical answers"):
        run(tmp_path, [LINES[2]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "prompts"}, "makes preferences, found prompts"),
        ({"adapter": "nonsense"}, "hh_rlhf"),
        ({"adapter": "../stages/fetch"}, "hh_rlhf"),
        ({"rules": RULES}, "sources.mine.rules.scores_must_agree is missing"),
        (
            {"files": [{"path": path, "sha256": None} for path in ("f.jsonl", "./f.jsonl")]},
            r"sources\.mine\.files: .*each path once, found 'f\.jsonl' again",
        ),
        (
            {"rules": {**RULES, "scores_must_agree": "yes"}},
            "sources.mine.rules.scores_must_agree",
        ),
    ],
)
def test_a_wrong_section_is_an_error_that_names_the_key(tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        run(tmp_path, LINES, **change)


@pytest.mark.parametrize("path", ["../f.jsonl", "/etc/passwd", "a/../../f.jsonl", ""])
def test_a_file_cannot_leave_its_origin(path):
    with pytest.raises(UserError, match="below the origin"):
        source(files=[{"path": path, "sha256": None}])


@pytest.mark.parametrize("origin", ["here", "hub:org/name", "hub:name@main", "http://x", "path:"])
def test_an_origin_has_one_of_three_forms(origin):
    with pytest.raises(UserError, match="path:<folder>, env:<folder> or hub:"):
        source(origin=origin)


def test_an_adapter_that_loses_a_row_is_caught(tmp_path, monkeypatch):
    module = stage.adapter("trl_pairs")
    answer_for_all = module.items
    monkeypatch.setattr(module, "items", lambda rows, rules: list(answer_for_all(rows, rules))[1:])
    with pytest.raises(AssertionError, match="5 raw rows in, the adapter answers for 4"):
        run(tmp_path, LINES)


def test_it_starts_without_heavy_libraries():
    heavy = ("torch", "transformers", "datasets", "huggingface_hub", "pyarrow")
    code = f"import sys, pipeline.stages.standardize; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def transcripts(folder: Path, lines: list[str]) -> dict[str, bytes]:
    """The files that hh_rlhf makes of `lines`, half of them in each of two raw files."""
    half = len(lines) // 2
    (folder / "raw").mkdir(exist_ok=True)
    for name, part in (("b", lines[:half]), ("a", lines[half:])):
        (folder / "raw" / f"{name}.jsonl").write_text("\n".join(part), encoding="utf-8")
    files = [{"path": f"{name}.jsonl", "sha256": None} for name in "ba"]
    section = source(adapter="hh_rlhf", files=files, rules={})
    standardize("mine", section, folder / "raw", folder / "out")
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.mark.parametrize("size", [50, 1000])
def test_neither_the_files_order_nor_the_runs_of_lines_change_a_byte(tmp_path, monkeypatch, size):
    asks = [f"\n\nHuman: Ask {n}\n\nAssistant:" for n in range(40)]
    rows = [{"chosen": f"{ask} Yes {n % 9}", "rejected": f"{ask} Yes 4"} for n, ask in enumerate(asks)]
    lines = [json.dumps(row) if n % 7 else "{broken" for n, row in enumerate(rows)]
    whole = transcripts(tmp_path, lines)
    counts = json.loads(whole["counts.json"])
    assert counts["dropped"] == {"identical answers": 4, "malformed json": 6}
    assert counts["kept"] == 30
    monkeypatch.setattr(byte_streams, "BLOCK_BYTES", size)
    assert transcripts(tmp_path, lines) == whole
    monkeypatch.delattr(hh_rlhf, "certain")
    assert transcripts(tmp_path, lines) == whole


def test_a_damaged_file_leaves_nothing_behind(tmp_path):
    with pytest.raises(UserError, match="cut-off"):
        (tmp_path / "raw").mkdir()
        (tmp_path / "raw" / "f.jsonl.gz").write_bytes(gzip.compress(LINES[0].encode() * 9999)[:-9])
        files = [{"path": "f.jsonl.gz", "sha256": None}]
        standardize("mine", source(files=files), tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()
