"""A run whose numbers are finite, but whose policy is lost, is stopped with a message."""

import pytest

from pipeline.engines.curves import collapse
from pipeline.errors import UserError
from pipeline.objectives import Health, LossTerm
from tests.engines.tiny_runs import DPO, curve, params, rows, run_in, train

HEALTH = Health(max_fall=3.0)
DOWN = DPO.model_copy(update={"beta": 1.0, "loss": (LossTerm(name="apo_down", weight=1.0),)})
"""A loss that pushes both answers down."""
FAST = {"settings": params(learning_rate=1e-2, epochs=10.0), "objective": DOWN}


def history(*values: float) -> list[dict[str, float]]:
    """The points of a run, with lines between them that say nothing of answers."""
    return [{"step": 0, "loss": 1.0}, *({"step": i, "chosen_logp": value} for i, value in enumerate(values))]


@pytest.mark.parametrize(
    ("values", "stops"),
    [((-1.5,), False), ((-1.5, -4.4), False), ((-1.5, -4.6), True), ((-5.0, -1.0, -7.9), False)],
)
def test_the_fall_is_measured_from_the_first_point(values, stops):
    assert bool(collapse(HEALTH, history(*values))) == stops
    assert collapse(None, history(*values)) is None


def test_where_the_likelihood_alone_is_trained_the_loss_says_how_far_it_fell():
    losses = [{"step": i, "loss": value} for i, value in enumerate((1.0, 3.9, 4.1))]
    assert collapse(HEALTH, losses[:2]) is None
    assert "to fall by at most 3.0 from -1.000 at the first step, found -4.100" in str(
        collapse(HEALTH, losses)
    )


def test_what_fell_for_a_moment_and_came_back_has_been_stopped_then():
    assert collapse(HEALTH, history(-1.0, -9.0))
    assert not collapse(HEALTH, history(-1.0, -9.0, -2.0))


def test_a_collapsing_run_says_what_was_expected_what_was_found_when_and_what_to_change(tiny_model, tmp_path):
    free = run_in(tmp_path / "free", title="train@t2")
    train("dpo", tiny_model, free, **FAST)
    values = curve(free, "chosen_logp")
    limit = Health(max_fall=0.1)
    first = next(i for i, value in enumerate(values) if values[0] - value > 0.1)
    with pytest.raises(UserError) as stopped:
        train("dpo", tiny_model, run_in(tmp_path / "held", title="train@t2", health=limit), **FAST)
    said = str(stopped.value)
    assert f"train@t2: training diverged at step {first + 1} of {len(values)}" in said
    assert f"to fall by at most 0.1 from {values[0]:.3f} at the first step, found {values[first]:.3f}" in said
    assert "lower the learning_rate of train in params.yaml" in said
    assert "train.health.max_fall" in said


def test_a_healthy_run_is_the_same_with_and_without_the_check(tiny_model, tmp_path):
    data = rows("dpo", bias=77)
    checked, free = (
        train("dpo", tiny_model, run_in(tmp_path / name, health=health), data=data)
        for name, health in (("checked", HEALTH), ("free", None))
    )
    assert checked == free
