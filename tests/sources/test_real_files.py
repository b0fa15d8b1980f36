"""The adapters on real upstream rows: counts from their notes, or from a plain reading."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.params import parse
from pipeline.source_params import Source
from pipeline.stages.standardize import standardize

AGREE = {"scores_must_agree": True, "min_margin": None}
HELPSTEER2 = {"prompt": "implicit", "chosen_score": "chosen_reward", "rejected_score": "rejected_reward"}


class Made:
    """What standardize makes of some real files."""

    def __init__(self, out: Path, kind: str, counts: dict[str, Any]) -> None:
        self.rows = pl.read_parquet(out / f"{kind}.parquet")
        self.counts, self.dropped = counts, Counter(counts["dropped"])


@pytest.fixture
def make(shared_data, tmp_path):
    """Standardize files of a folder with an adapter."""

    def made(adapter: str, kind: str, folder: str, *files: str, **rules: Any) -> Made:
        section = {
            "adapter": adapter,
            "kind": kind,
            "origin": f"env:{folder}",
            "files": [{"path": file, "sha256": None} for file in files],
            "licence": "see the card",
            "redistributable": False,
            "rules": rules,
            "max_bad_fraction": 0.0,
        }
        source = parse("sources.real", Source, section)
        return Made(tmp_path, kind, standardize("real", source, shared_data / folder, tmp_path))

    return made


def raw(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON or JSON lines file, by the plainest reading."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return (
        json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.split("\n") if line]
    )


def last_answer(transcript: str) -> tuple[str, str]:
    context, _, answer = transcript.rpartition("\n\nAssistant:")
    return context, answer.strip()


@pytest.mark.parametrize(
    "part", ["helpful-base", "helpful-online", "helpful-rejection-sampled", "harmless-base"]
)
def test_hh_drops_what_a_plain_reading_finds_and_nothing_else(make, shared_data, part):
    made = make("hh_rlhf", "preferences", "hh-rlhf", f"{part}/test.jsonl.gz")
    rows = raw(shared_data / "hh-rlhf" / part / "test.jsonl.gz")
    assert made.counts["in"] == len(rows)
    pairs = [(last_answer(row["chosen"]), last_answer(row["rejected"])) for row in rows]
    good = {
        i
        for i, (chosen, rejected) in enumerate(pairs)
        if chosen[0].split() == rejected[0].split() and chosen[1] and rejected[1] and chosen[1] != rejected[1]
    }
    kept = set(made.rows["row"])
    assert kept <= good
    # what a plain reading takes for a pair and is none: a turn that is empty, or two turns by one speaker
    assert (
        len(good - kept)
        <= made.dropped["turns do not alternate"] + made.dropped["empty turn"] + made.dropped["no answer"]
    )
    same = sum(chosen == rejected for chosen, rejected in pairs)
    assert made.dropped["identical answers"] <= same


def test_hh_rejection_sampled_has_as_many_contexts_that_differ_as_its_notes_say(make):
    made = make("hh_rlhf", "preferences", "hh-rlhf", "helpful-rejection-sampled/test.jsonl.gz")
    assert made.dropped["contexts differ"] == 3
    assert set(made.dropped) == {"contexts differ", "identical answers"}


def test_every_pku_row_has_true_digests_and_is_kept(make):
    rules = {"label": "better", "require_safe_chosen": False}
    file = "single-dimension/data/Alpaca3-8B/test.jsonl.gz"
    made = make("pku_saferlhf", "preferences", "pku-saferlhf", file, **rules)
    assert (made.counts["in"], made.counts["kept"]) == (1783, 1783)


def test_the_pku_labels_disagree_in_19_of_32_rows(make):
    chosen = {}
    for label in ("better", "safer"):
        rules = {"label": label, "require_safe_chosen": False}
        made = make(
            "pku_saferlhf", "preferences", "pku-saferlhf", "align-anything-sample/train.json", **rules
        )
        chosen[label] = made.rows["chosen"].to_list()
    assert sum(a != b for a, b in zip(chosen["better"], chosen["safer"], strict=True)) == 19


def test_ultrafeedback_ties_are_dropped_by_name(make, shared_data):
    made = make("ultrafeedback_binarized", "preferences", "ultrafeedback", "hub_schema.jsonl.gz", **AGREE)
    rows = raw(shared_data / "ultrafeedback" / "hub_schema.jsonl.gz")
    assert made.dropped["tie"] == sum(row["score_chosen"] == row["score_rejected"] for row in rows) > 0
    assert made.counts["kept"] == 796 - made.dropped.total()


def test_all_orca_rows_keep_their_system_message(make):
    made = make("orca_dpo_pairs", "preferences", "orca-dpo-pairs", "hub_schema.jsonl.gz")
    roles = made.rows["prompt"].list.first().struct.field("role")
    assert made.counts["kept"] == 228
    assert set(roles) == {"system"}


def test_llmeval2_drops_ties_and_rows_without_a_query(make, shared_data):
    made = make("llmeval2", "preferences", "llmeval2", "LLMEval2_benchmark.jsonl.gz", datasets=None)
    rows = raw(shared_data / "llmeval2" / "LLMEval2_benchmark.jsonl.gz")
    assert made.dropped["tie"] == sum(row["human"] == "TIE" for row in rows) == 419
    assert made.dropped["empty turn"] == sum(
        row["human"] != "TIE" and not row["query"].strip() for row in rows
    )


def test_a_gold_model_contradicts_28_of_100_helpsteer2_pairs(make, shared_data):
    file = "helpsteer2_subset_annotated.json.gz"
    made = make("trl_pairs", "preferences", "helpsteer2", file, **AGREE, **HELPSTEER2)
    rows = raw(shared_data / "helpsteer2" / file)
    assert made.counts["in"] == 100
    reversed_pairs = sum(row["chosen_reward"] < row["rejected_reward"] for row in rows)
    assert made.dropped == {"rejected is rated higher": reversed_pairs}


def test_gpt4_comparisons_are_all_pairs(make):
    made = make("gpt4_comparison", "preferences", "gpt4-llm-comparison", "comparison_gpt4_data_en.json.gz")
    assert made.counts["kept"] == made.rows["prompt_id"].n_unique() == 874


def test_a_real_comparison_of_summaries_is_a_pair(make):
    rules = {"post_instruction": "Summarize:", "article_instruction": "Summarize:", "min_strength": 3}
    made = make(
        "summarize_from_feedback",
        "preferences",
        "summarize-from-feedback",
        "readme_example_comparison.json",
        **rules,
    )
    assert made.counts["kept"] == 1


@pytest.mark.parametrize(
    ("folder", "file", "answer", "rows"),
    [
        ("alpaca", "alpaca_5000.json.gz", "output", 4052),
        ("gpteacher", "codegen-instruct.json.gz", "response", 3606),
    ],
)
def test_alpaca_files_lose_only_empty_outputs(make, shared_data, folder, file, answer, rows):
    made = make("alpaca", "demonstrations", folder, file)
    empty = sum(not row[answer].strip() for row in raw(shared_data / folder / file))
    assert (made.counts["in"], made.dropped["empty turn"]) == (rows, empty)
    assert made.counts["kept"] == rows - empty


def test_sharegpt_loses_its_later_parts_unless_trimmed(make, shared_data):
    rows = raw(shared_data / "sharegpt" / "sharegpt_sample.jsonl.gz")
    begins = sum(row["conversations"][0]["from"] == "gpt" for row in rows)
    strict = make("sharegpt", "demonstrations", "sharegpt", "sharegpt_sample.jsonl.gz", trim=False)
    assert (
        begins - strict.dropped["empty turn"] <= strict.dropped["does not start with a user turn"] <= begins
    )
    trimmed = make("sharegpt", "demonstrations", "sharegpt", "sharegpt_sample.jsonl.gz", trim=True)
    assert trimmed.counts["kept"] > strict.counts["kept"] + 200
    assert trimmed.counts["in"] == len(rows) == 807


def test_capybara_parquet_is_read(make):
    made = make("messages", "demonstrations", "capybara", "test-00000-of-00001.parquet", column="messages")
    assert made.counts["kept"] == 200


@pytest.mark.parametrize(
    ("adapter", "kind", "folder", "file", "rules", "rows"),
    [
        ("prompt_column", "prompts", "self-instruct", "koala_test_set.jsonl", {"column": "prompt"}, 180),
        (
            "prompt_column",
            "prompts",
            "self-instruct",
            "WizardLM_testset.jsonl",
            {"column": "Instruction"},
            218,
        ),
        ("benchmark", "benchmarks", "gsm8k", "test.jsonl.gz", {"columns": ["question"]}, 1319),
        ("benchmark", "benchmarks", "alpaca-eval", "alpaca_eval.jsonl.gz", {"columns": ["instruction"]}, 805),
        ("benchmark", "benchmarks", "humaneval", "HumanEval.jsonl.gz", {"columns": ["prompt"]}, 164),
        ("mmlu", "benchmarks", "mmlu", "mmlu_csv.zip", {"with_choices": True}, 285 + 1531 + 14042),
        ("llmbar", "judge_sets", "llmbar", "LLMBar_Natural.json", {"subset": "natural"}, 100),
    ],
)
def test_whole_files_are_kept_whole(make, adapter, kind, folder, file, rules, rows):
    made = make(adapter, kind, folder, file, **rules)
    assert (made.counts["in"], made.counts["kept"]) == (rows, rows)
