"""The rows of sets with several rated answers to a prompt: HelpSteer, UltraFeedback, CodeUltraFeedback."""

from typing import Any

import numpy as np

from benchmarks.full_scale.kit import Kit, Rows, bad_line, ranked


def helpsteer(kit: Kit) -> Rows:
    """Rated answers, four to a prompt; some prompts have all answers rated alike."""
    for prompt, rank, answers in ranked(kit, least=3, idle=241, missing=False):
        for place, answer in zip(rank, answers, strict=True):
            # helpfulness and correctness together are one number per rank
            total = 2 * place + int(kit.rng.integers(0, 1)) + 1
            row = {
                "prompt": prompt,
                "response": answer,
                "helpfulness": total // 2,
                "correctness": total - total // 2,
            }
            extra = {key: int(kit.rng.integers(0, 5)) for key in ("coherence", "complexity", "verbosity")}
            yield "train.jsonl.gz", row | extra
        if line := bad_line(kit):
            yield "train.jsonl.gz", line


PARTS = {"evol_instruct": 10_000, "false_qa": 2_339, "flan": 20_939, "sharegpt": 19_949, "truthful_qa": 811}
ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
MODELS = (
    *("alpaca-7b", "bard", "falcon-40b-instruct", "gpt-3.5-turbo"),
    *("gpt-4", "llama-2-13b-chat", "mpt-30b-chat", "pythia-12b"),
)


def ultrafeedback(kit: Kit) -> Rows:
    """Four rated answers with critiques."""
    parts = np.array([*PARTS.values(), 9_929]) / (sum(PARTS.values()) + 9_929)
    names = [*PARTS, "ultrachat"]
    for prompt, rank, answers in ranked(kit, least=2, idle=376, missing=True):
        part = names[int(kit.rng.choice(len(names), p=parts))]
        models = [MODELS[i] for i in kit.rng.choice(len(MODELS), 4, replace=False)]
        notes = kit.answers(np.array([260.0] * 8 + [700.0] * 4))
        totals = sorted(int(total) for total in kit.rng.choice(np.arange(4, 21), 4, replace=False))
        completions = [
            completion(
                model, answer, totals[place] if place >= 0 else None, notes[2 * i : 2 * i + 2], notes[8 + i]
            )
            for i, (model, answer, place) in enumerate(zip(models, answers, rank, strict=True))
        ]
        row = {
            "source": part,
            "instruction": prompt,
            "models": models,
            "completions": completions,
            "correct_answers": ["None"],
            "incorrect_answers": ["None"],
        }
        if line := bad_line(kit):
            yield f"{part}.jsonl", line
        yield f"{part}.jsonl", row


def completion(model: str, answer: str, total: int | None, notes: list[str], critique: str) -> dict[str, Any]:
    """An answer whose four ratings come to `total`; None: one that was not rated."""
    ratings = ["N/A"] * 4 if total is None else [str(total // 4 + (i < total % 4)) for i in range(4)]
    annotations: dict[str, Any] = {
        aspect: {"Rating": rating, "Rationale": notes[i % 2]}
        for i, (aspect, rating) in enumerate(zip(ASPECTS, ratings, strict=True))
    }
    for aspect in ("truthfulness", "helpfulness"):
        annotations[aspect] |= {"Type": ["None"], "Rationale For Rating": notes[0]}
    return {
        "annotations": annotations,
        "custom_system_prompt": "As an AI assistant, answer the user in a way that is easy to follow.",
        "principle": "helpfulness",
        "model": model,
        "response": answer,
        "critique": critique,
        "overall_score": 1.0 if total is None else total / 2,
        "fine-grained_score": "N/A" if total is None else total / 4,
    }


def codeultrafeedback(kit: Kit) -> Rows:
    """Four rated answers to a request for code."""
    for prompt, rank, answers in ranked(kit, least=2, idle=62, missing=True):
        models = [MODELS[i] for i in kit.rng.choice(len(MODELS), 4, replace=False)]
        ratings = ["N/A" if place < 0 else str(place + 2) for place in rank]
        notes = kit.answers(np.full(4, 300.0))
        yield (
            "data/train-00000-of-00001.parquet",
            {
                "instruction": prompt,
                "responses": [{"model": m, "response": a} for m, a in zip(models, answers, strict=True)],
                "preference": "code-readability",
                "annotations": [
                    {"model": m, "rating": r, "rationale": n}
                    for m, r, n in zip(models, ratings, notes, strict=True)
                ],
            },
        )
