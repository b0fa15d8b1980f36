"""Random models of a given shape, for speed alone: written shard by shard, without a network.

Weights are drawn on the device in bfloat16. The tokenizer is that of the tiny models; its vocabulary is a
part of the model's, and token ids beyond it decode to nothing.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from pipeline.engines.tiny_models import tiny_random

SHARD_BYTES = 2**31
INDEX = "model.safetensors.index.json"

SHAPES: dict[str, dict[str, int]] = {
    # Llama-3-8B
    "8b": {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
    },
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 1024,
    },
}


def random_policy(folder: Path, shape: str, device: str) -> None:
    """Write a causal model of this shape to `folder`."""
    tiny_random(folder, "llama3")
    (folder / "model.safetensors").unlink()
    write(folder, LlamaForCausalLM, config(folder, shape), device)


def random_reward_model(folder: Path, policy: Path, shape: str, device: str) -> None:
    """Write a model with one output on the layers of `policy`, whose files it links to."""
    folder.mkdir(parents=True)
    for path in policy.iterdir():
        if path.name not in ("config.json", "generation_config.json", INDEX):
            (folder / path.name).symlink_to(path.resolve())
    write(folder, LlamaForSequenceClassification, config(policy, shape) | {"num_labels": 1}, device)


def config(folder: Path, shape: str) -> dict[str, Any]:
    """The settings of a model of this shape with the tokenizer in `folder`."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ends = tokenizer.eos_token_id
    return {
        **SHAPES[shape],
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends,
        "pad_token_id": ends,
        "dtype": "bfloat16",
    }


def write(folder: Path, kind: type, settings: dict[str, Any], device: str) -> None:
    """Draw the weights that are not there yet, and write the configuration and the index."""
    with torch.device("meta"):
        model: Any = kind(LlamaConfig(**settings))
    model.config.architectures = [kind.__name__]
    model.config.save_pretrained(folder)
    generator = torch.Generator(device).manual_seed(0)
    places: dict[str, str] = {}
    for i, shard in enumerate(shards(model.state_dict())):
        # The output layer has a file of its own; the files before it are the same for both kinds.
        name = f"model-{i:05}.safetensors" if next(iter(shard)).startswith("model.") else "head.safetensors"
        path = folder / name
        if name == "head.safetensors":
            path.unlink(missing_ok=True)
        if not path.exists():
            drawn = {key: weights(key, tensor.shape, generator) for key, tensor in shard.items()}
            save_file(drawn, path, {"format": "pt"})
        places |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": 2 * parameters(model.state_dict())}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def shards(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Parts of a state of at most `SHARD_BYTES` in bfloat16; the output layer is a part of its own."""
    part: dict[str, Any] = {}
    for name, tensor in state.items():
        if part and (2 * (parameters(part) + tensor.numel()) > SHARD_BYTES or not name.startswith("model.")):
            yield part
            part = {}
        part[name] = tensor
    yield part


def parameters(state: dict[str, Any]) -> int:
    """Numbers in a state."""
    return sum(tensor.numel() for tensor in state.values())


def weights(name: str, shape: Any, generator: torch.Generator) -> torch.Tensor:
    """Weights that keep states of a usual size from layer to layer."""
    if name.endswith("norm.weight"):
        return torch.ones(shape, dtype=torch.bfloat16)
    drawn = torch.empty(shape, dtype=torch.bfloat16, device=generator.device)
    return drawn.normal_(0, 0.02, generator=generator).cpu()
