"""A cascade asks a judge of two answers only where rewards leave best or worst in doubt."""

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cascading import cascaded, cascaded_scores
from pipeline.ranking import Contest, knockout, most_games
from tests.judges_of_two import Judge, by_strength, contest, hashed

REWARDS = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)


def settled(one: Contest, margin: float, judge: Judge) -> tuple[dict[str, float], tuple[str, str]]:
    """The scores by text, and the texts of best and worst."""
    game = cascaded(one, margin)
    knockout([game], judge)
    best, worst = (one.answers[place].text for place in game.ends())
    scores = cascaded_scores(game)
    return {answer.text: score for answer, score in zip(one.answers, scores, strict=True)}, (best, worst)


def rewarded(**rewards: float) -> Contest:
    return contest(*rewards, priors=list(rewards.values()))


def test_without_doubt_the_rewards_stand_and_nothing_is_asked():
    judge = Judge(hashed)
    scores, ends = settled(rewarded(a=3.0, b=1.5, c=1.4, d=0.0), 1.0, judge)
    assert not judge.calls
    assert scores == {"a": 3.0, "b": 1.5, "c": 1.4, "d": 0.0}
    assert ends == ("a", "d")


def test_the_referee_decides_between_those_within_the_margin_alone():
    judge = by_strength({"a": 0, "b": 2, "c": 1, "d": 9, "e": -5, "f": -9})
    scores, ends = settled(rewarded(a=3.0, b=2.5, c=2.0, d=1.0, e=-3.0, f=-2.5), 1.0, judge)
    asked = {frozenset(two) for _, *two in judge.questions}
    assert all(two <= set("abc") or two <= set("ef") for two in asked)
    assert len(asked) == 3
    assert ends == ("b", "f")
    # b and a have changed their rewards, and so have f and e; all others keep theirs.
    assert scores == {"a": 2.5, "b": 3.0, "c": 2.0, "d": 1.0, "e": -2.5, "f": -3.0}


def test_only_a_doubtful_end_is_asked_about():
    judge = by_strength({"a": 0, "b": 1, "c": 2, "d": 3})
    scores, _ = settled(rewarded(a=3.0, b=0.5, c=0.25, d=0.0), 1.0, judge)
    assert {name for _, *two in judge.questions for name in two} == set("bcd")
    assert scores == {"a": 3.0, "b": 0.0, "c": 0.25, "d": 0.5}


@given(REWARDS, st.integers(0, 4).map(float))
def test_pair_takes_the_best_and_worst_of_the_referee(rewards, margin):
    texts = [f"answer {i}" for i in range(len(rewards))]
    judge = Judge(hashed)
    scores, (best, worst) = settled(contest(*texts, priors=rewards), margin, judge)
    ranked = pl.DataFrame({"text": list(scores), "score": list(scores.values())}).sort("score")
    if len(rewards) > 1:
        assert ranked["text"][-1] == best
        assert ranked["text"][0] == worst
        assert scores[best] > ranked["score"][-2]
        assert scores[worst] < ranked["score"][1]
    assert sorted(scores.values()) == pytest.approx(sorted(rewards)), "the numbers stay those of the rewards"
    given_by = dict(zip(texts, rewards, strict=True))
    assert max(rewards) - given_by[best] <= margin
    assert given_by[worst] - min(rewards) <= margin
    assert len(judge.questions) <= most_games(len(rewards))


@given(REWARDS)
def test_a_referee_that_finds_only_ties_leaves_the_rewards_as_they_are(rewards):
    texts = [f"answer {i}" for i in range(len(rewards))]
    scores, _ = settled(contest(*texts, priors=rewards), 2.0, Judge(lambda first, second: 0.5))
    assert [scores[text] for text in texts] == pytest.approx(rewards)
    if len(set(rewards)) == 1:
        assert len(set(scores.values())) == 1, "pair calls it a tie"


def test_of_rewards_that_are_not_known_as_many_questions_follow_as_there_can_be():
    one = contest("a", "b", "c", priors=[1.0, math.nan, 0.0])
    knockout([cascaded(one, 1.0)], judge := Judge(hashed))
    assert not judge.calls
    assert one.undecided == most_games(3)
