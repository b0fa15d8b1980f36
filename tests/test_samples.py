"""The sample data: every file parses, has its upstream's columns, and holds what its README says, no more."""

import re
from typing import Any

import pytest

from tests.sample_defects import DETECTORS, SAMPLES, answers, asked, pairs_for, rows_of, texts, words

README = (SAMPLES / "README.md").read_text(encoding="utf-8")
CELLS = [[cell.strip().strip("`") for cell in line.strip("| ").split(" | ")] for line in README.splitlines()]
FILES = {cells[1]: cells for cells in CELLS if len(cells) == 6 and cells[2].isdigit()}
LINKS = [cells for cells in CELLS if len(cells) == 5 and cells[1] in FILES]
BETWEEN_FILES = {"near-duplicate prompt", "labelled both ways", "copied pair", "prompt of another source"}

COLUMNS = {
    "hh_rlhf": "chosen rejected",
    "shp": "post_id domain upvote_ratio history c_root_id_A c_root_id_B created_at_utc_A created_at_utc_B "
    "score_A score_B human_ref_A human_ref_B labels seconds_difference score_ratio",
    "helpsteer": "prompt response helpfulness correctness coherence complexity verbosity",
    "ultrafeedback": "source instruction models completions correct_answers incorrect_answers",
    "pku_saferlhf": "prompt response_0 response_1 is_response_0_safe is_response_1_safe better_response_id "
    "safer_response_id",
    "ultrainteract": "task dataset trajectory chosen rejected id parent_id",
    "codeultrafeedback": "instruction preference models responses annotations",
    "argilla_math": "metadata instruction chosen_response chosen_rating rejected_response rejected_rating",
    "orca_dpo_pairs": "system input chosen rejected generations order labelling_model labelling_prompt "
    "raw_labelling_response rating rationale status original_chosen original_rejected chosen_score "
    "in_gsm8k_train",
    "capybara_preferences": "chosen rejected chosen_rating rejected_rating chosen_model "
    "rejected_model dataset",
    "nectar": "prompt answers turns num_responses source good_natured",
    "helpsteer2/train.jsonl.gz": "prompt response helpfulness correctness coherence complexity verbosity",
    "helpsteer2/preference": "prompt response_1 response_2 preference_strength preference_statement "
    "preference_elaboration",
    "summarize_from_feedback": "info summaries choice worker batch split extra",
    "gpt4_llm": "instruction input output",
    "sharegpt": "id conversations",
    "evol_instruct": "idx conversations",
    "slimorca": "conversations",
    "mathinstruct": "source instruction output",
    "magicoder_evol": "instruction response",
    "orcamath": "question answer",
    "gpteacher": "instruction input response",
    "ultrainteract_sft": "task dataset instruction response id parent_id",
    "dibt_10k": "prompt quality metadata avg_rating num_responses agreement_ratio raw_responses kind "
    "cluster_description topic",
    "benchmarks/gsm8k": "question answer",
    "benchmarks/mmlu": "question subject choices answer",
    "benchmarks/alpaca_eval": "dataset instruction output generator",
    "benchmarks/humaneval": "task_id prompt canonical_solution test entry_point",
    "benchmarks/truthfulqa": "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source",
    "benchmarks/mt_bench": "question_id category turns",
    "benchmarks/arena_hard": "question_id category cluster turns",
    "benchmarks/arc": "id question answerKey",
    "benchmarks/mbpp": "text code task_id test_setup_code test_list challenge_test_list",
    "benchmarks/reward_bench": "prompt chosen chosen_model rejected rejected_model subset id",
}


def claims(cell: str) -> dict[str, int]:
    """The counts in a cell like "score tie x2; empty answer x1"."""
    return {} if cell == "none" else {m[1]: int(m[2]) for m in re.finditer(r"([^;]+?) x(\d+)(?:; )?", cell)}


def test_the_table_of_the_readme_lists_every_file_and_no_other():
    on_disk = {path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("*") if path.is_file()}
    assert on_disk - {"README.md"} == set(FILES)
    assert sum((SAMPLES / file).stat().st_size for file in on_disk) < 1_500_000


@pytest.mark.parametrize("file", FILES)
def test_a_file_has_the_rows_and_the_columns_of_its_upstream(file):
    names = [key for key in COLUMNS if file == key or file.startswith(f"{key}/")]
    assert len(names) == 1
    columns = re.split("," if "," in COLUMNS[names[0]] else " ", COLUMNS[names[0]])
    rows = rows_of(file)
    assert len(rows) == int(FILES[file][2])
    assert {tuple(sorted(row)) for row in rows} == {tuple(sorted(columns))}


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("benchmarks/")])
def test_a_file_holds_exactly_the_planted_rows_that_the_readme_counts(file):
    rows = rows_of(file)
    found = {name: detector(file, rows) for name, detector in DETECTORS.items()}
    claimed = claims(FILES[file][4]) | claims(FILES[file][5])
    inside = {name: count for name, count in claimed.items() if name not in BETWEEN_FILES}
    assert {name: count for name, count in found.items() if count} == inside


def test_defects_between_two_files_are_counted_where_the_readme_says():
    for name in ("near-duplicate prompt", "labelled both ways", "copied pair"):
        listed = [cells[1] for cells in LINKS if cells[0] == name]
        assert listed
        assert {file: listed.count(file) for file in listed} == {
            file: claims(cells[4])[name] for file, cells in FILES.items() if name in claims(cells[4])
        }


@pytest.mark.parametrize(("kind", "file", "prompt", "other", "twin"), LINKS)
def test_rows_linked_between_two_files_are_what_the_readme_calls_them(kind, file, prompt, other, twin):
    if kind == "near-duplicate prompt":
        ours, theirs = set(words(prompt).split()), set(words(twin).split())
        assert 0.6 <= len(ours & theirs) / len(ours | theirs) < 1
        assert prompt in set(texts(rows_of(file))) | {asked(row) for row in rows_of(file)}
        assert twin in set(texts(rows_of(other))) | {asked(row) for row in rows_of(other)}
    else:
        ours, theirs = pairs_for(file, prompt), pairs_for(other, prompt)
        assert bool(ours & theirs) == (kind == "copied pair")
        assert bool(ours & {(b, a) for a, b in theirs}) == (kind == "labelled both ways")


def test_most_rows_are_clean():
    rows = sum(int(cells[2]) for file, cells in FILES.items() if not file.startswith("benchmarks/"))
    planted = sum(sum(claims(cells[4]).values()) for cells in FILES.values())
    assert 40 <= planted <= 0.15 * rows


def test_the_better_answer_of_a_transcript_is_longer_only_about_half_of_the_time():
    pairs = [answers(file, row) for file in FILES if file.startswith("hh_rlhf") for row in rows_of(file)]
    longer = sum(len(chosen) > len(rejected) for chosen, rejected in pairs)
    assert 0.4 < longer / len(pairs) < 0.65


def test_each_solution_of_the_code_benchmark_passes_its_own_tests():
    for row in rows_of("benchmarks/humaneval/HumanEval.jsonl.gz"):
        names: dict[str, Any] = {}
        exec(row["prompt"] + row["canonical_solution"] + row["test"], names)
        names["check"](names[row["entry_point"]])


def test_each_program_of_the_other_code_benchmark_passes_its_own_tests():
    for row in rows_of("benchmarks/mbpp/mbpp.jsonl"):
        names: dict[str, Any] = {}
        exec("\n".join([row["code"], *row["test_list"]]), names)


def test_the_judge_set_covers_the_four_sections():
    subsets = {row["subset"] for row in rows_of("benchmarks/reward_bench/filtered.jsonl")}
    for section in ("alpacaeval-easy", "llmbar-natural", "refusals-dangerous", "math-prm"):
        assert section in subsets
