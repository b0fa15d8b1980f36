"""Do the judges of a recipe prefer length? Answers to one prompt from RM-Bench, half of them rejected.

Reads a file of RM-Bench (a JSON list of prompt, chosen, rejected; three answers each, of which the later
ones are longer), asks each judge for a score of all six, and tells the mean over prompts of the correlation
of score and tokens (paper, figure 3). A judge of two answers plays all pairs. It runs in a project whose
judges are trained, with the settings of `evaluate_judges`, but a window in which two such answers have room.

    python -m benchmarks.length_bias rm-bench/chat_filtered.json.gz [--prompts N] [--judges bt pairwise]
"""

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.chat import Chat
from pipeline.commands.judges import MODELS
from pipeline.engines.judging import JudgeParams, judged
from pipeline.ids import content_id, prompt_id
from pipeline.length_bias import length_bias
from pipeline.params import load
from pipeline.stages.evaluate_judges import EvaluateJudgesParams

MOST_CHARACTERS = 2500
WINDOW = 2048
"""Tokens: two answers of so many characters fit."""


def candidates(file: Path, prompts: int, chat: Chat) -> pl.DataFrame:
    """candidate_id, prompt_id, prompt, response, tokens of the first `prompts` prompts with six answers that
    fit, in the order of their ids."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        items = json.load(stream)
    rows = []
    for item in items:
        answers = [*item["chosen"], *item["rejected"]]
        if max(map(len, answers)) > MOST_CHARACTERS or len(set(answers)) < len(answers):
            continue
        asked = [{"role": "user", "content": item["prompt"]}]
        identity = prompt_id(asked)
        for answer in answers:
            own = content_id(identity, answer)
            rows.append((own, identity, asked, answer, len(chat.encode_plain(answer))))
    names = ("candidate_id", "prompt_id", "prompt", "response", "tokens")
    frame = pl.DataFrame(rows, schema=names, orient="row").unique("candidate_id").sort("prompt_id", names[0])
    return frame.filter(pl.col("prompt_id").rle_id() < prompts)


def judge_of(kind: str, model: str, how: EvaluateJudgesParams) -> JudgeParams:
    """The judge that `evaluate_judges` means by a name."""
    shared: dict[str, Any] = {"engine": how.engine, "dtype": how.dtype, "max_length": WINDOW}
    return JudgeParams(
        kind=kind,  # ty: ignore[invalid-argument-type]
        also=(),
        model=model,
        referee=model,
        ranking="round_robin",
        referee_margin=0.0,
        prompted=how.prompted if kind == "prompted" else None,
        **shared,
    )


def main() -> None:
    """One JSON line per judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--judges", nargs="+", choices=list(MODELS), default=list(MODELS))
    words = parser.parse_args()
    how = load("evaluate_judges", EvaluateJudgesParams)
    rows = candidates(words.file, words.prompts, Chat.load(Path(MODELS["prompted"])))
    for kind in words.judges:
        model = Path(MODELS[kind])
        found = judged(rows, model, model, judge_of(kind, str(model), how)).judgments
        scored = rows.join(
            found.select("candidate_id", "score"), on="candidate_id", how="left", validate="1:1"
        )
        bias = length_bias(scored, kind)
        line = {
            "judge": kind,
            "prompts": len(bias.coefficients),
            "without": bias.without,
            "correlation": [round(value, 3) for value in bias.mean],
        }
        sys.stdout.write(f"{json.dumps(line)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
