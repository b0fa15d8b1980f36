"""The rows of sets that come in pairs: HH-RLHF, PKU-SafeRLHF, the math, Orca and Capybara preferences."""

import json

import numpy as np

from benchmarks.full_scale.kit import Kit, Rows, bad_line, mixed_in, pairs, ratings


def hh_rlhf(kit: Kit) -> Rows:
    """Pairs of transcripts in three files."""
    names = ("helpful-base", "helpful-online", "helpful-rejection-sampled")
    for pair, spoiled in mixed_in(kit, pairs(kit, most=2, several_turns=0.55), kit.part(2_867)):
        file = f"{names[int(kit.rng.choice(3, p=[0.37, 0.19, 0.44]))]}/train.jsonl.gz"
        context = transcript(pair.turns)
        row = {"chosen": f"{context}{pair.chosen}", "rejected": f"{context}{pair.rejected}"}
        if spoiled:
            row = spoiled_transcript(kit, row, context)
        if line := bad_line(kit):
            yield file, line
        yield file, row


def transcript(turns: list[str]) -> str:
    """The turns up to the answer, which is to follow."""
    names = ("Human", "Assistant")
    told = "".join(f"\n\n{names[i % 2]}: {turn}" for i, turn in enumerate(turns))
    return f"{told}\n\nAssistant: "


def spoiled_transcript(kit: Kit, row: dict[str, str], context: str) -> dict[str, str]:
    """A row in one of the ways in which rows of the set are defective."""
    match int(kit.rng.choice(5, p=[0.6, 0.1, 0.1, 0.1, 0.1])):
        case 0:
            return row | {"rejected": f"\n\nHuman: {kit.answers(np.array([80.0]))[0]}{row['rejected']}"}
        case 1:
            return row | {"rejected": row["chosen"]}
        case 2:
            return row | {"rejected": context}
        case 3:
            return row | {"chosen": f"{row['chosen']}\n\nHuman: And then?"}
        case _:
            return row | {"chosen": row["chosen"].lstrip("\n").removeprefix("Human: ")}


def pku_saferlhf(kit: Kit) -> Rows:
    """Two answers with two labels."""
    for pair, spoiled in mixed_in(kit, pairs(kit, most=10, several_turns=0.0), kit.part(60)):
        best = int(kit.rng.integers(2))
        first, second = (pair.chosen, pair.rejected) if best == 0 else (pair.rejected, pair.chosen)
        safe = kit.rng.random(2) < 0.5
        row = {
            "prompt": pair.turns[0],
            "response_0": first,
            "response_1": first if spoiled else second,
            "is_response_0_safe": bool(safe[0]),
            "is_response_1_safe": bool(safe[1]),
            "better_response_id": best,
            "safer_response_id": int(kit.rng.integers(2)),
        }
        if line := bad_line(kit):
            yield "train.jsonl.gz", line
        yield "train.jsonl.gz", row


def argilla_math(kit: Kit) -> Rows:
    """Instructions with two rated answers."""
    for pair, spoiled in mixed_in(kit, pairs(kit, most=2, several_turns=0.0), kit.part(40)):
        high, low = ratings(kit, tie=spoiled)
        yield (
            "data/train-00000-of-00001.parquet",
            {
                "metadata": json.dumps({"length": len(pair.turns[0])}),
                "instruction": pair.turns[0],
                "chosen_response": pair.chosen,
                "chosen_rating": high,
                "rejected_response": pair.rejected,
                "rejected_rating": low,
            },
        )


def distilabel_orca(kit: Kit) -> Rows:
    """Questions with a system prompt and two answers; ties, low scores and questions of GSM8K are dropped."""
    for pair, spoiled in mixed_in(kit, pairs(kit, most=2, several_turns=0.0), kit.part(12_859 - 6_926)):
        why = int(kit.rng.choice(3, p=[0.38, 0.6, 0.02])) if spoiled else None
        high, low = ratings(kit, tie=why == 0, least=8, most=10)
        if why == 1:
            high, low = 7.0, 3.0
        step = 1 if kit.rng.random() < 0.5 else -1
        yield (
            "data/train-00000-of-00001.parquet",
            {
                "system": "You are an AI assistant. You will be given a task.",
                "input": pair.turns[0],
                "chosen": pair.chosen,
                "rejected": pair.rejected,
                "generations": [pair.chosen, pair.rejected][::step],
                "order": ["chosen", "rejected"][::step],
                "labelling_model": "gpt-4-1106-preview",
                "labelling_prompt": [{"content": "Rate the two answers.", "role": "system"}],
                "raw_labelling_response": f"{high} {low}",
                "rating": [high, low][::step],
                "rationale": "One of the two is better.",
                "status": "tie" if why == 0 else "unchanged",
                "original_chosen": pair.chosen,
                "original_rejected": pair.rejected,
                "chosen_score": high,
                "in_gsm8k_train": why == 2,
            },
        )


def capybara_preferences(kit: Kit) -> Rows:
    """Conversations with two last turns."""
    for pair, spoiled in mixed_in(kit, pairs(kit, most=2, several_turns=0.7), kit.part(150)):
        high, low = ratings(kit, tie=spoiled)
        context = [
            {"content": turn, "role": ("user", "assistant")[i % 2]} for i, turn in enumerate(pair.turns)
        ]
        yield (
            "data/train-00000-of-00001.parquet",
            {
                "dataset": "LDJnr/Capybara",
                "chosen": [*context, {"content": pair.chosen, "role": "assistant"}],
                "rejected": [*context, {"content": pair.rejected, "role": "assistant"}],
                "chosen_rating": int(high),
                "rejected_rating": int(low),
                "chosen_model": "gpt-4",
                "rejected_model": "mistral-7b",
            },
        )
