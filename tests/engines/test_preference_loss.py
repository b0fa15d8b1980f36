"""Objectives over pairs: the published formulas, on tensors and through a training run of a tiny model."""

import math
from dataclasses import replace
from typing import get_args

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.engines.preference_loss import losses
from pipeline.engines.trainers import train_dpo
from pipeline.errors import UserError
from pipeline.objectives import AlphaDivergence, Dpo, DpoLossName, LossTerm, Orpo, Simpo, SortedLossTerm
from tests.engines.tiny_runs import DPO, curve, outputs, params, rows, run_in, train, with_reference

SIMPO = Simpo(kind="simpo", beta=2.0, margin=0.5)
ORPO = Orpo(kind="orpo", weight=0.25)
SORTED = ("aot", "aot_unpaired")


def summed(*names: str, sort: int = 4, **changes) -> Dpo:
    """DPO with a sum of losses, the second and later ones of weight 0.5."""
    terms = [
        SortedLossTerm(name=name, weight=1.0, rows=sort)
        if name in SORTED
        else LossTerm(name=name, weight=0.5 if i else 1.0)
        for i, name in enumerate(names)
    ]
    smoothing = {"label_smoothing": 0.1} if {"exo_pair", "robust"} & set(names) else {}
    return DPO.model_copy(update={"loss": tuple(terms), **smoothing, **changes})


EVERY = {name: summed(*({"sft": ("sigmoid", "sft")}.get(name, (name,)))) for name in get_args(DpoLossName)}
EVERY |= {name: summed(name) for name in SORTED}
EVERY |= {how: summed("sigmoid", divergence=how) for how in ("forward_kl", "js_divergence")}
EVERY["alpha"] = summed("sigmoid", divergence=AlphaDivergence(name="alpha_divergence", coefficient=0.3))
EVERY |= {"simpo": SIMPO, "orpo": ORPO}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_simpo_is_the_published_formula():
    # Equation 6 of arXiv 2405.14734, with mean log-probabilities -0.5 and -1.25: 2 * 0.75 - 0.5 = 1.
    (found,) = losses(SIMPO, torch.tensor([-0.5]), torch.tensor([-1.25])).tolist()
    assert found == pytest.approx(-math.log(sigmoid(1.0)), abs=1e-6)


def test_orpo_is_the_published_formula():
    # Equations 4, 6 and 7 of arXiv 2403.07691 with p = 0.5 and 0.2: odds 1 and 0.25, so their ratio is 4.
    (found,) = losses(ORPO, torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.2)])).tolist()
    assert found == pytest.approx(-math.log(0.5) - 0.25 * math.log(sigmoid(math.log(4))), abs=1e-6)


def test_orpo_of_a_certain_answer_is_finite_and_so_is_its_gradient():
    sure = torch.zeros(1, requires_grad=True)
    loss = losses(ORPO, sure, torch.tensor([-2.0])).sum()
    loss.backward()
    assert loss.isfinite() and sure.grad.isfinite().all()


def token_means(model, pairs: pl.DataFrame) -> dict[str, torch.Tensor]:
    """Mean log-probability of each answer's tokens, its end of turn included, by plain transformers."""
    network = AutoModelForCausalLM.from_pretrained(model).eval()
    found: dict[str, list[float]] = {"chosen_ids": [], "rejected_ids": []}
    for row in pairs.iter_rows(named=True):
        for side, values in found.items():
            prompt, answer = row["prompt_ids"], row[side]
            with torch.no_grad():
                logits = network(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            picked = logits.log_softmax(-1).gather(-1, torch.tensor(answer)[:, None])
            values.append(picked.mean().item())
    return {side: torch.tensor(values) for side, values in found.items()}


@pytest.mark.parametrize("objective", [SIMPO, ORPO], ids=lambda objective: objective.kind)
def test_a_run_without_a_reference_model_minimises_the_formula_on_its_rows(objective, tiny_model, tmp_path):
    pairs, run = rows("dpo", 8), run_in(tmp_path, micro_batch=3)
    train_dpo(tiny_model, pairs, params(epochs=1.0), objective, run)
    means = token_means(tiny_model, pairs)
    expected = losses(objective, means["chosen_ids"], means["rejected_ids"]).mean().item()
    assert curve(run, "loss")[0] == pytest.approx(expected, abs=1e-4)
    assert curve(run, "chosen_logp")[0] == pytest.approx(means["chosen_ids"].mean().item(), abs=1e-4)
    wins = (means["chosen_ids"] > means["rejected_ids"]).float().mean().item()
    assert curve(run, "accuracy")[0] == pytest.approx(wins)


def test_the_likelihood_of_the_chosen_answer_is_added_with_its_weight(tiny_model, tmp_path):
    pairs, run = rows("dpo", 8), run_in(tmp_path)
    train_dpo(tiny_model, with_reference(tiny_model, pairs), params(epochs=1.0), EVERY["sft"], run)
    # The policy is its own reference in the first step, so plain DPO is log 2.
    likelihood = token_means(tiny_model, pairs)["chosen_ids"].mean().item()
    assert curve(run, "loss")[0] == pytest.approx(math.log(2) - 0.5 * likelihood, abs=1e-4)


def alpha(log_ratio: float, coefficient: float) -> float:
    """f'(t) = (t^(a - 1) - 1) / (a - 1) of the alpha divergence (arXiv 2309.16240), with t the ratio."""
    return (math.exp((coefficient - 1) * log_ratio) - 1) / (coefficient - 1)


LOG_SIGMOID = -math.log(sigmoid(0.5 * 1.1))
WEIGHED = {
    "beta": (summed("sigmoid", beta=0.5), LOG_SIGMOID),
    "weights": (summed("sigmoid", "hinge", beta=0.5), LOG_SIGMOID + 0.5 * (1 - 0.5 * 1.1)),
    "smoothing": (
        summed("robust", beta=0.5, label_smoothing=0.2),
        (0.8 * LOG_SIGMOID + 0.2 * math.log(sigmoid(-0.5 * 1.1))) / 0.6,
    ),
    "alpha": (
        summed("sigmoid", beta=0.5, divergence=AlphaDivergence(name="alpha_divergence", coefficient=0.3)),
        -math.log(sigmoid(0.5 * (alpha(0.7, 0.3) - alpha(-0.4, 0.3)))),
    ),
}


@pytest.mark.parametrize("name", WEIGHED)
def test_beta_weights_and_options_stand_in_the_loss_as_the_recipe_says(name, tiny_model, tmp_path):
    """The reference is 0.7 nats below the policy on each chosen answer, and 0.4 above it on the other."""
    objective, expected = WEIGHED[name]
    run = run_in(tmp_path)
    away = {"ref_chosen_logps": pl.col("ref_chosen_logps") - 0.7}
    away["ref_rejected_logps"] = pl.col("ref_rejected_logps") + 0.4
    pairs = with_reference(tiny_model, rows("dpo", 8)).with_columns(**away)
    train_dpo(tiny_model, pairs, params(epochs=1.0), objective, run)
    assert curve(run, "loss")[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", EVERY)
def test_how_a_step_is_cut_changes_rounding_only(name, tiny_model, tmp_path):
    norms = []
    for size in (2, 8):
        run = run_in(tmp_path / str(size), micro_batch=size)
        train("dpo", tiny_model, run, params(max_grad_norm=0.0), rows("dpo", 14), objective=EVERY[name])
        norms.append(curve(run, "grad_norm"))
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    assert all(norm > 0 for norm in norms[0])


def test_no_two_objectives_train_the_same_policy(tiny_model, tmp_path):
    """After the first step of equal losses come others: each objective has gradients of its own."""
    pairs = rows("dpo", 16)
    found = {
        name: train("dpo", tiny_model, run_in(tmp_path / name), params(), pairs, objective=objective)
        for name, objective in EVERY.items()
    }
    assert len({files["model/model.safetensors"] for files in found.values()}) == len(EVERY)


def test_how_many_rows_aot_sorts_is_said_by_the_recipe(tiny_model, tmp_path):
    pairs = rows("dpo", 16)
    found = [
        train(
            "dpo",
            tiny_model,
            run_in(tmp_path / f"{sort}-{size}", micro_batch=size),
            params(),
            pairs,
            objective=summed("aot", sort=sort),
        )["model/model.safetensors"]
        for sort, size in ((2, 8), (2, 1), (8, 8), (8, 1))
    ]
    assert found[0] == found[1] != found[2] == found[3]


def test_processes_that_would_cut_what_is_sorted_together_are_refused(tiny_model, tmp_path):
    run = replace(run_in(tmp_path), processes=2)
    with pytest.raises(UserError, match=r"a multiple of the 8 rows .* global_batch of 8, found 2"):
        train("dpo", tiny_model, run, params(), objective=summed("aot", sort=8))


def test_a_preference_is_learned_without_a_reference_model(tiny_model, tmp_path):
    for objective in (SIMPO, ORPO):
        run = run_in(tmp_path / objective.kind)
        settings = params(epochs=10.0, learning_rate=1e-2)
        train_dpo(tiny_model, rows("dpo", bias=77), settings, objective, run)
        assert curve(run, "accuracy")[-1] == 1.0
        assert curve(run, "margin")[-1] > curve(run, "margin")[0]
        assert "model/model.safetensors" in outputs(run)
