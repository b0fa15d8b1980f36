"""The outputs of a small whole run, as its stages would write them, for the tests of the report."""

from pathlib import Path

import polars as pl
from tokenizers import Tokenizer, models, pre_tokenizers

from pipeline import profiles, tables
from pipeline.ids import answer_id, content_id, pair_id, prompt_id
from pipeline.ledger import Ledger, write_json
from pipeline.pair_lengths import pair_lengths
from pipeline.read_sets import ReadSet
from pipeline.schemas import (
    BLOCKS,
    CANDIDATES,
    CONTROLS,
    COUNTERFACTUALS,
    EVALUATIONS,
    JUDGE_SETS,
    JUDGMENTS,
    LEARNING_CURVE,
    MIX,
    PAIRS,
    SLICE,
    VERDICTS,
)
from tests.stages.mix_folders import PAPER
from tests.stages.preference_rows import assistant, user

PARAMS = """
sources:
  hh: {kind: preferences}
  dolly: {kind: demonstrations}
  asks: {kind: prompts}
  bench: {kind: judge_sets}
mixes: {main: {}}
rewards: {reward: {mix: main}, second: {mix: main}}
control: {model: models/second}
iterations: {t1: {prev: t0}}
"""
EVIL = "<script>alert('x')</script> & \"see\" https://evil.example/a.js \x07 \u202e"
ORDER = (
    *("standard", "mixes", "profiles", "prompts", "sft_mix", "packed", "training", "history"),
    "iterations",
    "counterfactuals",
    *("baselines", "judge_evaluation", "learning_curve", "control", "select", "release", "curves"),
)
"""The folders, in the order of the stage's arguments."""


def close(folder: Path, stage: str, unit: str, kept: int, *drops: tuple[str, str, str | None]) -> None:
    """An account: (source, reason, detail) for each dropped row; its value is 7 and its threshold 5."""
    ledger = Ledger(stage, unit)
    rows = [
        {
            "source": s,
            "file": "f.jsonl",
            "row": i,
            "item": 0,
            "reason": r,
            "value": 7.0,
            "threshold": 5.0,
            "detail": d,
        }
        for i, (s, r, d) in enumerate(drops)
    ]
    if rows:
        ledger.drop(pl.DataFrame(rows, schema_overrides={"detail": pl.String}))
    ledger.close(kept + len(rows), kept, folder)


def pair(row: int, prompt: str, chosen: str, rejected: str, **columns: object) -> dict[str, object]:
    """The columns that preferences, mixes and judge sets share."""
    said = user(prompt), assistant(chosen), assistant(rejected)
    return {
        "source": "hh",
        "file": "f.jsonl",
        "row": row,
        "item": 0,
        "prompt_id": prompt_id(said[0]),
        "pair_id": pair_id(*said),
        "chosen_id": answer_id(said[1]),
        "rejected_id": answer_id(said[2]),
        "prompt": said[0],
        "chosen": said[1],
        "rejected": said[2],
        "chosen_score": 5.0,
        "rejected_score": 5.0 - row,
        "chosen_by": None,
        "rejected_by": None,
    } | columns


def frame(table: tables.Table, rows: list[dict]) -> pl.DataFrame:
    """Rows with the columns of a table."""
    return pl.DataFrame(rows, schema=table.schema)


def write_mix(folder: Path) -> list[str]:
    """Three train and two test pairs, four dropped; gives the ids of the test pairs."""
    train = [
        pair(0, "one two", "a b c", "a", chosen_by="gpt", rejected_by="llama", cluster_id="c0"),
        pair(1, "one two three", "a b", "a b c", chosen_by="gpt", rejected_by="llama", cluster_id="c1"),
        pair(2, EVIL, "a", "b", chosen_by="llama", rejected_by="gpt", cluster_id="c2"),
    ]
    test = [
        pair(3, "ask", "long answer", "no", chosen_by="gpt", rejected_by="llama", cluster_id="c3"),
        pair(4, "ask me", "no", "long answer", chosen_by="llama", rejected_by="gpt", cluster_id="c4"),
    ]
    tables.write(MIX, frame(MIX, train), folder / "train.parquet")
    tables.write(MIX, frame(MIX, test), folder / "test.parquet")
    drops = [
        ("hh", "too long", "<b>bold</b>"),
        ("hh", "tie", None),
        ("hh", "tie", None),
        ("other", "tie", None),
    ]
    close(folder, "mix@main", "pairs", 5, *drops)
    return [str(row["pair_id"]) for row in test]


def write_profile(root: Path) -> None:
    """The profile of the mix by words as tokens; its one source is the whole of a published set."""
    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    (root / "tokenizer").mkdir()
    words.save(str(root / "tokenizer" / "tokenizer.json"))
    pairs = pair_lengths(root / "mixes" / "main", root / "tokenizer")
    sets = {"hh": ReadSet(rows=9, name="birds/owls", upstream_rows=9, paper=PAPER)}
    profiles.write(root / "profiles" / "main", profiles.profile("main", pairs, sets, 0.75))


def verdict(judge: str, name: str, subset: str, identity: str, correct: float) -> dict[str, object]:
    return {
        "judge": judge,
        "set": name,
        "subset": subset,
        "prompt_id": identity,
        "pair_id": identity,
        "margin": correct - 0.5,
        "disagreement": None,
        "correct": correct,
    }


def write_judges(root: Path, test_ids: list[str]) -> None:
    """`bt` is right on both held-out pairs, and on one of two pairs of a benchmark with two subsets."""
    math = pair(0, "sum", "four is it", "five", subset="math-prm", source="bench")
    code = pair(1, "code", "x", "print(1)", subset="hep-go", source="bench")
    folder = root / "standard" / "judge_sets" / "bench"
    tables.write(JUDGE_SETS, frame(JUDGE_SETS, [math, code]), folder / "judge_sets.parquet")
    close(folder, "standardize", "pairs", 2)
    rows = [verdict("bt", "main", "hh", identity, 1.0) for identity in test_ids]
    rows += [verdict("bt", "bench", "math-prm", str(math["pair_id"]), 1.0)]
    rows += [verdict("bt", "bench", "hep-go", str(code["pair_id"]), 0.0)]
    tables.write(VERDICTS, frame(VERDICTS, rows), root / "judge_evaluation" / "verdicts.parquet")
    close(root / "judge_evaluation", "evaluate_judges", "pairs", 4)
    for name, points in (("reward", [(0.5, 5, 0.6), (1.0, 10, 0.7)]), ("second", [])):
        curve = [learned(*point) for point in points]
        tables.write(
            LEARNING_CURVE, frame(LEARNING_CURVE, curve), root / "learning_curve" / name / "curve.parquet"
        )


def learned(part: float, pairs: int, right: float) -> dict:
    """A point of a learning curve."""
    runs = {"seeds": 2, "held_out": 3, "least": right - 0.05, "most": right + 0.05}
    interval = {"accuracy": right, "low": right - 0.1, "high": right + 0.1}
    longer = {"longer": 0.55, "longer_low": 0.5, "longer_high": 0.6}
    return {"subset": "", "part": part, "pairs": pairs} | runs | interval | longer


def write_prompts(folder: Path) -> None:
    """One validation prompt more than the two prompts of t1."""
    for name, asked in (("validation", ["v1", "v2", "v3"]), ("t1", ["p1", EVIL])):
        rows = [
            {"source": "asks", "file": "f", "row": i, "item": 0, "prompt_id": prompt_id(user(words))}
            | {"prompt": user(words), "cluster_id": words[:2]}
            for i, words in enumerate(asked)
        ]
        tables.write(SLICE, frame(SLICE, rows), folder / f"{name}.parquet")
    close(folder, "prompts", "prompts", 5, ("asks", "exact duplicate", "same as asks/f row 0 item 0"))


def write_sft(root: Path) -> None:
    """Two blocks of 4 and 2 tokens, three documents, half of the tokens trained."""
    close(root / "sft_mix", "sft_mix", "demonstrations", 3)
    blocks = [
        {"block": 0, "input_ids": [1, 2, 3, 4], "labels": [-100, 2, -100, 4], "seq_lengths": [2, 2]},
        {"block": 1, "input_ids": [5, 6], "labels": [-100, 6], "seq_lengths": [2]},
    ]
    tables.write(BLOCKS, frame(BLOCKS, blocks), root / "packed" / "blocks.parquet")
    close(root / "packed", "pack", "demonstrations", 3)


def write_iteration(folder: Path) -> None:
    """Two prompts with two answers each: one pair of margin 3, one tie."""
    candidates, judgments = [], []
    for words, scores in (("p1", (4.0, 1.0)), (EVIL, (2.0, 2.0))):
        for sample, score in enumerate(scores):
            response = "good answer here" if sample == 0 else "bad"
            key = {"candidate_id": content_id(words, sample), "prompt_id": prompt_id(user(words))}
            body = {"sample": sample, "temperature": 1.0, "response": response, "tokens": 10 * (2 - sample)}
            body |= {"response_id": answer_id(assistant(response)), "characters": len(response)}
            end = {"finish_reason": "stop" if sample == 0 else "length"}
            who = {"prompt": user(words), "policy": "base" if sample else "policies/t0"}
            candidates.append(key | who | body | end)
            judgments.append(key | {"judge": "bt", "score": score, "disagreement": None, "comparisons": 0})
    tables.write(CANDIDATES, frame(CANDIDATES, candidates), folder / "generate" / "candidates.parquet")
    tables.write(JUDGMENTS, frame(JUDGMENTS, judgments), folder / "judge" / "judgments.parquet")
    shared = pair(0, "p1", EVIL, "bad", chosen_score=4.0, rejected_score=1.0)
    ids = {"chosen_id": candidates[0]["candidate_id"], "rejected_id": candidates[1]["candidate_id"]}
    own = ids | {
        "chosen_ended": True,
        "rejected_ended": False,
        "iteration": "t1",
        "margin": 3.0,
        "judge": "bt",
    }
    made = {name: value for name, value in (shared | own).items() if name in PAIRS.columns}
    tables.write(PAIRS, frame(PAIRS, [made]), folder / "pair" / "pairs.parquet")
    close(folder / "generate", "generate@t1", "candidates", 4)
    write_json(folder / "generate" / "generation.json", generation())
    close(folder / "judge", "judge@t1", "candidates", 4)
    close(folder / "pair", "pair@t1", "pairs", 1, ("t1", "tie", None))


def write_counterfactuals(folder: Path) -> None:
    """Two rules, and two judges who rank half alike."""
    own = {"number": 0, "strategy": "best_worst", "length": "none", "prompts": 2, "paired": 1, "pairs": 1}
    said = {"margin": 3.0, "length_gap": 13.0, "longer_chosen": 1.0, "overlap": 1.0, "agreement": 0.5}
    nothing = dict.fromkeys(said) | {"paired": 0, "pairs": 0}
    rows = [own | said, own | nothing | {"number": 1, "strategy": "margin_band, low 0.5, high 2.0"}]
    tables.write(COUNTERFACTUALS, frame(COUNTERFACTUALS, rows), folder / "counterfactual.parquet")
    ranks = [{"judges": ["bt", "pairwise"], "tau_b": 0.5, "prompts": 2}]
    account = {"judges": ["bt", "pairwise"], "rank_agreement": ranks}
    write_json(folder / "counterfactual.json", account)


def generation() -> dict[str, object]:
    """The account of the answers of `write_iteration`: one of pi_0 and one of the base model per prompt."""
    shares = {
        "finished": 1.0,
        "unfinished": 0.0,
        "empty": 0.0,
        "mean_tokens": 20.0,
        "distinct_per_prompt": 1.0,
    }
    ends = {"finished": 0.0, "unfinished": 1.0, "mean_tokens": 10.0}
    first = {"policy": "policies/t0", "temperature": 1.0, "asked": 2, "answers": 2} | shares
    none = dict.fromkeys(("finished", "unfinished", "empty", "mean_tokens", "distinct_per_prompt"))
    unanswered = {"policy": "offline_dpo", "temperature": 1.0, "asked": 0, "answers": 0} | none
    every = {
        "finished": 0.5,
        "unfinished": 0.5,
        "empty": 0.0,
        "mean_tokens": 15.0,
        "distinct_per_prompt": 2.0,
    }
    return {
        "prompts": 2,
        "asked": 4,
        "kept": 4,
        "dropped": {},
        "samples": [first, first | ends | {"policy": "base"}, unanswered],
        "all": {"answers": 4} | every,
    }


def evaluations(
    policy: str, rewards: list[float], tokens: list[int], win: list[float], kl: float
) -> pl.DataFrame:
    """The answers of a policy to the three validation prompts."""
    rows = [
        {
            "policy": policy,
            "prompt_id": prompt_id(user(words)),
            "prompt": user(words),
            "response": "some words",
            "tokens": tokens[i],
            "finish_reason": "stop",
            "reward": rewards[i],
            "win": win[i],
            "preference": 0.5,
            "kl": kl,
            "kl_tokens": 5,
        }
        for i, words in enumerate(["v1", "v2", "v3"])
    ]
    return frame(EVALUATIONS, rows)


def write_policies(root: Path) -> None:
    """t0 has mean reward 2, the offline baseline 2.5, t1 3 with gains 1, 1 and 1."""
    even = [0.5, 0.5, 0.5]
    baselines = [
        evaluations("t0", [1.0, 2.0, 3.0], [10, 20, 30], even, 0.0),
        evaluations("offline_dpo", [1.5, 2.5, 3.5], [10, 20, 30], [1.0, 1.0, 0.0], 0.1),
    ]
    tables.write(EVALUATIONS, pl.concat(baselines), root / "baselines" / "evaluations.parquet")
    close(root / "baselines", "evaluate_baselines", "judgments", 12)
    close(root / "iterations" / "t1" / "evaluate", "evaluate@t1", "judgments", 6)
    first = evaluations("t1", [2.0, 3.0, 4.0], [12, 22, 32], [1.0, 1.0, 1.0], 0.25)
    tables.write(EVALUATIONS, first, root / "iterations" / "t1" / "evaluate" / "evaluations.parquet")
    told = {"t0": [1.0, 1.0, 1.0], "offline_dpo": [1.0, 1.0, 1.0], "t1": [2.0, 0.5, 2.0]}
    rows = [
        {"policy": policy, "prompt_id": prompt_id(user(words)), "reward": reward}
        for policy, rewards in told.items()
        for words, reward in zip(["v1", "v2", "v3"], rewards, strict=True)
    ]
    tables.write(CONTROLS, frame(CONTROLS, rows), root / "control" / "controls.parquet")
    seen = {"reward": 3.0, "low": 2.0, "high": 4.0, "length": 22.0}
    verdict = {
        "best": "t1",
        "rule": "highest mean",
        "policies": {"t0": seen, "t1": seen},
        "reasons": ["it leads"],
    }
    write_json(root / "select" / "verdict.json", verdict)
    facts = {"rows": 1, "prompts": 1, "chosen_words": 3.0, "rejected_words": 1.0, "longer_wins_words": 1.0}
    write_json(root / "release" / "facts.json", {"iterations": {"t1": facts}, "all": facts})


def write_curves(folder: Path) -> None:
    """A loss that falls from 2 to 1."""
    (folder / "reward").mkdir(parents=True)
    (folder / "reward" / "loss.tsv").write_text("step\tloss\n1\t2.0\n2\t1.5\n3\t1.0\n", encoding="utf-8")


def make(root: Path) -> None:
    """Everything that the report reads, below `root`; params.yaml goes beside it."""
    root.with_name("params.yaml").write_text(PARAMS, encoding="utf-8")
    close(root / "standard" / "preferences" / "hh", "standardize", "pairs", 9, ("hh", "no answer", EVIL))
    close(root / "standard" / "demonstrations" / "dolly", "standardize", "demonstrations", 3)
    close(root / "standard" / "prompts" / "asks", "standardize", "prompts", 6)
    write_judges(root, write_mix(root / "mixes" / "main"))
    write_profile(root)
    write_prompts(root / "prompts")
    write_sft(root)
    for run in ("reward", "second", "pairwise", "offline_dpo", "t1"):
        close(root / "training" / run, run, "pairs", 1)
    close(root / "history" / "t0", "offline_pairs", "pairs", 0)
    close(root / "history" / "t1", "gather@t1", "pairs", 1)
    write_iteration(root / "iterations" / "t1")
    write_counterfactuals(root / "counterfactuals" / "t1")
    write_policies(root)
    write_curves(root / "curves")
