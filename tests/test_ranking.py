"""A judge of two answers ranks n: best and worst by a knock-out, or all by a round robin."""

import math
from dataclasses import replace
from itertools import combinations
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ranking
from pipeline.comparing import Unjudged
from pipeline.ranking import (
    Contest,
    Knockout,
    knockout,
    knockout_scores,
    most_games,
    round_robin,
    round_robin_scores,
)
from tests.judges_of_two import Judge, by_strength, contest, hashed, text

LETTERS = [f"answer {i}" for i in range(64)]
ORDERS = st.integers(1, 64).flatmap(lambda n: st.permutations(LETTERS[:n]))


def played(one: Contest, judge: Judge) -> Knockout:
    game = Knockout.of_all(one)
    knockout([game], judge)
    return game


def by_text(one: Contest, scores: list[float]) -> dict[str, float]:
    return {answer.text: score for answer, score in zip(one.answers, scores, strict=True)}


@given(ORDERS)
def test_a_knock_out_finds_the_true_best_and_worst_of_a_consistent_judge(order):
    one = contest(*sorted(order))
    game = played(one, by_strength({name: i / 8 for i, name in enumerate(order)}))
    best, worst = game.ends()
    assert (text(one, best), text(one, worst)) == (order[-1], order[0])


@pytest.mark.parametrize("n", range(1, 65))
def test_a_knock_out_asks_at_most_three_halves_of_n_and_no_pair_twice(n):
    for judge in (by_strength({name: i for i, name in enumerate(LETTERS)}), Judge(hashed)):
        played(contest(*LETTERS[:n]), judge)
        asked = [frozenset(two) for _, *two in judge.questions]
        assert len(asked) == len(set(asked)) <= most_games(n) <= 2 * n
        assert len(asked) >= n - 1, "fewer cannot tell the best"
    assert most_games(n) == {1: 0, 2: 1, 3: 3, 4: 4, 8: 10}.get(n, most_games(n))


@given(ORDERS)
def test_best_and_worst_are_two_answers_even_where_a_judge_contradicts_itself(order):
    one = contest(*order)
    game = played(one, Judge(hashed))
    best, worst = game.ends()
    assert (best != worst) == (len(order) > 1)
    scores = knockout_scores(game)
    for place, score in enumerate(scores):
        assert 0 <= score <= 1
        assert place == best or score < scores[best]
        assert place == worst or score > scores[worst]


@given(ORDERS, st.randoms())
def test_the_order_of_rows_changes_nothing(order, random):
    shuffled = random.sample(order, len(order))
    for play, n in ((lambda one: knockout_scores(played(one, Judge(hashed))), 64), (robin, 8)):
        one, other = contest(*order[:n]), contest(*(name for name in shuffled if name in order[:n]))
        assert by_text(one, play(one)) == by_text(other, play(other))


def robin(one: Contest) -> list[float]:
    round_robin([one], Judge(hashed))
    return round_robin_scores(one)


@given(st.permutations(LETTERS[:7]))
def test_a_round_robin_is_the_mean_win_probability_against_every_other(order):
    one = contest(*order)
    found = by_text(one, robin(one))
    for name in order:
        others = [hashed(name, other) for other in order if other != name]
        assert found[name] == pytest.approx(fsum(others) / 6)


def test_a_round_robin_goes_by_parts_of_prompts(monkeypatch):
    monkeypatch.setattr(ranking, "MOST_QUESTIONS", 7)
    many = [contest(*LETTERS[:n], name=f"p{i}") for i, n in enumerate((3, 1, 3, 4, 6, 2))]
    judge = Judge(hashed)
    round_robin(many, judge)
    assert [len(call) for call in judge.calls] == [6, 6, 15, 1]
    alone = [contest(*LETTERS[:n], name=f"p{i}") for i, n in enumerate((3, 1, 3, 4, 6, 2))]
    for one, other in zip(many, alone, strict=True):
        assert round_robin_scores(one) == robin(other)


def test_each_round_of_all_prompts_is_one_call_of_the_judge():
    judge = Judge(hashed)
    knockout([Knockout.of_all(contest(*LETTERS[:8], name=f"p{i}")) for i in range(50)], judge)
    # 8 meet, then 4 winners and 4 losers, then 2 and 2.
    assert [len(call) for call in judge.calls] == [50 * 4, 50 * 4, 50 * 2]


def test_who_meets_whom_follows_from_ids_and_not_from_places():
    first_rounds = set()
    for i in range(20):
        judge = Judge(hashed)
        played(contest(*LETTERS[:4], name=f"p{i}"), judge)
        first_rounds.add(frozenset(frozenset(two) for _, *two in judge.calls[0]))
    assert len(first_rounds) == 3, "four answers can be paired in three ways"


def test_a_tie_goes_to_the_higher_prior_and_then_by_hash():
    ties = Judge(lambda first, second: 0.5)
    one = contest("a", "b", "c", priors=[1.0, 3.0, 2.0])
    best, worst = played(one, ties).ends()
    assert (text(one, best), text(one, worst)) == ("b", "a")
    winners = {text(one := contest("a", "b", name=f"p{i}"), played(one, ties).ends()[0]) for i in range(20)}
    assert winners == {"a", "b"}, "no answer wins for its name or place"


def test_answers_that_all_tie_have_one_score():
    game = played(contest(*LETTERS[:5]), Judge(lambda first, second: 0.5))
    assert knockout_scores(game) == [0.5] * 5


def test_disagreement_is_the_mean_over_the_comparisons_of_an_answer():
    gaps = {frozenset("ab"): 0.1, frozenset("bc"): 0.2, frozenset("ac"): 0.4}
    one = contest("a", "b", "c")
    round_robin([one], Judge(hashed))
    one.said = {
        game: (better, gaps[frozenset(text(one, place) for place in game)])
        for game, (better, _) in one.said.items()
    }
    found = {answer.text: one.outcomes([0.0] * 3)[answer.identity] for answer in one.answers}
    assert [found[name].disagreement for name in "abc"] == pytest.approx([0.25, 0.15, 0.3])
    assert {outcome.comparisons for outcome in found.values()} == {2}


def test_an_answer_alone_is_never_asked_about():
    judge = Judge(hashed)
    game = played(contest("a"), judge)
    assert not judge.calls
    assert knockout_scores(game) == [0.5]
    (outcome,) = game.contest.outcomes([0.5]).values()
    assert (outcome.disagreement, outcome.comparisons) == (None, 0)


@given(st.integers(2, 12), st.sets(st.integers(0, 65)))
def test_what_follows_from_an_unknown_answer_is_bounded(n, unknown):
    judge = Judge(hashed)
    pairs = list(combinations(LETTERS[:n], 2))
    hidden = {frozenset(pairs[i % len(pairs)]) for i in unknown}
    partly = Judge(lambda a, b: float("nan") if frozenset((a, b)) in hidden else hashed(a, b))
    game = played(contest(*LETTERS[:n]), partly)
    played(contest(*LETTERS[:n]), judge)
    assert len(judge.questions) <= len(partly.questions) + game.contest.undecided <= most_games(n)
    assert game.stopped == any(frozenset(two) in hidden for _, *two in partly.questions)
    if not game.stopped:
        assert judge.questions == partly.questions


@pytest.mark.parametrize("round_of_all", [True, False])
def test_a_question_without_a_judgment_voids_its_contest_alone(round_of_all):
    judge = by_strength({name: i for i, name in enumerate(LETTERS)})

    def silent(questions):
        """Says nothing of the first question about the prompt p."""
        said = judge(questions)
        place = next((i for i, (prompt, *_) in enumerate(questions) if prompt[0]["content"] == "p"), None)
        if place is None:
            return said
        said.first_better[place] = float("nan")
        return replace(said, unjudged=(Unjudged(place, "no closing line", "?"),))

    void, sound = (contest(*LETTERS[:8], name=name) for name in "pq")
    if round_of_all:
        round_robin([void, sound], silent)
    else:
        knockout([Knockout.of_all(void), Knockout.of_all(sound)], silent)
        asked = [prompt[0]["content"] for prompt, *_ in judge.questions]
        assert (asked.count("p"), asked.count("q")) == (4, 10), "a void contest is not played on"
    assert [one.reason for one in void.unjudged] == ["no closing line"]
    assert (sound.unjudged, void.undecided, sound.undecided) == ([], 0, 0)
    assert not any(math.isnan(better) for one in (void, sound) for better, _ in one.said.values())
