"""`pairmill doctor judges`: is each score a function of weights, template and text alone?"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.doctor import Finding
from pipeline.engines.judge_checks import Examination, Format, Kind, examine
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.params import load
from pipeline.stages.evaluate_judges import EvaluateJudgesParams

FORMATS: tuple[Format, ...] = ("float32", "bfloat16")
EXACT = 1e-4
"""How far a score may move in float32. Measured on SmolLM2-135M: 2.4e-6."""
ROUNDED: dict[Kind, float] = {"reward model": 0.15, "preference model": 0.03}
"""How far in bfloat16: a part of the largest |reward|, or of 1 where all are smaller, and of a probability.
Two to three times what was measured on SmolLM2-135M with its 30 layers, on a CPU: 0.076 (with a random head)
and 0.011."""
MODELS = {"bt": "models/reward", "pairwise": "models/pairwise", "prompted": "models/base"}
"""The model of each judge, as dvc.yaml gives it to stage evaluate_judges."""
SAME = 1e-6
"""Scores of different conversations that lie nearer than this are one score."""


def models_of_recipe() -> list[Path]:
    """The models of the judges of params.yaml that exist; UserError where none does."""
    asked = load("evaluate_judges", EvaluateJudgesParams).judges
    named = [MODELS[judge] for judge in asked if judge in MODELS]
    own = load("judge", dict[str, object]).values()
    named += [value for value in own if isinstance(value, str) and value.startswith("models/")]
    found = [Path(name) for name in dict.fromkeys(named) if (Path(name) / "config.json").exists()]
    if not found:
        raise UserError(
            f"expected a model of a judge, found none of {', '.join(dict.fromkeys(named))}; "
            "make them with: dvc repro reward@reward pairwise, or name a folder: pairmill doctor judges "
            "FOLDER"
        )
    return found


def findings(folders: Sequence[Path]) -> Iterator[Finding]:
    """One for each model folder; without any, for each model of the recipe that exists."""
    for folder in folders or models_of_recipe():
        try:
            examined = [examine(folder, dtype, execution().threads) for dtype in FORMATS]
        except UserError as error:
            yield Finding(str(folder), False, str(error))
            continue
        faults = [words for one in examined for words in faults_of(one)]
        yield Finding(str(folder), not faults, faults[0] if faults else praise(examined))


def limit(one: Examination) -> float:
    """How far a score of this model may move in this number format."""
    if one.dtype == "float32":
        return EXACT
    return ROUNDED[one.kind] * (max(1.0, *map(abs, one.values)) if one.kind == "reward model" else 1.0)


def faults_of(one: Examination) -> Iterator[str]:
    """What is wrong with a model, the worst first, and what to do."""
    if max(one.values) - min(one.values) < SAME:
        yield (
            f"{one.kind} in {one.dtype}: expected scores that depend on the text, found {one.values[0]:.6g} "
            f"for all {len(one.values)} conversations; train the model again"
        )
    way, most = max(one.moved.items(), key=lambda entry: entry[1])
    if most <= limit(one):
        return
    said = (
        f"{one.kind} in {one.dtype}: a score {way} differs by {most:.3g} from the score alone, expected at "
        f"most {limit(one):.3g}; "
    )
    if one.pads_with_end is not None:
        yield said + (
            f"the pad token {one.pads_with_end} also ends answers, so that the head reads the token before: "
            f"set pad_token_id in config.json and pad_token in tokenizer_config.json to a special token that "
            f"ends no answer, or train the model again, which does so: dvc repro reward@reward"
        )
        return
    yield said + (
        "such a model cannot be scored in batches: use one of the Llama, Mistral or Qwen family, whose "
        "attention leaves out what is masked"
    )


def praise(examined: Sequence[Examination]) -> str:
    """How little the scores of a model move."""
    told = ", ".join(
        f"{max(one.moved.values()):.1g} in {one.dtype} (limit {limit(one):.1g})" for one in examined
    )
    return (
        f"{examined[0].kind}: scores of {len(examined[0].values)} conversations alone, in a batch, reversed "
        f"and padded on either side differ by at most {told}"
    )
