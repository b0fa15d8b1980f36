"""Params of judges on fake engines."""

from pipeline.engines.judging import JudgeParams


def judge_params(kind: str, **changes: object) -> JudgeParams:
    """A judge of a kind; a cascade has the pairwise model as its referee."""
    base = JudgeParams(
        kind=kind,
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
