"""The reference model of DPO: exact values, computed once for all runs that ask for them."""

import math

import polars as pl
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from pipeline.engines import reference
from pipeline.engines.reference import ReferenceWork, answers, referenced, trl_log_probs
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.objectives import REFERENCE_LOGPS
from tests.engines.tiny_runs import rows

PAIRS = rows("dpo", 9)


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """How many answers each loaded reference model was asked for."""
    calls: list[int] = []

    def listening(*arguments):
        measured = trl_log_probs(*arguments)

        def measure(asks):
            calls.append(len(asks))
            return measured(asks)

        return measure

    monkeypatch.setattr(reference, "trl_log_probs", listening)
    return calls


@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_values_are_those_of_the_model_whatever_shares_the_batch(tiny_model, batch_tokens):
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    asks = answers(PAIRS)
    found = dict(trl_log_probs(tiny_model, "float32", batch_tokens)(asks))
    for i, (prompt, answer) in enumerate(asks):
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        picked = logits.log_softmax(-1).gather(-1, torch.tensor(answer)[:, None])
        assert found[i] == pytest.approx(picked.sum().item(), abs=1e-4)


def test_each_pair_gets_the_values_of_its_own_answers(tiny_model, own_state):
    found = referenced(tiny_model, PAIRS, "float32")
    assert found.select(PAIRS.columns).equals(PAIRS)
    for row in range(PAIRS.height):
        alone = dict(trl_log_probs(tiny_model, "float32", 1)(answers(PAIRS[row])))
        values = found.select("ref_chosen_logps", "ref_rejected_logps").row(row)
        assert values == pytest.approx((alone[0], alone[1]), abs=1e-4)
    assert found.schema["ref_chosen_logps"] == found.schema["ref_rejected_logps"] == pl.Float32


def test_an_answer_is_measured_once_for_all_pairs_and_runs(tiny_model, own_state, computed):
    first = referenced(tiny_model, PAIRS[:6], "float32")
    assert referenced(tiny_model, PAIRS[:6], "float32").equals(first)
    assert computed == [12]
    more = pl.concat([PAIRS.reverse(), PAIRS[2:5]])
    assert referenced(tiny_model, more, "float32").sort("prompt_ids").height == 12
    assert computed == [12, 6]


def test_another_model_or_precision_is_another_value(tiny_model, tmp_path, own_state, computed):
    other = tmp_path / "other"
    tiny_random(other, "smollm2", seed=9)
    found = [
        referenced(*how)
        for how in (
            (tiny_model, PAIRS, "float32"),
            (other, PAIRS, "float32"),
            (tiny_model, PAIRS, "bfloat16"),
        )
    ]
    assert computed == [18, 18, 18]
    assert len({tuple(frame["ref_chosen_logps"]) for frame in found}) == 3


def test_values_are_those_that_trl_computes_while_it_trains(tiny_model, tmp_path, own_state):
    """TRL's trainer with two models in memory, on the batches of a step, against the stored numbers."""
    other = tmp_path / "other"
    tiny_random(other, "smollm2", seed=9)
    given = referenced(other, PAIRS, "float32")

    class Given(DPOTrainer):
        def _prepare_dataset(self, dataset, *_):
            return dataset

    arguments = DPOConfig(str(tmp_path / "out"), max_length=None, use_cpu=True, bf16=False, report_to="none")
    policy, frozen = (AutoModelForCausalLM.from_pretrained(model) for model in (tiny_model, other))
    trainer = Given(
        policy,
        ref_model=frozen,
        args=arguments,
        train_dataset=Dataset(PAIRS.to_arrow()),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )
    seen = 0
    for first in range(0, PAIRS.height, 4):
        rows = PAIRS[first : first + 4]
        batch = trainer.data_collator(rows.to_dicts())
        for side, values in zip(REFERENCE_LOGPS, trainer.compute_ref_log_probs(frozen, batch), strict=True):
            ours = given[side][first : first + rows.height].to_list()
            assert values.tolist() == pytest.approx(ours, abs=1e-4)
            seen += len(ours)
    assert seen == 2 * PAIRS.height


def test_a_run_without_pairs_asks_nothing(tiny_model, own_state, computed):
    assert referenced(tiny_model, PAIRS.clear(), "float32").is_empty()
    assert computed == []


def test_a_damaged_model_is_told_and_its_values_are_not_stored(tiny_model, tmp_path, own_state):
    broken = tmp_path / "broken"
    tiny_random(broken, "smollm2")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][:] = math.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="expected finite numbers from the model, found nan"):
        referenced(broken, PAIRS, "float32")
    assert not list(own_state.glob("store/**/*.parquet"))


def test_the_batch_is_no_part_of_the_set(tiny_model, own_state, monkeypatch):
    monkeypatch.setenv("PAIRMILL_SCORE_BATCH_TOKENS", "7")
    identity = dict(ReferenceWork(tiny_model, "trl", "float32").cells.identity)
    assert set(identity) == {"weights", "tokenizer", "engine", "dtype"}
