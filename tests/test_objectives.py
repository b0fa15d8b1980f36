"""Objectives are read by their kind, and what a loss would ignore or cannot do is refused."""

import inspect
import re
from typing import get_args

import pytest
from trl import DPOTrainer

from pipeline.engines.preference_loss import loss_arguments
from pipeline.errors import UserError
from pipeline.objectives import DIVERGENT, SMOOTHED, Dpo, DpoLossName, Health, Objective, SortedLossTerm
from pipeline.params import parse

DPO = {
    "kind": "dpo",
    "beta": 0.1,
    "loss": [{"name": "sigmoid", "weight": 1.0}],
    "label_smoothing": 0.0,
    "divergence": "reverse_kl",
}
SIMPO = {"kind": "simpo", "beta": 2.0, "margin": 1.0}
ORPO = {"kind": "orpo", "weight": 0.1}
RAFT = {"kind": "raft"}
SORTED = ("aot", "aot_unpaired")


def read(section):
    return parse("train.objective", Objective, section)


def dpo(*names: str, **changes):
    """A DPO section with these losses."""
    more = {name: {"rows": 4} if name in SORTED else {} for name in names}
    return DPO | {"loss": [{"name": name, "weight": 1.0, **more[name]} for name in names]} | changes


@pytest.mark.parametrize("section", [DPO, SIMPO, ORPO, RAFT], ids=lambda section: section["kind"])
def test_every_kind_is_read_and_says_whether_it_has_a_reference_model(section):
    found = read(section)
    assert found.kind == section["kind"]
    assert found.reference == (section["kind"] == "dpo")


def test_every_loss_that_trl_names_is_reachable():
    source = inspect.getsource(DPOTrainer._compute_loss)
    names = {*get_args(DpoLossName), *SORTED}
    assert set(re.findall(r'loss_type == "(\w+)"', source)) == names


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"beta": 0.1}, r"train\.objective\.kind is missing"),
        (RAFT | {"kind": "ppo"}, r"train\.objective\.kind: expected one of 'dpo'.*found 'ppo'"),
        (RAFT | {"beta": 0.1}, r"unknown key train\.objective\.beta"),
        (SIMPO | {"margin": -1.0}, r"train\.objective\.margin: input should be greater"),
        (SIMPO | {"beta": 0.0}, r"train\.objective\.beta"),
        (ORPO | {"weight": 0.0}, r"train\.objective\.weight"),
        ({"kind": "orpo"}, r"train\.objective\.weight is missing"),
        (
            DPO | {"divergence": "chi"},
            r"train\.objective\.divergence: input should be 'reverse_kl', .*, found 'chi'; "
            r"train\.objective\.divergence: input should be an object, found 'chi'; edit",
        ),
        (DPO | {"loss": []}, r"train\.objective\.loss"),
        (dpo("sigmoid", "sigmoid"), r"train\.objective: loss: expected each name once"),
        (dpo("kto"), r"train\.objective\.loss\.0\.name: expected one of .*'nca_pair'.*found 'kto'"),
        (
            DPO | {"loss": [{"name": "aot", "weight": 1.0}]},
            r"train\.objective\.loss\.0\.rows is missing",
        ),
        (
            DPO | {"loss": [{"name": "ipo", "weight": 1.0, "rows": 4}]},
            r"unknown key train\.objective\.loss\.0\.rows",
        ),
    ],
)
def test_a_mistake_is_told_by_the_key_in_the_file(section, said):
    with pytest.raises(UserError, match=rf"^params\.yaml: {said}"):
        read(section)


def test_the_alpha_divergence_says_where_it_lies_between_the_two_kl() -> None:
    found = read(DPO | {"divergence": {"name": "alpha_divergence", "coefficient": 0.3}})
    assert isinstance(found, Dpo)
    assert loss_arguments(found)["f_divergence_type"] == "alpha_divergence"
    assert loss_arguments(found)["f_alpha_divergence_coef"] == 0.3
    for wrong in (0.0, 1.0, None):
        with pytest.raises(UserError, match=r"train\.objective\.divergence"):
            read(DPO | {"divergence": {"name": "alpha_divergence", "coefficient": wrong}})
    with pytest.raises(UserError, match=r"expected reverse_kl with .'nca_pair'.*found alpha_divergence"):
        read(dpo("nca_pair", divergence={"name": "alpha_divergence", "coefficient": 0.3}))


def test_sft_alone_is_another_objective():
    with pytest.raises(UserError, match="another loss beside sft, found it alone; write kind: raft"):
        read(dpo("sft"))
    assert read(dpo("sigmoid", "sft")).sft == 1.0
    assert read(DPO).sft == 0


def test_exo_pair_needs_smoothing_and_says_so():
    with pytest.raises(UserError, match="label_smoothing: expected more than 0"):
        read(dpo("exo_pair"))


@pytest.mark.parametrize("name", [*get_args(DpoLossName), *SORTED])
def test_smoothing_and_divergences_are_refused_where_the_loss_ignores_them(name):
    names = ("sigmoid", "sft") if name == "sft" else (name,)
    for change, able in (({"label_smoothing": 0.1}, SMOOTHED), ({"divergence": "forward_kl"}, DIVERGENT)):
        section = dpo(*names, **({"label_smoothing": 0.1} if name == "exo_pair" else {}) | change)
        if name in able:
            assert read(section)
        else:
            with pytest.raises(UserError, match="ignore it" if "label_smoothing" in change else "reverse_kl"):
                read(section)


def test_sorted_losses_of_one_objective_sort_the_same_rows():
    found = read(dpo("aot", "aot_unpaired"))
    assert isinstance(found, Dpo) and found.sorted_rows == 4
    assert all(isinstance(term, SortedLossTerm) for term in found.loss)
    section = dpo("aot", "aot_unpaired")
    section["loss"][1]["rows"] = 2
    with pytest.raises(UserError, match="expected the same rows"):
        read(section)
    assert read(DPO).sorted_rows is None


def test_a_health_check_needs_a_limit_above_nothing():
    assert parse("train.health", Health, {"max_fall": 3.0}).max_fall == 3
    with pytest.raises(UserError, match=r"train\.health\.max_fall"):
        parse("train.health", Health, {"max_fall": 0.0})
