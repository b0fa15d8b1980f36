"""Ranking n answers to a prompt with a judge of two: by a knock-out, or each against every other.

Both take all prompts of an iteration at once, and what they find depends on ids and texts alone, never on the
order of rows. A contest is over distinct texts: an answer that was sampled twice is one answer, as it is for
`pair`. Each question shows the answer of the lower id first; a judge asks both orders anyhow, so every way to
rank asks a pair of answers in the same words, and finds it in the row store if another way has asked it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from pipeline.chat import Messages
from pipeline.comparing import MOST_QUESTIONS, Compare, Question, Unjudged
from pipeline.ids import seed_for

INSIDE = 1e-3
"""The least distance of a score in between from those of best and worst, as a part of their distance."""

Game = tuple[int, int]
"""Two places among a contest's answers, the lower first."""


@dataclass(frozen=True)
class Answer:
    """A distinct answer to a prompt."""

    identity: str
    """A content hash: what draws, order and ties follow from."""
    text: str
    prior: float = 0.0
    """Of two that the judge finds equal the higher wins; where these are equal too, the id decides."""


@dataclass(frozen=True)
class Outcome:
    """What came of a contest for one answer."""

    score: float
    disagreement: float | None
    """Between the two orders of a question, the mean over the answer's comparisons; None without any."""
    comparisons: int


@dataclass
class Contest:
    """The answers to one prompt, and what the judge has said of them so far."""

    prompt: Messages
    answers: Sequence[Answer]
    said: dict[Game, tuple[float, float]] = field(default_factory=dict)
    """By game: P(the first is better), and how far its two orders lie apart."""
    unjudged: list[Unjudged] = field(default_factory=list)
    """Questions without a judgment. One is enough: the contest is void, for any rank would be a guess."""
    undecided: int = 0
    """At most so many more games follow from values that are not known: only where a plan is made."""

    def __post_init__(self) -> None:
        self.answers = sorted(self.answers, key=lambda answer: answer.identity)

    def question(self, game: Game) -> Question:
        """What the judge is asked."""
        first, second = (self.answers[place].text for place in game)
        return self.prompt, first, second

    def winner(self, game: Game) -> int | None:
        """The place of the better answer; None where the judge's word is not known (a number that is none).

        At exactly one half the higher prior wins, then the answer whose hash comes first.
        """
        better = self.said[game][0]
        if math.isnan(better):
            return None
        if better != 0.5:
            return game[better < 0.5]
        return min(game, key=lambda place: (-self.answers[place].prior, self.drawn(place, "tie")))

    def drawn(self, place: int, *what: object) -> tuple[int, str]:
        """Where an answer stands in an order by hash."""
        identity = self.answers[place].identity
        return seed_for(*what, identity), identity

    def mean(self, place: int) -> float:
        """The mean win probability of an answer over its comparisons; one half without any."""
        own = [p if game[0] == place else 1 - p for game, (p, _) in self.said.items() if place in game]
        return math.fsum(own) / len(own) if own else 0.5

    def outcomes(self, scores: Sequence[float]) -> dict[str, Outcome]:
        """By identity, each answer's score with what its comparisons tell."""
        found = {}
        for place, (answer, score) in enumerate(zip(self.answers, scores, strict=True)):
            gaps = [gap for game, (_, gap) in self.said.items() if place in game]
            found[answer.identity] = Outcome(score, math.fsum(gaps) / len(gaps) if gaps else None, len(gaps))
        return found


@dataclass
class Knockout:
    """A contest for best and worst.

    In the first round all meet in pairs: who wins plays on for the best, who loses for the worst. Of an odd
    number one is left; it meets one that won, and goes on by how that ends. So nobody plays for both, and
    best and worst are two answers even where a judge contradicts itself. Where `best` and `worst` name
    some answers alone, only they play for that end.
    """

    contest: Contest
    best: list[int]
    worst: list[int]
    both: list[int] = field(init=False)
    most: int = field(init=False)
    """The most games it can take."""
    round: int = 0
    stopped: bool = False
    """Whether the contest is void, or what comes next follows from values that are not known."""

    def __post_init__(self) -> None:
        self.most = most_games(len({*self.best, *self.worst}))
        self.both = [place for place in self.best if place in set(self.worst)]
        self.best = [place for place in self.best if place not in self.both]
        self.worst = [place for place in self.worst if place not in self.both]

    @classmethod
    def of_all(cls, contest: Contest) -> "Knockout":
        """All answers may be the best and the worst."""
        places = list(range(len(contest.answers)))
        return cls(contest, places, list(places))

    def draw(self) -> list[Game]:
        """The games of the next round, by hash; none when best and worst are found or cannot be."""
        if self.stopped:
            return []
        best, games = self.shuffled(self.best), []
        if len(self.both) == 1 and best:
            games.append((self.both[0], best.pop()))
        for players in (self.shuffled(self.both), best, self.shuffled(self.worst)):
            games += zip(players[0::2], players[1::2], strict=False)
        self.round += 1
        return [(min(game), max(game)) for game in games]

    def shuffled(self, places: Iterable[int]) -> list[int]:
        """Players in an order that is another in each round."""
        return sorted(places, key=lambda place: self.contest.drawn(place, "draw", self.round))

    def settle(self, games: Sequence[Game]) -> None:
        """Enter what the judge has said of a round; a void contest ends here."""
        if self.contest.unjudged:
            self.stopped = True
            return
        winners = [place for game in games if (place := self.contest.winner(game)) is not None]
        if len(winners) < len(games):
            self.stop()
            return
        for game, winner in zip(games, winners, strict=True):
            loser = game[winner == game[0]]
            self.move(winner, self.best, self.worst)
            self.move(loser, self.worst, self.best)

    def stop(self) -> None:
        """End it here: at most as many games as are left of `most` follow from values that are not known."""
        self.stopped, self.contest.undecided = True, self.most - len(self.contest.said)

    def move(self, place: int, up: list[int], out: list[int]) -> None:
        """An answer that could have been both goes `up`; one that played for the other end is `out`."""
        if place in self.both:
            self.both.remove(place)
            up.append(place)
        elif place in out:
            out.remove(place)

    def ends(self) -> tuple[int, int]:
        """The places of best and worst; the same one where there is one answer."""
        (best,), (worst,) = self.best or self.both, self.worst or self.both
        return best, worst


def most_games(answers: int) -> int:
    """The most games in which a knock-out finds best and worst of `answers`: 3n/2 - 2, rounded up."""
    return max(0, -(-3 * answers // 2) - 2)


def knockout(contests: Sequence[Knockout], compare: Compare) -> None:
    """Play all contests to their ends; each round of all of them is one call of the judge."""
    live = list(contests)
    while drawn := [(one, games) for one in live if (games := one.draw())]:
        ask([(one.contest, games) for one, games in drawn], compare)
        for one, games in drawn:
            one.settle(games)
        live = [one for one, _ in drawn]


def round_robin(contests: Sequence[Contest], compare: Compare) -> None:
    """Let every answer meet every other of its prompt, some prompts at a time."""
    for part in parts(contests):
        ask([(one, list(combinations(range(len(one.answers)), 2))) for one in part], compare)


def parts(contests: Iterable[Contest]) -> Iterator[list[Contest]]:
    """The contests that have an opponent for each answer, in parts of at most MOST_QUESTIONS games."""
    part: list[Contest] = []
    games = 0
    for one in contests:
        own = math.comb(len(one.answers), 2)
        if part and games + own > MOST_QUESTIONS:
            yield part
            part, games = [], 0
        if own:
            part.append(one)
            games += own
    if part:
        yield part


def ask(drawn: Sequence[tuple[Contest, Sequence[Game]]], compare: Compare) -> None:
    """Ask the judge about the games of all contests in one call, and note what it says."""
    due = [(one, game) for one, games in drawn for game in games]
    said = compare([one.question(game) for one, game in due])
    lost = {unjudged.index: unjudged for unjudged in said.unjudged}
    values = zip(said.first_better.tolist(), said.disagreement.tolist(), strict=True)
    for place, ((one, game), value) in enumerate(zip(due, values, strict=True)):
        if place in lost:
            one.unjudged.append(lost[place])
        else:
            one.said[game] = value


def round_robin_scores(contest: Contest) -> list[float]:
    """The mean win probability of each answer; an answer alone is neither better nor worse than itself."""
    return [contest.mean(place) for place in range(len(contest.answers))]


def knockout_scores(one: Knockout) -> list[float]:
    """The mean win probability of each answer over the comparisons that it took part in.

    The best has won all of its own and the worst lost all, so best >= 1/2 >= worst. The others played other
    opponents and may lie outside: they are moved between, and kept a thousandth of the distance away from
    both ends. Where every comparison was a tie, so are all scores: one half.
    """
    contest = one.contest
    means = round_robin_scores(contest)
    if one.stopped or len(means) < 2:
        return means
    best, worst = one.ends()
    low, high = means[worst], means[best]
    inside = (high - low) * INSIDE
    if not low < low + inside < high - inside < high:  # nearer than numbers can tell apart
        return [0.5] * len(means)
    scores = [min(max(mean, low + inside), high - inside) for mean in means]
    scores[best], scores[worst] = high, low
    return scores
