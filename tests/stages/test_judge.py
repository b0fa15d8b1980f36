"""A score per candidate: the reward of each answer, its mean win probability, or both in a cascade."""

import json
import shutil
from itertools import combinations, permutations
from statistics import fmean

import polars as pl
import pytest

from pipeline import ab, edge
from pipeline.chat import Chat
from pipeline.engines import judging
from pipeline.engines.fake import fake_label_probabilities, fake_scorer
from pipeline.engines.judging import question_sequences
from pipeline.errors import UserError
from pipeline.pair_texts import with_texts
from pipeline.pairing import paired
from pipeline.planning import planning
from pipeline.ranking import most_games
from pipeline.rendering import scored_ids
from pipeline.schemas import CANDIDATES, JUDGMENTS, LEDGER, PAIRS
from pipeline.stages import judge
from pipeline.tables import check, read, write
from tests.judge_recipes import judge_params
from tests.pair_rules import pair_params
from tests.stages.answers import candidates_of
from tests.stages.preference_rows import user

ROWS = candidates_of(
    ("What is an owl?", "a bird"),
    ("What is an owl?", "a bird of the night"),
    ("What is an owl?", "no idea"),
    ("What is a bee?", "an insect"),
    ("What is a bee?", "small"),
    ("alone?", "yes"),
)


KINDS = ["bt", "pairwise", "prompted", "cascade"]


def judgments(rows, model, kind: str, **changes: object) -> pl.DataFrame:
    params = judge_params(kind, **changes)
    found = judging.judged(rows, model, model, params)
    check(JUDGMENTS, found.judgments)
    assert set(found.judgments["judge"]) == {kind}
    return found.judgments


def judged(rows, model, kind: str, **changes: object) -> dict[str, float]:
    found = judgments(rows, model, kind, **changes)
    return dict(zip(rows["response"], found["score"], strict=True))


def asked() -> int:
    """Rows that the engines have computed until now."""
    return sum(line["rows"] for line in edge.records("cells.jsonl"))


def preferred(chat: Chat, prompt: str, first: str, second: str, wording="trained") -> float:
    """P(the first is better) as the fake engine answers both orders."""
    one, other = (
        dict(
            fake_label_probabilities(
                [ab.question_ids(chat, user(prompt), *two, wording=wording, max_length=1024)]
            )
        )[0]
        for two in ((first, second), (second, first))
    )
    return (one + 1 - other) / 2


def test_a_reward_reads_the_prompt_and_the_answer(tiny_model, own_state):
    chat, found = Chat.load(tiny_model), judged(ROWS, tiny_model, "bt")
    for prompt, response in ROWS.select("prompt", "response").iter_rows():
        ids = scored_ids(chat, prompt, response, max_length=1024)
        assert found[response] == dict(fake_scorer(tiny_model)([ids]))[0]


def test_every_answer_meets_every_other_of_its_prompt_in_both_orders(tiny_model, own_state):
    chat, found = Chat.load(tiny_model), judged(ROWS, tiny_model, "pairwise", ranking="round_robin")
    prompt, answers = user("What is an owl?"), ["a bird", "a bird of the night", "no idea"]
    wins: dict[str, list[float]] = {answer: [] for answer in answers}
    for first, second in permutations(answers, 2):
        ids = ab.question_ids(chat, prompt, first, second, max_length=1024)
        first_wins = dict(fake_label_probabilities([ids]))[0]
        wins[first].append(first_wins)
        wins[second].append(1 - first_wins)
    for answer in answers:
        assert len(wins[answer]) == 4
        assert found[answer] == pytest.approx(sum(wins[answer]) / 4)


@pytest.mark.parametrize("wording", ["trained", "prompted"])
def test_many_questions_are_those_of_each_pair_alone_in_both_orders(tiny_model, monkeypatch, wording):
    monkeypatch.setattr(judging, "ROWS", 3)
    chat = Chat.load(tiny_model)
    two = [("short", "also short <|im_end|>"), ("[RESPONSE A]", "")]
    rows = [(user(text), *pair) for text in ("What is an owl?", "Why? " * 300) for pair in two]
    limit = 400
    expected = [
        ab.question_ids(chat, prompt, *pair, wording=wording, max_length=limit)
        for prompt, a, b in rows
        for pair in ((a, b), (b, a))
    ]
    found = list(question_sequences(chat, iter(rows), wording, limit))
    assert [list(ids) for ids in found] == expected
    assert max(map(len, found)) <= limit < len(chat.encode_plain("Why? " * 300))
    assert {ids.itemsize for ids in found} == {4}


def test_the_win_probabilities_of_a_prompt_average_to_a_half(tiny_model, own_state):
    found = judged(ROWS, tiny_model, "pairwise", ranking="round_robin")
    assert sum(found[answer] for answer in ("a bird", "a bird of the night", "no idea")) == pytest.approx(1.5)
    assert found["an insect"] + found["small"] == pytest.approx(1.0)
    assert found["yes"] == 0.5, "an answer alone has no opponent"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranking", ["knockout", "round_robin"])
def test_the_order_of_the_candidates_changes_nothing(tiny_model, own_state, kind, ranking):
    found = judgments(ROWS, tiny_model, kind, ranking=ranking).sort("candidate_id")
    assert found.equals(judgments(ROWS.reverse(), tiny_model, kind, ranking=ranking).sort("candidate_id"))


def test_the_prompted_judge_asks_in_its_own_words(tiny_model, own_state):
    chat, found = Chat.load(tiny_model), judged(ROWS, tiny_model, "prompted")
    question = "What is a bee?", "an insect", "small"
    assert found["an insect"] == pytest.approx(preferred(chat, *question, wording="prompted"))
    assert found["an insect"] != pytest.approx(preferred(chat, *question))


MANY = candidates_of(*((f"What is {i}?", f"it is {i} {j}") for i in range(12) for j in range(i % 9 + 1)))


@pytest.mark.parametrize("kind", ["pairwise", "prompted"])
def test_a_second_run_asks_the_engine_nothing_and_neither_does_a_knock_out_after_a_round_robin(
    tiny_model, own_state, kind
):
    judgments(MANY, tiny_model, kind, ranking="round_robin")
    every = asked()
    assert every == sum(n * (n - 1) for n in MANY.group_by("prompt_id").len()["len"])
    judgments(MANY, tiny_model, kind, ranking="round_robin")
    judgments(MANY, tiny_model, kind, ranking="knockout")
    assert asked() == every


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_run_has_asked_no_other_asks_again(tiny_model, own_state, kind):
    first = judgments(MANY, tiny_model, kind)
    before = asked()
    assert judgments(MANY, tiny_model, kind).equals(first)
    assert asked() == before > 0


def test_an_answer_that_was_sampled_twice_is_judged_once(tiny_model, own_state):
    rows = candidates_of(*(("why?", text) for text in ("yes", "no", "yes", "maybe", "no", "yes")))
    found = judgments(rows, tiny_model, "pairwise", ranking="round_robin")
    assert asked() == 3 * 2
    by_text = found.with_columns(text=rows["response"]).group_by("text").agg(pl.exclude("text").n_unique())
    assert by_text["score"].to_list() == [1, 1, 1]
    assert found["comparisons"].to_list() == [2] * 6


def test_pair_takes_the_ends_of_the_tournament(tiny_model, own_state):
    chat = Chat.load(tiny_model)
    found = judgments(MANY, tiny_model, "pairwise")
    pairs = paired(MANY.sort(CANDIDATES.key), found, "t1", pair_params()).pairs
    check(PAIRS, pairs)
    assert pairs.height == 12 - 2, "two prompts have one answer"
    said = {(row["prompt_id"], row["response"]): row for row in MANY.iter_rows(named=True)}
    for row in with_texts(pairs, MANY).iter_rows(named=True):
        ends = [row[side][0]["content"] for side in ("chosen", "rejected")]
        assert all((row["prompt_id"], text) in said for text in ends)
        others = MANY.filter(prompt_id=row["prompt_id"])["response"].to_list()
        prompt = row["prompt"][0]["content"]
        # The best has lost to nobody whom it met: its score is a mean of probabilities of a half or more.
        wins = [preferred(chat, prompt, ends[0], text) for text in others if text != ends[0]]
        assert row["chosen_score"] >= 0.5 >= row["rejected_score"]
        assert max(wins) >= row["chosen_score"] - 1e-12


def test_a_cascade_without_doubt_is_the_reward_and_asks_its_referee_nothing(tiny_model, own_state):
    rows = ROWS.filter(pl.col("response") != "no idea")  # has the reward of another
    scores = judged(rows, tiny_model, "bt")
    before = asked()
    params = judge_params("cascade", referee_margin=0.0)
    found = judging.judged(rows, tiny_model, tiny_model, params)
    assert dict(zip(rows["response"], found.judgments["score"], strict=True)) == scores
    assert asked() == before
    assert found.account["questions"] == 0
    assert found.judgments["disagreement"].null_count() == rows.height


def test_a_cascade_asks_its_referee_where_rewards_are_near(tiny_model, own_state):
    rows = ROWS.filter(pl.col("response").is_in(["an insect", "small"]))
    rewards = judged(rows, tiny_model, "bt")
    first_better = preferred(Chat.load(tiny_model), "What is a bee?", "an insect", "small") > 0.5
    found = judged(rows, tiny_model, "cascade", referee_margin=1000.0)
    assert (found["an insect"] > found["small"]) == first_better
    assert sorted(found.values()) == sorted(rewards.values())


def test_the_account_says_what_was_asked(tiny_model, own_state):
    found = judging.judged(ROWS, tiny_model, tiny_model, judge_params("pairwise", ranking="round_robin"))
    chat = Chat.load(tiny_model)
    gaps, contradictory = [], []
    for prompt, texts in {
        "What is an owl?": ROWS["response"][:3],
        "What is a bee?": ROWS["response"][3:5],
    }.items():
        for first, second in combinations(texts, 2):
            p, q = (
                dict(fake_label_probabilities([ab.question_ids(chat, user(prompt), *two, max_length=1024)]))[
                    0
                ]
                for two in ((first, second), (second, first))
            )
            gaps.append(abs(p - (1 - q)))
            contradictory.append((p > 0.5) == (q > 0.5))
    account = found.account
    assert (account["kind"], account["prompts"], account["answers"]) == ("pairwise", 3, 6)
    assert (account["compared"], account["questions"]) == (2, 4)
    assert account["disagreement"] == pytest.approx(fmean(gaps))
    assert account["contradictory"] == pytest.approx(fmean(contradictory))
    alone = found.judgments.filter(pl.col("comparisons") == 0)
    assert alone["disagreement"].to_list() == [None]
    assert alone["score"].to_list() == [0.5]


def test_the_stage_writes_judgments_and_account(tiny_model, own_state, tmp_path):
    recipe = judge_params("bt").model_dump()
    (tmp_path / "params.yaml").write_text(json.dumps({"judge": recipe}), encoding="utf-8")
    write(CANDIDATES, ROWS, tmp_path / "in" / "candidates.parquet")
    judge.write(judge.made("t1", tmp_path / "in", tiny_model, tiny_model), tmp_path / "out")
    assert read(JUDGMENTS, tmp_path / "out" / "judgments.parquet")["comparisons"].to_list() == [0] * 6
    account = json.loads((tmp_path / "out" / "judge.json").read_text(encoding="utf-8"))
    assert account == {
        "kind": "bt",
        "prompts": 3,
        "answers": 6,
        "compared": 0,
        "questions": 0,
        "unjudged": 0,
        "disagreement": None,
        "contradictory": None,
        "prompted": None,
        "also": [],
    }


def test_several_judges_score_the_candidates_of_one_iteration_each_by_itself(tiny_model, own_state, tmp_path):
    recipe = judge_params("bt", model="models/reward", also=("pairwise",)).model_dump()
    (tmp_path / "params.yaml").write_text(json.dumps({"judge": recipe}), encoding="utf-8")
    rows = pl.concat([ROWS, candidates_of(("why?", "because " * 2000), ("why?", "so"))]).sort(CANDIDATES.key)
    write(CANDIDATES, rows, tmp_path / "in" / "candidates.parquet")
    out = tmp_path / "out"
    judge.write(judge.made("t1", tmp_path / "in", tiny_model, tiny_model), out)
    found = read(JUDGMENTS, out / "judgments.parquet")
    for kind, height in (("bt", 8), ("pairwise", 6)):
        alone = judging.judged(rows, tiny_model, tiny_model, judge_params(kind)).judgments
        assert alone.height == height
        assert found.filter(judge=kind).equals(alone)
    lost = read(LEDGER, out / "ledger.parquet")
    assert lost["item"].to_list() == [1, 1], "the number of the judge that gave no judgment"
    counts = json.loads((out / "counts.json").read_text(encoding="utf-8"))
    assert (counts["in"], counts["kept"]) == (16, 14)
    account = json.loads((out / "judge.json").read_text(encoding="utf-8"))
    assert (account["kind"], [one["kind"] for one in account["also"]]) == ("bt", ["pairwise"])
    rule = pair_params(judges={"rule": "agreement"})
    made = paired(rows, found, "t1", rule)
    assert set(made.pairs["judge"]) <= {"bt+pairwise"}
    assert "not judged" in made.dropped["reason"].to_list()


def test_a_judge_that_gives_no_number_is_told_with_the_candidate(
    tiny_model, own_state, tmp_path, monkeypatch
):
    recipe = judge_params("bt").model_dump()
    (tmp_path / "params.yaml").write_text(json.dumps({"judge": recipe}), encoding="utf-8")
    write(CANDIDATES, ROWS, tmp_path / "in" / "candidates.parquet")
    monkeypatch.setattr(judging, "rewards", lambda *_: [1.0, float("nan"), *[2.0] * 4])
    second = ROWS.sort(CANDIDATES.key)["candidate_id"][1]
    with pytest.raises(
        UserError, match=f"judge@t1: expected a finite score .* found nan of candidate {second}"
    ):
        judge.made("t1", tmp_path / "in", tiny_model, tiny_model)


@pytest.mark.parametrize("kind", ["pairwise", "prompted", "cascade"])
def test_a_plan_bounds_what_a_knock_out_asks_and_loads_no_model(tiny_model, own_state, kind, monkeypatch):
    margin = {"referee_margin": 1000.0}
    monkeypatch.setattr(judging, "MOST_QUESTIONS", 7)
    with planning() as plan:
        judging.judged(MANY, tiny_model, tiny_model, judge_params(kind, **margin))
    assert asked() == 0
    prefer = [fill for fill in plan.fills if fill.cells.kind == "prefer"]
    sizes = MANY.group_by("prompt_id").len()["len"]
    sure = 0 if kind == "cascade" else 2 * sum(n // 2 for n in sizes)
    most = 2 * sum(most_games(n) for n in sizes)
    assert sum(len(fill.missing) for fill in prefer if fill.exact) == sure
    assert sum(len(fill.missing) for fill in prefer) == most
    judgments(MANY, tiny_model, kind, **margin)
    scored = MANY.height if kind == "cascade" else 0
    assert sure < asked() - scored <= most
    with planning() as plan:
        judging.judged(MANY, tiny_model, tiny_model, judge_params(kind, **margin))
    assert all(fill.exact and fill.missing.is_empty() for fill in plan.fills)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_answer_is_an_answer(tiny_model, own_state, kind):
    rows = candidates_of(("why?", ""), ("why?", "because"))
    assert judgments(rows, tiny_model, kind)["score"].is_finite().all()


def test_answers_that_leave_no_room_for_a_question_are_named(tiny_model, own_state):
    rows = candidates_of(("why?", "because " * 2000), ("why?", "so"))
    with pytest.raises(
        UserError, match=r"found none for 1: answers longer than the window \(\d+ and \d+ tokens, window 1024"
    ):
        judgments(rows, tiny_model, "pairwise")
    assert asked() == 0
    assert judgments(rows, tiny_model, "bt").height == 2, "a reward reads the end of an answer"


def test_one_prompt_whose_answers_leave_no_room_is_void_and_the_others_are_judged(tiny_model, own_state):
    rows = pl.concat([ROWS, candidates_of(("why?", "because " * 2000), ("why?", "so"), ("why?", "oh"))])
    for ranking in ("knockout", "round_robin"):
        params = judge_params("pairwise", ranking=ranking)
        found = judging.judged(rows, tiny_model, tiny_model, params)
        assert found.judgments["candidate_id"].to_list() == ROWS["candidate_id"].to_list()
        assert found.judgments.equals(judging.judged(ROWS, tiny_model, tiny_model, params).judgments)
        assert set(found.without["reason"]) == {"answers longer than the window"}
        assert found.without["candidate_id"].to_list() == rows["candidate_id"].to_list()[6:]
        assert all(detail.endswith(" tokens, window 1024") for detail in found.without["detail"])
    assert found.account["unjudged"] == 2, "those of the long answer, in a round robin"


@pytest.mark.parametrize("kind", ["bt", "cascade"])
def test_a_language_model_gives_no_rewards(tiny_model, own_state, kind):
    with pytest.raises(UserError, match=r"expected a \.\.\.ForSequenceClassification checkpoint"):
        judgments(ROWS, tiny_model, kind, engine="transformers")


@pytest.mark.parametrize("kind", ["pairwise", "prompted"])
def test_a_model_with_another_head_cannot_compare(tiny_model, own_state, tmp_path, kind):
    shutil.copytree(tiny_model, tmp_path / "reward")
    config = json.loads((tmp_path / "reward" / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["LlamaForSequenceClassification"]
    (tmp_path / "reward" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"expected a \.\.\.ForCausalLM checkpoint"):
        judgments(ROWS, tmp_path / "reward", kind, engine="transformers")


@pytest.mark.parametrize("ranking", ["knockout", "round_robin"])
def test_the_real_engine_scores_every_candidate(tiny_model, own_state, ranking):
    done = judgments(ROWS, tiny_model, "prompted", engine="transformers", ranking=ranking)
    assert done["score"].is_between(0, 1).all()
