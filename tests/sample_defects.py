"""What the tests of the sample data look for: rows, pairs and defects, found without the adapters."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.raw import read

SAMPLES = Path(__file__).parents[1] / "data" / "samples"

LABELS = ("better", "safer")
SIDES = ("chosen", "rejected")
TURN_KEYS = (("from", "role"), ("value", "content"))

Row = dict[str, Any]
Detector = Callable[[str, list[Row]], int]


@cache
def rows_of(file: str) -> list[Row]:
    """The rows of a sample file, read by the project's own reader; none of them may be bad."""
    rows = list(read(SAMPLES, [file]))
    assert [row for row in rows if row.bad] == []
    return [row.value for row in rows]


def texts(value: Any) -> Iterator[str]:
    """Every string inside a row."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)


def words(text: str) -> str:
    """Lower-cased words, one space between them, so that case and punctuation do not count."""
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def turns(transcript: Any) -> list[tuple[str, str]]:
    """The (speaker, text) turns of an HH transcript, none for other texts."""
    parts = re.split(r"\n\n(Human|Assistant): ", transcript)[1:] if isinstance(transcript, str) else []
    return list(zip(parts[::2], parts[1::2], strict=True))


def answers(file: str, row: Row) -> list[str]:
    """The answers that a row offers."""
    source = file.split("/")[0]
    if source == "hh_rlhf":
        return [turns(row[side])[-1][1] for side in SIDES]
    if source in ("ultrafeedback", "nectar", "codeultrafeedback", "summarize_from_feedback"):
        column, key = {
            "ultrafeedback": ("completions", "response"),
            "nectar": ("answers", "answer"),
            "codeultrafeedback": ("responses", "response"),
            "summarize_from_feedback": ("summaries", "text"),
        }[source]
        return [answer[key] for answer in row[column]]
    named = (
        "chosen rejected response_0 response_1 response_2 chosen_response rejected_response human_ref_A "
        "human_ref_B output response answer"
    )
    return [row[name] for name in named.split() if isinstance(row.get(name), str)]


def scores(file: str, row: Row) -> list[Any]:
    """The scores of a row's answers, where it has any."""
    match file.split("/")[0]:
        case "shp":
            return [row["score_A"], row["score_B"]]
        case "ultrafeedback":
            return [completion["fine-grained_score"] for completion in row["completions"]]
        case "codeultrafeedback":
            return [annotation["rating"] for annotation in row["annotations"]]
        case "nectar":
            return [answer["rank"] for answer in row["answers"]]
        case "orca_dpo_pairs":
            return row["rating"] or []
        case "helpsteer2" if "preference_strength" in row:
            return [0, row["preference_strength"]]
        case _:
            return [row[name] for name in ("chosen_rating", "rejected_rating") if name in row]


def tied(file: str, rows: list[Row]) -> int:
    """Prompts with two answers of equal score."""
    if "helpfulness" not in rows[0]:
        return sum(len(set(scores(file, row))) < len(scores(file, row)) for row in rows)
    seen: dict[str, dict[str, float]] = {}
    for row in rows:
        seen.setdefault(row["prompt"], {})[row["response"]] = row["helpfulness"] + row["correctness"]
    return sum(len(set(graded.values())) < len(graded) for graded in seen.values())


def conversation(row: Row) -> list[tuple[str, str]]:
    """The (role, text) turns of a row that holds a conversation, else none."""
    for column in ("conversations", "chosen"):
        if isinstance(row.get(column), list):
            return [tuple(turn.get(a, turn.get(b)) for a, b in TURN_KEYS) for turn in row[column]]
    return [("system", row["system"])] if row.get("system") else []


def repeats_a_role(row: Row) -> bool:
    """True where two turns in a row have one role."""
    return any(before[0] == after[0] for before, after in pairwise(conversation(row)))


def contexts_differ(row: Row) -> bool:
    """True where two HH transcripts of equal length differ before the last turn."""
    chosen, rejected = turns(row.get("chosen")), turns(row.get("rejected"))
    return len(chosen) == len(rejected) and chosen[:-1] != rejected[:-1]


def ends_in_human_turn(row: Row) -> bool:
    """True where one of two HH transcripts ends with the human."""
    return any(role == "Human" for side in SIDES for role, _ in turns(row.get(side))[-1:])


def posts_with_six_pairs(rows: list[Row]) -> int:
    """SHP posts with all pairs of four answers."""
    return list(Counter(row.get("post_id") for row in rows if "post_id" in row).values()).count(6)


def benchmark_files() -> list[str]:
    """The files below benchmarks/."""
    return sorted(path.relative_to(SAMPLES).as_posix() for path in SAMPLES.glob("benchmarks/*/*"))


@cache
def questions() -> list[str]:
    """The question texts of all benchmarks."""
    named = ("question", "Question", "instruction", "prompt", "turns", "text")
    rows = [row for file in benchmark_files() for row in rows_of(file)]
    asked = [next(row[name] for name in named if name in row) for row in rows]
    stems = [value["stem"] if isinstance(value, dict) and "stem" in value else value for value in asked]
    return [words(text) for value in stems for text in texts(value)]


def holds_benchmark_item(row: Row) -> bool:
    """True where a benchmark's question stands in the row."""
    return any(question in words(text) for text in texts(row) for question in questions())


def each(holds: Callable[[Row], bool]) -> Detector:
    """A detector that counts the rows for which `holds`."""
    return lambda _, rows: sum(map(holds, rows))


def each_answers(holds: Callable[[list[str]], bool]) -> Detector:
    """A detector that counts the rows for whose answers `holds`."""
    return lambda file, rows: sum(holds(answers(file, row)) for row in rows)


DETECTORS: dict[str, Detector] = {
    "exact duplicate": lambda _, rows: len(rows) - len({json.dumps(row) for row in rows}),
    "identical answers": each_answers(lambda found: len(set(found)) < len(found)),
    "empty answer": each_answers(lambda found: any(not text.strip() for text in found)),
    "score tie": tied,
    "rating N/A": each(lambda row: "N/A" in texts(row)),
    "zero-width character": each(lambda row: any("\u200b" in text for text in texts(row))),
    "benchmark item": each(holds_benchmark_item),
    "contexts differ": each(contexts_differ),
    "ends in Human turn": each(ends_in_human_turn),
    "system message": each(lambda row: any(role == "system" for role, _ in conversation(row))),
    "starts with gpt": each(lambda row: [role for role, _ in conversation(row)][:1] == ["gpt"]),
    "empty turn": each(lambda row: any(not text for _, text in conversation(row))),
    "repeated role": each(repeats_a_role),
    "roles user and chatgpt": each(
        lambda row: {"user", "chatgpt"} <= {role for role, _ in conversation(row)}
    ),
    "score ratio of at most 2": each(lambda row: 1 < row.get("score_ratio", 0) <= 2),
    "post with six pairs": lambda _, rows: posts_with_six_pairs(rows),
    "better and safer disagree": each(lambda row: len({row.get(f"{by}_response_id") for by in LABELS}) > 1),
    "both answers unsafe": each(lambda row: not any(row.get(f"is_response_{n}_safe", True) for n in (0, 1))),
    "status swapped": each(lambda row: row.get("status") == "swapped"),
    "no rating": each(lambda row: "rating" in row and row["rating"] is None),
    "not good-natured": each(lambda row: row.get("good_natured") is False),
    "average rating below 3": each(lambda row: row.get("avg_rating", 5) < 3),
}


def better_and_worse(file: str, row: Row) -> tuple[str, str]:
    """The pair of a row with one preference."""
    if "better_response_id" in row:
        two = [row["response_0"], row["response_1"]]
        return two[row["better_response_id"]], two[1 - row["better_response_id"]]
    if isinstance(row["chosen"], list):
        return row["chosen"][-1]["content"], row["rejected"][-1]["content"]
    better, worse = answers(file, row)[:2]
    return better, worse


def asked(row: Row) -> str:
    """The first human text of an HH row, else an empty text."""
    return next((text for _, text in turns(row.get("chosen"))), "")


def pairs_for(file: str, prompt: str) -> set[tuple[str, str]]:
    """All (better, worse) pairs of the rows with this prompt."""
    rows = [row for row in rows_of(file) if any(words(prompt) in words(text) for text in texts(row))]
    if "helpfulness" in rows[0]:
        graded = [(row["helpfulness"], row["response"]) for row in rows]
        return {(better, worse) for high, better in graded for low, worse in graded if high > low}
    return {better_and_worse(file, row) for row in rows}
