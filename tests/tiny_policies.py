"""A tiny policy that real servers and engines can be compared with."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from pipeline.chat import Chat
from pipeline.engines.tiny_models import tiny_random


def decided(folder: Path) -> None:
    """Write a model whose distribution is not nearly uniform, and which likes to end its turn."""
    tiny_random(folder, "llama3", head_dim=32)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)
        network.lm_head.weight[Chat.load(folder).end_of_turn] *= 2
    network.save_pretrained(folder)
