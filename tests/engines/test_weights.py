"""Which weights a run may change."""

import pytest
from safetensors.torch import load_file

from pipeline.errors import UserError
from tests.engines.tiny_runs import params, run_in, train


def moved(base, run) -> set[str]:
    """The names of the weights that a run has changed or added, without what stands before each."""
    before, after = (load_file(folder / "model.safetensors") for folder in (base, run.out))
    return {name for name in after if name not in before or not after[name].equal(before[name])}


@pytest.mark.parametrize("kind", ["sft", "reward"])
def test_the_last_layers_learn_and_nothing_below_moves(tiny_model, tmp_path, kind):
    run = run_in(tmp_path)
    train(kind, tiny_model, run, params(train_layers=1))
    names = moved(tiny_model, run)
    layers = {name.split(".")[2] for name in names if ".layers." in name}
    assert layers == {"1"}, "the tiny model has two layers"
    rest = {name for name in names if ".layers." not in name}
    assert rest == {"model.norm.weight"} | ({"score.weight"} if kind == "reward" else set())


def test_all_layers_by_number_leave_the_embeddings(tiny_model, tmp_path):
    run = run_in(tmp_path)
    train("sft", tiny_model, run, params(train_layers=2))
    assert {name.split(".")[2] for name in moved(tiny_model, run) if ".layers." in name} == {"0", "1"}
    assert not any("embed" in name for name in moved(tiny_model, run))


def test_more_layers_than_there_are_is_told(tiny_model, tmp_path):
    with pytest.raises(UserError, match=r"section\.train_layers: expected at most the 2 layers"):
        train("reward", tiny_model, run_in(tmp_path), params(train_layers=3))
