"""The card of a judge: its code gives what the pipeline gives, and its bytes follow from the run alone."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import ab
from pipeline.chat import Chat
from pipeline.engines.scoring import label_probabilities, reward_scorer
from pipeline.judge_cards import judge_card, write_card
from pipeline.params import parse
from pipeline.rendering import scored_ids
from pipeline.stages.pairwise import PairwiseParams
from pipeline.stages.reward import RewardParams
from tests.engines.tiny_runs import LORA, params, run_in, train
from tests.stages.preference_rows import preference, preferences

PROMPT = [
    {"role": "user", "content": "What is  the sea?\n"},
    {"role": "assistant", "content": "Wide."},
    {"role": "user", "content": "And the wind?"},
]
PAIRS = preferences(
    *(preference(i, f"Question {i}?", f"good {i}", f"bad {i}", source="ab"[i % 2]) for i in range(5))
)
EXACT: dict[str, Any] = {"dtype": "float32", "batch_tokens": 1000, "threads": 1}
LOSS = {"center": None, "margin": None, "label_smoothing": 0.1}
SECTIONS = {
    "reward": (RewardParams, {"overflow": "drop", "loss": LOSS}),
    "pairwise": (PairwiseParams, {"max_example": 64}),
}


def made(section: str, base: Path, pairs=PAIRS) -> str:
    kind, own = SECTIONS[section]
    body = {"mix": "m", "max_pairs": None, "training": params(lora=LORA).model_dump(), **own}
    return judge_card(section, parse(section, kind, body), pairs, base)


def run_code(card: str, folder: Path, monkeypatch) -> dict[str, Any]:
    """What the code of a card defines, run beside the card."""
    monkeypatch.chdir(folder)
    ((code),) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_code_of_a_reward_model_gives_the_reward_that_the_pipeline_gives(
    tiny_model, tmp_path, monkeypatch
):
    """The base's template writes a line end after each turn, which no reward is read at."""
    run = run_in(tmp_path)
    train("reward", tiny_model, run)
    write_card(run.out, made("reward", tiny_model))
    names = run_code((run.out / "README.md").read_text(), run.out, monkeypatch)
    ids = scored_ids(Chat.load(run.out), PROMPT, "Strong, and long.", max_length=512)
    ((_, expected),) = reward_scorer(run.out, **EXACT)([ids])
    assert names["reward"](PROMPT, "Strong, and long.") == pytest.approx(expected, abs=1e-5)


def test_the_code_of_a_pairwise_model_gives_the_mean_of_both_orders(tiny_model, monkeypatch):
    chat, answers = Chat.load(tiny_model), ("Strong, and long.", "I cannot help with that.")
    orders = [ab.question_ids(chat, PROMPT, *pair, max_length=512) for pair in (answers, answers[::-1])]
    found = dict(label_probabilities(tiny_model, orders, ab.labels(chat), **EXACT))
    names = run_code(made("pairwise", tiny_model), tiny_model, monkeypatch)
    assert names["first_better"](PROMPT, *answers) == pytest.approx((found[0] + 1 - found[1]) / 2, abs=1e-5)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_card_tells_the_data_and_the_settings_and_nothing_of_the_place(section, tiny_model, tmp_path):
    card = made(section, tiny_model)
    assert "| a | 3 |" in card
    assert "| b | 2 |" in card
    assert "| all | 5 |" in card
    ((settings),) = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    assert YAML(typ="safe").load(settings)[section]["training"]["lora"]["rank"] == LORA.rank
    assert YAML(typ="safe").load(card.split("---\n")[1])["library_name"] == "transformers"
    assert str(tiny_model) not in card
    assert card == made(section, tiny_model, PAIRS.reverse())
    assert card != made(section, tiny_model, PAIRS.head(4))
