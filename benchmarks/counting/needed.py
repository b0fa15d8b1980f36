"""Which answers of engines a stage needs, said from its inputs and outputs: what calls are held against.

Each function gives the cells of one stage of a project that has been run. They know the recipe, the tables
and how text is rendered; nothing of the row store, of keys or of what was computed before.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.counting.hook.counted_cells import cell
from pipeline import ab, tables
from pipeline.chat import Chat
from pipeline.engines.evaluation import KL_TEMPERATURE, EvaluateParams
from pipeline.engines.judging import JudgeParams
from pipeline.models import model_identity
from pipeline.pair_texts import told_pairs
from pipeline.params import load
from pipeline.rendering import preference_ids, scored_ids
from pipeline.sampling_plan import Samples, planned
from pipeline.schemas import CANDIDATES, EVALUATIONS, SLICE
from pipeline.stages.generate import GenerateParams
from pipeline.stages.train import TrainParams


class Needed:
    """The cells that the stages of a project need."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.chats: dict[Path, Chat] = {}

    def params(self, section: str, kind: Any) -> Any:
        """A section of the recipe."""
        return load(section, kind, self.project / "params.yaml")

    def chat(self, model: Path) -> Chat:
        """The renderer of a model."""
        return self.chats.setdefault(model, Chat.load(model))

    def iteration(self, t: str) -> dict[str, Path]:
        """The models of an iteration by their role."""
        row = self.params(f"iterations.{t}", dict[str, str])
        models = self.project / "models"
        return {"current": models / "policies" / row["prev"], "variant": models / row["variant"]}

    def generate(self, t: str) -> set[str]:
        """The samples of the prompts of an iteration."""
        prompts = tables.read(SLICE, self.project / "data" / "prompts" / f"{t}.parquet")
        return self.answers(prompts, self.iteration(t))

    def answers(self, prompts: pl.DataFrame, models: dict[str, Path]) -> set[str]:
        """The samples of some prompts by the models of an iteration."""
        params = self.params("generate", GenerateParams)
        return set(self.samples(prompts, models, params.samples, params.seed, params.max_prompt_tokens))

    def samples(
        self, prompts: pl.DataFrame, models: dict[str, Path], wanted: Any, seed: int, longest: int
    ) -> Iterator[str]:
        """A cell per sample of each prompt that fits."""
        texts, plan = prompts["prompt"].to_list(), planned(prompts["prompt_id"], wanted, seed)
        for place, role, temperature, own in plan.select("place", "role", "temperature", "seed").iter_rows():
            ids = self.chat(models[role]).prompt_ids(texts[place])
            if len(ids) <= longest:
                yield cell("sample", weights(models[role]), [ids, temperature, own])

    def judge(self, t: str) -> set[str]:
        """What the judge is asked about the candidates of an iteration."""
        folder = self.project / "data" / "iterations" / t / "generate"
        rows = tables.read(CANDIDATES, folder / "candidates.parquet")
        judge = self.params("judge", JudgeParams)
        if judge.kind == "bt":
            return self.rewards(rows, judge)
        assert (judge.kind, judge.ranking) == ("pairwise", "round_robin"), "counted for these judges alone"
        groups = rows.group_by("prompt_id", maintain_order=True).agg(pl.col("prompt").first(), "response")
        pairs = [
            (prompt, first, second)
            for prompt, texts in groups.select("prompt", "response").iter_rows()
            for i, first in enumerate(texts)
            for j, second in enumerate(texts)
            if i != j
        ]
        return self.questions(self.project / judge.model, pairs, judge.max_length)

    def rewards(self, rows: pl.DataFrame, judge: JudgeParams) -> set[str]:
        """The score of each answer."""
        model = self.project / judge.model
        chat, digest = self.chat(model), weights(model)
        return {
            cell("score", digest, list(scored_ids(chat, prompt, text, max_length=judge.max_length)))
            for prompt, text in rows.select("prompt", "response").iter_rows()
        }

    def questions(self, model: Path, pairs: list[tuple[Any, str, str]], longest: int) -> set[str]:
        """The question which of two answers is better, for each (prompt, first, second)."""
        settings: Any = {"wording": "trained", "max_length": longest}
        return {
            cell("prefer", "", list(ab.question_ids(self.chat(model), *pair, **settings))) for pair in pairs
        }

    def train(self, t: str) -> set[str]:
        """What the reference model is asked about the pairs of an iteration."""
        folder = self.project / "data" / "iterations" / t
        pairs = told_pairs(folder / "generate", folder / "pair")
        params = self.params("train", TrainParams)
        pi0 = self.project / "models" / "policies" / "t0"
        reference = {"pi0": pi0, "previous": self.iteration(t)["current"]}[params.reference]
        limits = {"max_length": params.training.max_length, "overflow": params.overflow}
        rows, _ = preference_ids(pairs, self.chat(pi0), **limits)
        return {
            cell("reference", weights(reference), [prompt, answer])
            for side in ("chosen_ids", "rejected_ids")
            for prompt, answer in rows.select("prompt_ids", side).iter_rows()
        }

    def evaluate(self, t: str) -> set[str]:
        """What the evaluation of a policy asks of all models."""
        data, params = self.project / "data", self.params("evaluate", EvaluateParams)
        policy, pi0 = (self.project / "models" / "policies" / name for name in (t, "t0"))
        assert params.temperature == KL_TEMPERATURE, "else KL is measured on answers that no table holds"
        judge, prompts = (
            self.params("judge", JudgeParams),
            tables.read(SLICE, data / "prompts" / "validation.parquet"),
        )
        rows = tables.read(EVALUATIONS, data / "iterations" / t / "evaluate" / "evaluations.parquet")
        both = tables.read(EVALUATIONS, data / "baselines" / "evaluations.parquet").filter(policy="t0")
        pairs = rows.join(both, on="prompt_id", validate="1:1", suffix="_of_pi0")
        games = list(pairs.select("prompt", "response", "response_of_pi0").iter_rows())
        games += [(prompt, second, first) for prompt, first, second in games]
        once = (Samples(policy="current", temperature=params.temperature, count=1),)
        found = set(self.samples(prompts, {"current": policy}, once, params.seed, params.max_length))
        found |= self.questions(self.project / "models" / "pairwise", games, params.max_length)
        found |= self.rewards(rows, judge) | self.rewards(both, judge)
        return found | self.log_probs(rows, policy, [policy, pi0])

    def log_probs(self, rows: pl.DataFrame, renderer: Path, models: list[Path]) -> set[str]:
        """The log-probability of each answer under each model."""
        chat, found = self.chat(renderer), set()
        for prompt, text, end in rows.select("prompt", "response", "finish_reason").iter_rows():
            asked = [chat.prompt_ids(prompt), chat.response_ids(text, ended=end == "stop")]
            found |= {cell("log_probs", weights(model), asked) for model in models}
        return found


def weights(model: Path) -> str:
    """The digest of a model's weights."""
    return model_identity(model)["weights"]
