"""LoRA: small matrices beside the linear layers are trained, and added to them when a model is saved.

A weight W becomes W + alpha / rank * B A (arXiv 2106.09685). B begins as 0, so training begins at the base
model. What a run saves is always the sum, under the names of the base model: who loads it needs no peft.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import UserError
from pipeline.training import Lora, Run

#: Before each name of the weights of the base model, once it is wrapped.
WRAPPED = "base_model.model."
ADAPTER = "default"


def lora_config(model: Any, lora: Lora | None, run: Run) -> Any:
    """What peft puts beside which layers of a model, or None; UserError for targets that it has not.

    The score head of a classifier begins as noise, so it is trained whole.
    """
    if lora is None:
        return None
    from peft import LoraConfig

    scores = hasattr(model, "score")
    targets = "all-linear" if lora.targets == "all-linear" else list(lora.targets)
    if lora.targets != "all-linear":
        check_targets(model, lora.targets, run)
    return LoraConfig(
        task_type="SEQ_CLS" if scores else "CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        modules_to_save=["score"] if scores else None,
    )


def check_targets(model: Any, targets: tuple[str, ...], run: Run) -> None:
    """UserError unless each target ends the name of a linear layer of the backbone."""
    from torch.nn import Linear

    head = getattr(model, "score", None) or model.get_output_embeddings()
    linear = [
        name for name, layer in model.named_modules() if isinstance(layer, Linear) and layer is not head
    ]
    unknown = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in linear)]
    if unknown:
        known = sorted({name.rpartition(".")[2] for name in linear})
        raise UserError(
            f"{run.title}.training.lora.targets: expected all-linear or names among {known}, which are the "
            f"linear layers of the backbone ({model.config.model_type}), found {unknown}"
        )


def merged(state: Mapping[str, Any], lora: Any) -> dict[str, Any]:
    """The weights of a wrapped model under the names of the base model, each adapter added to its layer.

    `state` stays as it is: a run that keeps a model on the way goes on from the same numbers.
    """
    plain = {}
    for name, tensor in state.items():
        layer, _, kind = name.removeprefix(WRAPPED).rpartition(".")
        if ".lora_" in name or layer.endswith(".original_module"):
            continue
        layer = layer.removesuffix(f".modules_to_save.{ADAPTER}")
        if layer.endswith(".base_layer"):
            layer = layer.removesuffix(".base_layer")
            if kind == "weight":
                a, b = (state[f"{WRAPPED}{layer}.lora_{side}.{ADAPTER}.weight"] for side in "AB")
                tensor = tensor + (b @ a) * (lora.lora_alpha / lora.r)
        plain[f"{layer}.{kind}"] = tensor
    return plain
