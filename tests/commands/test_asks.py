"""Which stages ask the row store is told in one table, and the code agrees."""

import importlib

import pytest

from pipeline.commands.asks import ASKING
from tests.closure import ROOT, closure, stage_module

STAGES = sorted(path.stem for path in (ROOT / "pipeline" / "stages").glob("[!_]*.py"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_can_fill_is_asked_for_its_rows(stage):
    fills = ROOT / "pipeline" / "filling.py" in closure(stage_module(stage))
    assert fills == (stage in ASKING)


@pytest.mark.parametrize("stage", ASKING)
def test_an_asking_stage_has_the_function_that_asks(stage):
    module = importlib.import_module(f"pipeline.stages.{stage}")
    assert callable(getattr(module, ASKING[stage].function))
    assert ASKING[stage].function != "made" or callable(module.write)
