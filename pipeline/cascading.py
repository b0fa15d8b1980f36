"""A cascade: rewards for every answer, and a judge of two answers where they do not tell best or worst apart.

An answer whose reward lies within a margin of the best may be the best, one within the margin of the worst
the worst. Where there is one of each, nothing is asked; else these play a knock-out (pipeline/ranking.py), in
which the higher reward wins a tie.
"""

import math
from collections.abc import Callable, Sequence

from pipeline.ranking import Contest, Knockout


def cascaded(contest: Contest, margin: float) -> Knockout:
    """The knock-out of a contest whose priors are rewards; it has no games where nothing is in doubt.

    Where a reward is not known, in a plan, so are the games: as many as there can be.
    """
    rewards = [answer.prior for answer in contest.answers]
    if any(map(math.isnan, rewards)):
        one = Knockout.of_all(contest)
        one.stop()
        return one
    high, low = max(rewards), min(rewards)
    best = [place for place, reward in enumerate(rewards) if high - reward <= margin]
    worst = [place for place, reward in enumerate(rewards) if reward - low <= margin]
    return Knockout(contest, best, worst)


def cascaded_scores(one: Knockout) -> list[float]:
    """The rewards, dealt anew so that best and worst of the knock-out have the highest and the lowest.

    The best changes its reward with the answer that had the highest, then the worst with the one that had the
    lowest; all others keep theirs. Where another answer has the same number, that of the best is the
    next higher one that a float can be, and that of the worst the next lower. Only where all rewards are
    equal and the judge found nothing but ties do they stay equal, so that `pair` calls it a tie.
    """
    rewards = [answer.prior for answer in one.contest.answers]
    tied = all(better == 0.5 for better, _ in one.contest.said.values())
    if one.stopped or len(rewards) < 2 or (tied and min(rewards) == max(rewards)):
        return rewards
    best, worst = one.ends()
    deal(rewards, best, max, math.inf)
    deal(rewards, worst, min, -math.inf)
    return rewards


def deal(
    rewards: list[float], place: int, extreme: Callable[[Sequence[float]], float], beyond: float
) -> None:
    """Give `place` the extreme reward, and that of `place` to who had it."""
    end = extreme(rewards)
    holder = place if rewards[place] == end else rewards.index(end)
    rewards[place], rewards[holder] = rewards[holder], rewards[place]
    if rewards.count(end) > 1:
        rewards[place] = math.nextafter(end, beyond)
