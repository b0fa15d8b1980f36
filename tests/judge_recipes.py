"""Params of judges on fake engines."""

from typing import Any

from pipeline.engines.judging import JudgeParams
from pipeline.engines.prompting import PromptedParams
from pipeline.params import parse
from tests.smoke_project import ROOT


def judge_params(kind: str, **changes: object) -> JudgeParams:
    """A judge of a kind; a cascade has the pairwise model as its referee."""
    base = JudgeParams(
        kind=kind,
        also=(),
        model="models/x",
        ranking="knockout",
        referee="models/pairwise",
        referee_margin=1.0,
        engine="fake",
        dtype="float32",
        max_length=1024,
        prompted=None,
    )
    return base.model_copy(update=changes)


def in_words(**changes: object) -> dict[str, Any]:
    """The section `prompted` of a judge that is asked in words."""
    return {
        "engine": "fake",
        "dtype": "float32",
        "endpoint": None,
        "template": str(ROOT / "recipes" / "templates" / "pair.txt"),
        "max_length": 4000,
        "max_new_tokens": 300,
        "request": {},
        "prices": None,
        "max_unparsable": 0.0,
    } | changes


def prompted_params(**changes: object) -> PromptedParams:
    """The same, read."""
    return parse("judge.prompted", PromptedParams, in_words(**changes))
