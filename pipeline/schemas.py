"""The data dictionary: every table's columns, key and rules.

Rows that come from outside carry their origin: `source` (name in params.yaml), `file` (path
below the raw folder), `row` (from 0) and `item` (from 0, where one raw row gives several items,
such as the six pairs of four completions). Conversations are lists of {role, content}; a
preference has TRL's explicit conversational form: `prompt` is all turns before the answer,
`chosen` and `rejected` are one assistant message each.

This file is longer than others because it is a dictionary: every column is looked up in one place.
"""

import polars as pl

from pipeline.tables import Table

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
ORIGIN = {"source": pl.String, "file": pl.String, "row": pl.Int64, "item": pl.Int64}
ORIGIN_KEY = ("source", "file", "row", "item")


def last_role(column: str) -> pl.Expr:
    """The role of the last message of a conversation."""
    return pl.col(column).list.last().struct.field("role")


def one_answer(column: str) -> pl.Expr:
    """True where the conversation is exactly one assistant message."""
    return (pl.col(column).list.len() == 1) & (last_role(column) == "assistant")


PREFERENCE_COLUMNS = {
    "prompt_id": pl.String,
    "pair_id": pl.String,
    "chosen_id": pl.String,
    "rejected_id": pl.String,
    "prompt": MESSAGES,
    "chosen": MESSAGES,
    "rejected": MESSAGES,
    "chosen_score": pl.Float64,
    "rejected_score": pl.Float64,
    "chosen_by": pl.String,
    "rejected_by": pl.String,
}
PREFERENCE_NULLABLE = frozenset({"chosen_score", "rejected_score", "chosen_by", "rejected_by"})
PREFERENCE_RULES = {
    "the prompt ends with a user turn": last_role("prompt") == "user",
    "chosen is one assistant message": one_answer("chosen"),
    "rejected is one assistant message": one_answer("rejected"),
    "chosen and rejected differ": pl.col("chosen") != pl.col("rejected"),
}

PREFERENCES = Table(
    name="preferences",
    made_by="standardize",
    columns=ORIGIN | PREFERENCE_COLUMNS,
    key=ORIGIN_KEY,
    nullable=PREFERENCE_NULLABLE,
    rules=PREFERENCE_RULES,
)

DEMONSTRATIONS = Table(
    name="demonstrations",
    made_by="standardize",
    columns=ORIGIN | {"id": pl.String, "messages": MESSAGES},
    key=ORIGIN_KEY,
    rules={"the conversation ends with an assistant turn": last_role("messages") == "assistant"},
)

PROMPTS = Table(
    name="prompts",
    made_by="standardize",
    columns=ORIGIN | {"prompt_id": pl.String, "prompt": MESSAGES},
    key=ORIGIN_KEY,
    rules={"the prompt ends with a user turn": last_role("prompt") == "user"},
)

BENCHMARKS = Table(
    name="benchmarks",
    made_by="standardize",
    columns=ORIGIN | {"id": pl.String, "text": pl.String},
    key=ORIGIN_KEY,
)

#: Judge benchmarks: like preferences, but identical answers are allowed (a judge can only tie on them).
JUDGE_SETS = Table(
    name="judge_sets",
    made_by="standardize",
    columns=ORIGIN | PREFERENCE_COLUMNS | {"subset": pl.String},
    key=ORIGIN_KEY,
    nullable=PREFERENCE_NULLABLE,
    rules={rule: test for rule, test in PREFERENCE_RULES.items() if rule != "chosen and rejected differ"},
)

#: What a source of each kind is standardized to.
KINDS = {
    "preferences": PREFERENCES,
    "demonstrations": DEMONSTRATIONS,
    "prompts": PROMPTS,
    "benchmarks": BENCHMARKS,
    "judge_sets": JUDGE_SETS,
}

#: One row per dropped item: nothing is lost without a line here.
LEDGER = Table(
    name="ledger",
    made_by="standardize",
    columns=ORIGIN
    | {
        "stage": pl.String,
        "unit": pl.String,
        "id": pl.String,
        "reason": pl.String,
        "value": pl.Float64,
        "threshold": pl.Float64,
        "detail": pl.String,
    },
    key=("stage", *ORIGIN_KEY),
    nullable=frozenset({"id", "value", "threshold", "detail"}),
)

MIX = Table(
    name="mix",
    made_by="mix",
    columns=ORIGIN | PREFERENCE_COLUMNS | {"cluster_id": pl.String},
    key=ORIGIN_KEY,
    nullable=PREFERENCE_NULLABLE,
    rules=PREFERENCE_RULES,
)

SFT_MIX = Table(
    name="sft_mix",
    made_by="sft_mix",
    columns=ORIGIN | {"id": pl.String, "messages": MESSAGES},
    key=ORIGIN_KEY,
)

BLOCKS = Table(
    name="blocks",
    made_by="pack",
    columns={
        "block": pl.Int64,
        "input_ids": pl.List(pl.Int32),
        "labels": pl.List(pl.Int32),
        "seq_lengths": pl.List(pl.Int32),
    },
    key=("block",),
    rules={"lengths add up": pl.col("seq_lengths").list.sum() == pl.col("input_ids").list.len()},
    group_rows=256,
)

SLICE = Table(
    name="prompt slice",
    made_by="prompts",
    columns=ORIGIN | {"prompt_id": pl.String, "prompt": MESSAGES, "cluster_id": pl.String},
    key=("prompt_id",),
)

CANDIDATES = Table(
    name="candidates",
    made_by="generate",
    columns={
        "candidate_id": pl.String,
        "prompt_id": pl.String,
        "prompt": MESSAGES,
        "policy": pl.String,  # who answered: a folder below models/
        "sample": pl.Int64,
        "temperature": pl.Float64,
        "response": pl.String,
        "response_id": pl.String,  # the same for the same text
        "characters": pl.Int64,
        "tokens": pl.Int64,
        "finish_reason": pl.String,
    },
    key=("prompt_id", "candidate_id"),
    rules={"finish_reason is stop or length": pl.col("finish_reason").is_in(["stop", "length"])},
)

JUDGMENTS = Table(
    name="judgments",
    made_by="judge",
    columns={
        "candidate_id": pl.String,
        "prompt_id": pl.String,
        "judge": pl.String,
        "score": pl.Float64,
        "disagreement": pl.Float64,  # of both orders of a question, mean over the answer's; null without one
        "comparisons": pl.Int64,  # questions in which the answer stood beside another
    },
    key=("prompt_id", "candidate_id", "judge"),
    nullable=frozenset({"disagreement"}),
    rules={"score is a finite number": pl.col("score").is_finite()},
)

#: Which candidate is preferred to which, and by how much; the texts are those of CANDIDATES.
PAIRS = Table(
    name="pairs",
    made_by="pair",
    columns={
        "prompt_id": pl.String,
        "pair_id": pl.String,
        "iteration": pl.String,
        "chosen_id": pl.String,
        "rejected_id": pl.String,
        "chosen_ended": pl.Boolean,  # false for an answer cut at the limit, which holds no end of turn
        "rejected_ended": pl.Boolean,
        "chosen_score": pl.Float64,
        "rejected_score": pl.Float64,
        "margin": pl.Float64,
        "judge": pl.String,  # whose scores these are; those of several that were joined with a +
    },
    key=("iteration", "prompt_id", "pair_id"),
    rules={
        "the margin is positive": pl.col("margin") > 0,
        "chosen and rejected are two candidates": pl.col("chosen_id") != pl.col("rejected_id"),
    },
)

#: One row per pair rule, the recipe's own is number 0: what it gives from the candidates of an iteration.
COUNTERFACTUALS = Table(
    name="counterfactuals",
    made_by="counterfactual",
    columns={
        "number": pl.Int64,
        "strategy": pl.String,
        "length": pl.String,
        "prompts": pl.Int64,
        "paired": pl.Int64,  # prompts with a pair
        "pairs": pl.Int64,
        # Null where there are no pairs; `agreement` also where there is one judge.
        "margin": pl.Float64,  # mean, on the scale of the score that orders
        "length_gap": pl.Float64,  # characters of chosen less rejected, mean
        "longer_chosen": pl.Float64,  # share of pairs; equal lengths count half
        "overlap": pl.Float64,  # share of pairs that are pairs of the recipe's rule, too
        "agreement": pl.Float64,  # share of pairs whose chosen answer every judge scores higher
    },
    key=("number",),
    nullable=frozenset({"margin", "length_gap", "longer_chosen", "overlap", "agreement"}),
)

#: The pairs that an iteration trains on, with their texts, no pair twice.
HISTORY = Table(
    name="history",
    made_by="gather",
    columns=ORIGIN
    | {
        "since": pl.String,  # an iteration, or `offline` for the pairs of a mix
        "prompt_id": pl.String,
        "pair_id": pl.String,
        "chosen_id": pl.String,
        "rejected_id": pl.String,
        "prompt": MESSAGES,
        "chosen": MESSAGES,
        "rejected": MESSAGES,
        "chosen_ended": pl.Boolean,
        "rejected_ended": pl.Boolean,
    },
    key=("pair_id",),
    rules=PREFERENCE_RULES,
)

#: One row per validation prompt and policy.
EVALUATIONS = Table(
    name="evaluations",
    made_by="evaluate",
    columns={
        "policy": pl.String,
        "prompt_id": pl.String,
        "prompt": MESSAGES,
        "response": pl.String,
        "tokens": pl.Int64,
        "finish_reason": pl.String,
        # Null where the judge gave no judgment: of this answer or, for `win`, of pi_0's.
        "reward": pl.Float64,
        "win": pl.Float64,
        "preference": pl.Float64,  # null where both answers leave no room for a question
        # log pi(y|x) - log pi_0(y|x) in nats, of an answer y that the policy samples at temperature 1, and
        # the tokens of y; of pi_0 itself 0, and the tokens of `response`.
        "kl": pl.Float64,
        "kl_tokens": pl.Int64,
    },
    key=("policy", "prompt_id"),
    nullable=frozenset({"reward", "win", "preference"}),
    rules={
        "the reward is finite": pl.col("reward").is_finite().fill_null(value=True),
        "KL is measured on a token at least": pl.col("kl_tokens") > 0,
    },
)

#: What a reward model that the loop never saw thinks of the answers in EVALUATIONS.
CONTROLS = Table(
    name="controls",
    made_by="control",
    columns={"policy": pl.String, "prompt_id": pl.String, "reward": pl.Float64},
    key=("policy", "prompt_id"),
    rules={"the reward is finite": pl.col("reward").is_finite()},
)

#: How well a head that was trained on a part of the train side judges the test side of its mix: a row per
#: part and source of the test pairs ("" for all). `accuracy` is the mean over `seeds` runs, `low` and `high`
#: are its 95% interval with the prompt as the unit, `least` and `most` the runs' own; `longer` is what
#: "longer wins" has on the same pairs, with its interval.
LEARNING_CURVE = Table(
    name="curve",
    made_by="learning_curve",
    columns={
        "subset": pl.String,
        "part": pl.Float64,
        "pairs": pl.Int64,
        "seeds": pl.Int64,
        "held_out": pl.Int64,
        "accuracy": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "least": pl.Float64,
        "most": pl.Float64,
        "longer": pl.Float64,
        "longer_low": pl.Float64,
        "longer_high": pl.Float64,
    },
    key=("subset", "part"),
    rules={"the mean lies in its interval": pl.col("accuracy").is_between("low", "high")},
)

#: One row per judge and held-out or benchmark pair: 1 right, 0 wrong, 0.5 tie. `margin` is the reward of the
#: chosen answer less that of the rejected one for `bt`, P(chosen is better) - 0.5 for a judge of two answers;
#: such a judge is asked in both orders, and `disagreement` is how far its two probabilities lie apart.
VERDICTS = Table(
    name="verdicts",
    made_by="evaluate_judges",
    columns={
        "judge": pl.String,
        "set": pl.String,
        "subset": pl.String,
        "prompt_id": pl.String,
        "pair_id": pl.String,
        "margin": pl.Float64,
        "disagreement": pl.Float64,
        "correct": pl.Float64,
    },
    key=("judge", "set", "pair_id"),
    nullable=frozenset({"disagreement"}),
    rules={
        "the margin is a finite number": pl.col("margin").is_finite(),
        "a disagreement is at most 1": pl.col("disagreement").fill_null(0.0).is_between(0, 1),
        "correct is 0, 0.5 or 1": pl.col("correct").is_in([0.0, 0.5, 1.0]),
    },
)
