"""How many rows a stage can ask at most, where its inputs are still to be made.

The recipe bounds them: a slice has at most so many prompts, a prompt so many answers. A table that
stays as it is counts for itself.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import comb
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from pipeline.cells import Kind
from pipeline.commands.graph import Outlook
from pipeline.engines.evaluation import KL_TEMPERATURE, EvaluateParams
from pipeline.engines.judging import JudgeParams
from pipeline.history import OFFLINE
from pipeline.pair_rules import PairParams, Uncertainty, pairs_per_prompt
from pipeline.params import Params, load
from pipeline.preference_training import RewardParams
from pipeline.ranking import most_games
from pipeline.stages.control import ControlParams
from pipeline.stages.evaluate_judges import EvaluateJudgesParams
from pipeline.stages.gather import GatherParams
from pipeline.stages.generate import GenerateParams
from pipeline.stages.offline_dpo import OfflineDpoParams
from pipeline.stages.offline_pairs import OfflinePairsParams
from pipeline.stages.prompts import PromptsParams
from pipeline.stages.train import TrainParams

#: Rows by kind, and by the engine that computes them.
Most = list[tuple[Kind, str, int]]

P = TypeVar("P", bound=Params)


class Unbounded(Exception):  # noqa: N818 - a finding, not a failure
    """Nothing says how many rows there can be."""


class Bounds:
    """Bounds of stages, looked at in the order of the graph."""

    def __init__(self) -> None:
        self.prompts: dict[str, int] = {}
        """Most prompts by iteration."""
        self.gathered: dict[str, int] = {}
        """Most pairs that an iteration trains on."""
        self.answering = 0
        """Policies that answer the validation prompts anew."""
        self.sections: dict[str, Params] = {}
        """What has been read of params.yaml."""

    def section(self, name: str, kind: type[P]) -> P:
        """A section of params.yaml, read once."""
        if not isinstance(self.sections.get(name), kind):
            self.sections[name] = load(name, kind)
        found = self.sections[name]
        assert isinstance(found, kind)
        return found

    def note(self, outlook: Outlook) -> None:
        """Keep how many prompts and pairs an iteration has, and which policies answer anew: it bounds later
        stages."""
        group, _, key = outlook.name.partition("@")
        if outlook.state != "up to date":
            self.answering += {"evaluate": 1, "evaluate_baselines": 2}.get(group, 0)
        if group == "generate":
            with suppress(Unbounded):
                self.prompts[key] = self.slice(outlook, outlook.words[1], "per_slice")
        if group == "gather":
            with suppress(Unbounded):
                self.gathered[key] = self.paired(key) + self.earlier(outlook.words[3], outlook)

    def most(self, outlook: Outlook) -> Most | None:
        """Most rows of a stage that asks the row store; None where nothing bounds them."""
        with suppress(Unbounded):
            return self.bounded(outlook)
        return None

    def bounded(self, outlook: Outlook) -> Most:
        """Most rows of a stage; Unbounded where nothing says how many."""
        group, _, key = outlook.name.partition("@")
        match group:
            case "generate":
                engine = self.section("generate", GenerateParams).engine
                return [("sample", engine, self.asked(key) * self.answers)]
            case "judge":
                return self.judge(key, outlook)
            case "evaluate":
                return self.evaluation(outlook, outlook.words[1], policies=1)
            case "evaluate_baselines":
                return self.evaluation(outlook, outlook.words[0], policies=2)
            case "evaluate_judges":
                return self.judge_evaluation()
            case "control":
                return self.control(outlook)
            case "pair":
                return self.explored(key, outlook)
            case "reward" | "learning_curve":
                return self.states(group, key, outlook)
            case "train":
                return self.training(key, outlook)
            case _:
                return self.offline(outlook)

    def asked(self, key: str) -> int:
        """Most prompts of an iteration."""
        return self.known(self.prompts, key)

    def known(self, noted: Mapping[str, int], key: str) -> int:
        """What has been noted of an iteration."""
        if key not in noted:
            raise Unbounded
        return noted[key]

    def slice(self, outlook: Outlook, path: str, limit: str) -> int:
        """The prompts of a slice that stays as it is, or else what the recipe says of it."""
        if path not in outlook.stale + outlook.absent:
            return height(Path(path))
        return getattr(self.section("prompts", PromptsParams), limit)

    @property
    def answers(self) -> int:
        """n: samples of each prompt."""
        return sum(wanted.count for wanted in self.section("generate", GenerateParams).samples)

    def judge(self, key: str, outlook: Outlook) -> Most:
        """By each judge a score per answer; or pairs of a prompt's answers in both orders: all, or those of a
        knock-out. A cascade may ask both."""
        params, candidates = self.section("judge", JudgeParams), outlook.words[1]
        if candidates not in outlook.stale + outlook.absent:
            table = table_of(Path(candidates) / "candidates.parquet")
            answers = table.group_by("prompt_id").len().collect()["len"].to_list()
        else:
            answers = [self.answers] * self.asked(key)
        return [row for one in params.jury for row in judge_asks(one, answers)]

    def evaluation(self, outlook: Outlook, prompts: str, *, policies: int) -> Most:
        """Of one policy and pi_0, or of pi_0 and another: answers, preferences, scores, log-probabilities.

        `policies` answer anew, and are compared with pi_0: in both orders, which are one for its own answers.
        One of them answers once more for its KL, unless it has answered at that temperature.
        The judge is asked about pi_0's answers, too; against itself, pi_0 needs no log-probabilities.
        """
        asked = self.slice(outlook, prompts, "validation")
        params, judge = self.section("evaluate", EvaluateParams), self.section("judge", JudgeParams)
        judged: tuple[Kind, str, int] = ("score", judge.engine, 2 * asked)
        return [
            ("sample", params.engine, (policies + (params.temperature != KL_TEMPERATURE)) * asked),
            ("prefer", params.engine, (policies + 1) * asked),
            judged if judge.rewards else (*judge.cells, 3 * asked),
            ("log_probs", params.engine, 2 * asked),
        ]

    def control(self, outlook: Outlook) -> Most:
        """A score of each validation answer that is new; by a new control, of those of all policies."""
        policies = self.answering
        if outlook.words[2] in outlook.stale + outlook.absent:
            policies = 2 + len(load("iterations", dict[str, object]))
        prompts = self.section("prompts", PromptsParams).validation
        return [("score", self.section("control", ControlParams).engine, policies * prompts)]

    def judge_evaluation(self) -> Most:
        """Both answers of each pair, or the pair in both orders, for each judge."""
        params = self.section("evaluate_judges", EvaluateJudgesParams)
        pairs = (len(params.mixes) + len(params.sets)) * params.max_pairs_per_set
        return [(*params.cells(judge), 2 * pairs) for judge in params.judges]

    def explored(self, key: str, outlook: Outlook) -> Most:
        """What `uncertainty` reads: the answers of an iteration, and both of each pair before it."""
        if not isinstance(self.section("pair", PairParams).strategy, Uncertainty):
            return []
        earlier = self.earlier(outlook.words[3], outlook)
        return [("state", "transformers", self.asked(key) * self.answers + 2 * earlier)]

    def states(self, group: str, key: str, outlook: Outlook) -> Most:
        """Both answers of the pairs that a head is trained on, and of those that it is measured on."""
        params, mix = self.section(f"rewards.{key}", RewardParams), outlook.words[1]
        if not params.on_states:
            return []
        pairs = self.pairs(params.max_pairs, mix, outlook)
        if group == "learning_curve":
            pairs += self.pairs(None, mix, outlook, "test")
        return [("state", "transformers", 2 * pairs)]

    def training(self, key: str, outlook: Outlook) -> Most:
        """The pairs of an iteration, as many of each prompt as the strategy makes, and those before it."""
        if not self.section("train", TrainParams).objective.reference:
            return []
        folder = outlook.words[1]
        if folder in outlook.stale + outlook.absent:
            return references(self.known(self.gathered, key))
        return references(height(Path(folder) / "history.parquet"))

    def paired(self, key: str) -> int:
        """Most pairs of an iteration."""
        return pairs_per_prompt(self.section("pair", PairParams).strategy) * self.asked(key)

    def earlier(self, folder: str, outlook: Outlook) -> int:
        """Most pairs that an iteration adds to its own, of those in the folder of the one before: what stands
        there, or what the recipe lets it grow to."""
        cumulative = self.section("gather", GatherParams).pairs == "cumulative"
        if folder not in outlook.stale + outlook.absent:
            table = table_of(Path(folder) / "history.parquet")
            return rows_of(table if cumulative else table.filter(since=OFFLINE))
        before = Path(folder).name
        if cumulative and before in self.gathered:
            return self.gathered[before]
        offline = self.section("offline_pairs", OfflinePairsParams).max_pairs
        if offline is None or (cumulative and before in load("iterations", dict[str, Any])):
            raise Unbounded
        return offline

    def offline(self, outlook: Outlook) -> Most:
        """Both answers of its pairs."""
        params = self.section("offline_dpo", OfflineDpoParams)
        return references(self.pairs(params.max_pairs, outlook.words[0], outlook))

    def pairs(self, most: int | None, mix: str, outlook: Outlook, side: str = "train") -> int:
        """The pairs up to a cap, or all of one side of a mix that stays."""
        if most is not None:
            return most
        if mix in outlook.stale + outlook.absent:
            raise Unbounded
        return height(Path(mix) / f"{side}.parquet")


def judge_asks(params: JudgeParams, answers: Sequence[int]) -> Most:
    """Most rows that one judge asks of prompts with so many answers each."""
    scores: Most = [("score", params.engine, sum(answers))] if params.rewards else []
    if params.kind == "bt":
        return scores
    robin = params.ranking == "round_robin" and not params.rewards
    games = (comb(count, 2) if robin else most_games(count) for count in answers)
    return [*scores, (*params.cells, 2 * sum(games))]


def references(pairs: int) -> Most:
    """Both answers of each pair under the reference model."""
    return [("log_probs", "trl", 2 * pairs)]


def height(path: Path) -> int:
    """The rows of a table."""
    return rows_of(table_of(path))


def rows_of(table: pl.LazyFrame) -> int:
    """The number of rows."""
    return table.select(pl.len()).collect().item()


def table_of(path: Path) -> pl.LazyFrame:
    """A table; Unbounded where there is none: DVC does not ask for the inputs of a frozen stage."""
    if not path.is_file():
        raise Unbounded
    return pl.scan_parquet(path)
