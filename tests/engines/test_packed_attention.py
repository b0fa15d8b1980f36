"""No attention crosses documents: the logits of a training step, packed and alone.

Demonstrations and preferences go the whole way: renderer, packing, and TRL's trainer as `train_sft` sets it
up, whose first step is overheard. Each document is then read alone by the same weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from pipeline import tables
from pipeline.chat import Chat
from pipeline.engines import fitting, trainers
from pipeline.engines.tiny_models import tiny_random
from pipeline.ids import content_id
from pipeline.ledger import Ledger
from pipeline.packing import pack
from pipeline.schemas import BLOCKS, SFT_MIX
from pipeline.stages.pack import PackParams, packed
from pipeline.stages.pairwise import examples
from tests.engines.tiny_runs import params, run_in
from tests.stages.preference_rows import assistant, preference, preferences, user

MODELS = ("smollm2", "llama3", "smollm2 of full width")
ATTENTION = ("sdpa", "eager")


@dataclass
class Overheard:
    """What the forward passes of a training run read and gave."""

    ids: list[torch.Tensor] = field(default_factory=list)
    positions: list[torch.Tensor] = field(default_factory=list)
    logits: list[torch.Tensor] = field(default_factory=list)

    def documents(self) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Token ids and logits between the places where positions begin again."""
        for ids, positions, logits in zip(self.ids, self.positions, self.logits, strict=True):
            starts = (positions[0] == 0).nonzero().flatten().tolist()
            for first, end in zip(starts, [*starts[1:], ids.shape[1]], strict=True):
                yield ids[0, first:end].tolist(), logits[0, first:end]


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory) -> Path:
    """A random model, with weights so large that every token it attends to shows in the logits."""
    folder = tmp_path_factory.mktemp("model")
    tiny_random(folder, "llama3" if request.param == "llama3" else "smollm2")
    if request.param == "smollm2 of full width":
        LlamaForCausalLM(full_width(len(Chat.load(folder).tokenizer))).save_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if "_proj" in name:
                torch.nn.init.normal_(
                    weights, 0, 2 / weights.shape[1] ** 0.5, torch.Generator().manual_seed(3)
                )
    network.save_pretrained(folder)
    return folder


def full_width(vocabulary: int) -> LlamaConfig:
    """SmolLM2-135M with two layers and a small vocabulary."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=2,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )


def overhear(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    base: Path,
    blocks: pl.DataFrame,
    attention: str,
    block: int,
) -> Overheard:
    """Train one step on `blocks`, all of them, and give back its forward passes."""
    heard, load = Overheard(), fitting.load_language_model

    def listening(path: Path) -> Any:
        network = load(path)
        network.set_attn_implementation(attention)
        head = network.get_output_embeddings().weight.detach().clone()
        network.model.embed_tokens.register_forward_pre_hook(lambda _, given: heard.ids.append(given[0]))
        network.model.rotary_emb.register_forward_pre_hook(
            lambda _, given, named: heard.positions.append(named["position_ids"]), with_kwargs=True
        )
        network.model.norm.register_forward_hook(
            lambda _, given, out: heard.logits.append((out @ head.T).detach())
        )
        return network

    monkeypatch.setattr(fitting, "load_language_model", listening)
    settings = params(epochs=1.0, global_batch=blocks.height, max_length=block)
    trainers.train_sft(base, blocks, settings, run_in(folder / "run", micro_batch=2))
    return heard


def largest_difference(heard: Overheard, base: Path, attention: str) -> float:
    """The largest difference of a logit of a packed document from the same document's alone."""
    network = AutoModelForCausalLM.from_pretrained(base, attn_implementation=attention).eval()
    differences = []
    with torch.no_grad():
        for ids, logits in heard.documents():
            alone = network(torch.tensor([ids]), use_cache=False).logits[0]
            differences.append((alone - logits).abs().max().item())
    return max(differences)


def demonstrations() -> pl.DataFrame:
    rows = []
    for i in range(12):
        messages = user(f"question {i} " * (i % 5 + 1)) + assistant("because " * (3 * i % 11 + 1))
        messages += (user("and then?") + assistant(f"{i} more")) * (i % 3)
        rows.append(
            {
                "source": "s",
                "file": "f",
                "row": i,
                "item": 0,
                "id": content_id(str(i)),
                "messages": messages,
            }
        )
    return pl.DataFrame(rows, schema=SFT_MIX.schema).sort("id")


def demonstration_blocks(base: Path, folder: Path, block: int) -> pl.DataFrame:
    rows = iter([demonstrations()])
    packed(rows, Chat.load(base), PackParams(block=block, overflow="split"), folder, Ledger("pack", "d"))
    return tables.read(BLOCKS, folder / "blocks.parquet").drop("block")


@pytest.mark.parametrize("attention", ATTENTION)
def test_a_packed_demonstration_has_the_logits_it_has_alone(model, attention, tmp_path, monkeypatch):
    blocks = demonstration_blocks(model, tmp_path / "packed", 384)
    assert blocks["seq_lengths"].list.len().max() > 2
    heard = overhear(monkeypatch, tmp_path, model, blocks, attention, 384)
    documents = sorted(ids for ids, _ in heard.documents())
    chat = Chat.load(model)
    assert documents == sorted(
        ids[first : first + 384]
        for ids, _ in map(chat.conversation, demonstrations()["messages"].to_list())
        for first in range(0, len(ids), 384)
    )
    assert largest_difference(heard, model, attention) < 1e-3


@pytest.mark.parametrize("model", ["smollm2"], indirect=True)
@pytest.mark.parametrize("attention", ATTENTION)
def test_without_boundaries_the_logits_would_differ(model, attention, tmp_path, monkeypatch):
    """The comparison can fail: the same blocks, each trained as one document, read document by document."""
    blocks = demonstration_blocks(model, tmp_path / "packed", 384)
    joined = blocks.with_columns(seq_lengths=pl.concat_list(pl.col("seq_lengths").list.sum()))
    heard = overhear(monkeypatch, tmp_path, model, joined, attention, 384)
    lengths = {tuple(ids): sizes for ids, sizes in blocks.select("input_ids", "seq_lengths").rows()}
    for place, ids in enumerate(heard.ids):
        rows = [ids_of_row for ids_of_row, _ in Overheard([ids], [heard.positions[place]], [ids]).documents()]
        sizes = [size for row in rows for size in lengths[tuple(row)]]
        heard.positions[place] = torch.cat([torch.arange(size) for size in sizes])[None]
    assert largest_difference(heard, model, attention) > 0.1


@pytest.mark.parametrize("model", ["smollm2"], indirect=True)
def test_a_packed_comparison_of_3072_has_the_logits_it_has_alone(model, tmp_path, monkeypatch):
    pairs = preferences(
        *(preference(i, f"question {i} " * (i % 7 + 1), f"good {i}", f"bad {i}") for i in range(40))
    )
    rows, _ = examples(pairs, Chat.load(model), 3072)
    blocks, drops = pack(rows, 3072, "drop")
    assert drops.is_empty()
    assert blocks["seq_lengths"].list.len().max() > 9
    heard = overhear(monkeypatch, tmp_path, model, blocks, "sdpa", 3072)
    assert sorted(ids for ids, _ in heard.documents()) == sorted(rows["input_ids"].to_list())
    assert largest_difference(heard, model, "sdpa") < 1e-3
