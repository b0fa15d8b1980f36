"""How many rows a stage can ask at most, where its inputs are still to be made.

The recipe bounds them: a slice has at most so many prompts, a prompt so many answers. A table that
stays as it is counts for itself.
"""

from collections.abc import Sequence
from contextlib import suppress
from math import comb
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from pipeline.cells import Kind
from pipeline.commands.graph import Outlook
from pipeline.engines.evaluation import KL_TEMPERATURE, EvaluateParams
from pipeline.engines.judging import JudgeParams
from pipeline.pair_rules import PairParams, Uncertainty, pairs_per_prompt
from pipeline.params import Params, load
from pipeline.preference_training import RewardParams
from pipeline.ranking import most_games
from pipeline.stages.control import ControlParams
from pipeline.stages.evaluate_judges import EvaluateJudgesParams
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
        """Keep how many prompts an iteration has, and which policies answer anew: it bounds later stages."""
        group, _, key = outlook.name.partition("@")
        if outlook.state != "up to date":
            self.answering += {"evaluate": 1, "evaluate_baselines": 2}.get(group, 0)
        if group == "generate":
            with suppress(Unbounded):
                self.prompts[key] = self.slice(outlook, outlook.words[1], "per_slice")

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
        if key not in self.prompts:
            raise Unbounded
        return self.prompts[key]

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
        earlier = self.earlier(key, outlook.words[3], outlook, self.section("train", TrainParams).pairs)
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
        params = self.section("train", TrainParams)
        if not params.objective.reference:
            return []
        return references(self.paired(key) + self.earlier(key, outlook.words[2], outlook, params.pairs))

    def paired(self, key: str) -> int:
        """Most pairs of an iteration."""
        return pairs_per_prompt(self.section("pair", PairParams).strategy) * self.asked(key)

    def earlier(self, key: str, folder: str, outlook: Outlook, data: str) -> int:
        """What an iteration adds to its own pairs: what stands there, or what the recipe lets it grow to."""
        if folder not in outlook.stale + outlook.absent:
            return height(Path(folder) / "history.parquet")
        offline, chain = self.section("offline_pairs", OfflinePairsParams), load("iterations", dict[str, Any])
        if offline.max_pairs is None:
            raise Unbounded
        before, pairs = chain[key]["prev"], offline.max_pairs
        while data == "cumulative" and before in chain:
            pairs, before = pairs + self.paired(before), chain[before]["prev"]
        return pairs

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
    return table_of(path).select(pl.len()).collect().item()


def table_of(path: Path) -> pl.LazyFrame:
    """A table; Unbounded where there is none: DVC does not ask for the inputs of a frozen stage."""
    if not path.is_file():
        raise Unbounded
    return pl.scan_parquet(path)
