"""Notes every answer that an engine gives, one line each, in the file that CALLS_FILE names.

Python imports this module at its start, in every process, where this folder is on PYTHONPATH. It wraps the
fake engines, and the reference model of DPO, as soon as they are imported; the product does not know of it.
CALLS_SECONDS is a delay per answer, which makes an engine slow.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from counted_cells import cell

SECONDS = float(os.environ.get("CALLS_SECONDS", "0"))


def note(kind: str, model: Path | None, asked: Sequence[Any]) -> None:
    """Append a line; a short append is not mixed with those of other processes."""
    time.sleep(SECONDS)
    models = sys.modules["pipeline.models"]  # every engine has imported it
    line = cell(kind, models.model_identity(model)["weights"] if model else "", asked) + "\n"
    file = os.open(os.environ["CALLS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


def noting(answers: Callable[..., Any], kind: str, model: Path | None, ask: Callable[[Any], Any]) -> Any:
    """`answers` over some asks (its last positional argument), with each answer noted as it is given."""

    def noted(asks: Sequence[Any], **settings: Any) -> Iterator[Any]:
        for answer in answers(asks, **settings):
            note(kind, model, ask(asks[answer[0]]))
            yield answer

    return noted


def wrap_fake(module: Any) -> None:
    """Samples, scores, preferences and log-probabilities of the fake engine."""
    sampler, scorer = module.fake_sampler, module.fake_scorer
    labels, log_probs = module.fake_label_probabilities, module.fake_log_probs

    def measured(model: Path, prompts: Sequence[Any], responses: Sequence[Any]) -> Iterator[Any]:
        for answer in log_probs(model, prompts, responses):
            note("log_probs", model, [list(prompts[answer[0]]), list(responses[answer[0]])])
            yield answer

    def request(ask: Any) -> list[Any]:
        return [list(ask.prompt_ids), ask.temperature, ask.seed]

    module.fake_sampler = lambda model: noting(sampler(model), "sample", model, request)
    module.fake_scorer = lambda model: noting(scorer(model), "score", model, list)
    module.fake_label_probabilities = noting(labels, "prefer", None, list)
    module.fake_log_probs = measured


def wrap_reference(module: Any) -> None:
    """Log-probabilities under the reference model, which training needs."""
    measurer = module.trl_log_probs

    def measured(model: Path, *settings: Any) -> Any:
        return noting(measurer(model, *settings), "reference", model, lambda ask: [list(ids) for ids in ask])

    module.trl_log_probs = measured


WRAPS: dict[str, Callable[[ModuleType], None]] = {
    "pipeline.engines.fake": wrap_fake,
    "pipeline.engines.reference": wrap_reference,
}


class Finder:
    """Finds the engines as Python does, and has them wrapped when they are loaded."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in WRAPS else None
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_wrap(module: ModuleType) -> None:
            load(module)
            WRAPS[name](module)

        spec.loader.exec_module = load_and_wrap
        return spec


if "CALLS_FILE" in os.environ:
    sys.meta_path.insert(0, Finder)
