"""Model folders: loading for training, and saving so that nothing of the run is left in them."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.engines.adapters import ADAPTER, merged
from pipeline.errors import UserError
from pipeline.training import Run, TrainingParams

#: What a tokenizer may consist of, besides its template.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder; a missing pad token is its EOS, as in TRL."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_language_model(folder: Path) -> Any:
    """The causal language model of a folder, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


def load_reward_model(folder: Path, seed: int) -> Any:
    """A sequence classifier with one output, in float32; a head that `folder` lacks is drawn with `seed`."""
    import torch
    from transformers import AutoModelForSequenceClassification, set_seed
    from trl.trainer.reward_trainer import suppress_seqcls_warning

    set_seed(seed)
    with suppress_seqcls_warning():
        return AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", num_labels=1
        )


def freeze(model: Any, params: TrainingParams, run: Run) -> None:
    """Leave only those layers trainable that the params say; UserError where the model has them not."""
    wanted = params.train_layers
    if wanted == "all":
        return
    head = getattr(model, "score", None) or model.get_output_embeddings()
    separate = head is not None and head.weight is not model.get_input_embeddings().weight
    if wanted == "head" and not separate:
        raise UserError(
            f"{run.title}.train_layers: expected a model whose output layer is separate, found one "
            f"tied to the input embeddings ({model.config.model_type}); set {run.title}.train_layers to all"
        )
    layers = getattr(model.base_model, "layers", [])
    if wanted != "head" and len(layers) < wanted:
        raise UserError(
            f"{run.title}.train_layers: expected at most the {len(layers)} layers of the model "
            f"({model.config.model_type}), found {wanted}"
        )
    model.requires_grad_(False)
    trained = [] if wanted == "head" else [*layers[-wanted:], model.base_model.norm]
    for layer in [*trained, *([head] if separate else [])]:
        layer.requires_grad_(True)


def padding_token(tokenizer: Any, model: Any, ends: set[int]) -> str:
    """A token to pad reward rows with that ends none of them.

    A sequence classifier reads the last token that is not padding. If the token that ends an answer
    is the padding (pad == EOS), it reads another position than at the end of turn, or the same one
    for chosen and rejected (reported to the RLHF-Reward-Modeling project).
    ends: the last ids of all rows. UserError if the vocabulary has no special token left.
    """
    stops = (
        getattr(model.generation_config, "eos_token_id", None)
        if hasattr(model, "generation_config")
        else None
    )
    stops = {*(stops if isinstance(stops, list) else [stops]), tokenizer.eos_token_id, *ends}
    special = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))

    def preference(i: int) -> tuple[bool, bool, bool, int]:
        return i != tokenizer.pad_token_id, i == tokenizer.bos_token_id, "pad" not in special[i].lower(), i

    fit = [i for i in sorted(special, key=preference) if i not in stops and i < model.config.vocab_size]
    if not fit:
        raise UserError(
            f"the tokenizer of the base model: expected a special token to pad with that ends no answer, "
            f"found only {sorted(special.values())}; add a pad token to the base model"
        )
    return special[fit[0]]


def reward_padding(rows: pl.DataFrame, tokenizer: Any, model: Any) -> str:
    """The `padding_token` of pairs (chosen_ids, rejected_ids)."""
    ends = pl.concat([rows["chosen_ids"].list.last(), rows["rejected_ids"].list.last()])
    return padding_token(tokenizer, model, set(ends.unique().to_list()))


def save_trained(trainer: Any, base: Path, out: Path, pad_token: str | None = None) -> None:
    """`save` the model of a trainer: every process must call this, for each has a part; the first writes.

    Adapters are added to the weights beside which they were trained.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    lora = getattr(model, "peft_config", {}).get(ADAPTER)
    if trainer.args.world_size == 1 and lora is None:
        save(model, base, out, pad_token)
        return
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.args.should_save:
        if lora is not None:
            model, state = model.get_base_model(), merged(state, lora)
        # Put together from parts, tied weights are no longer one tensor, and would be written twice.
        state = {name: tensor for name, tensor in state.items() if name not in model.all_tied_weights_keys}
        save(model, base, out, pad_token, state)


def save(model: Any, base: Path, out: Path, pad_token: str | None = None, state: Any = None) -> None:
    """Write the model and the tokenizer of `base` to `out`, replacing it.

    The files hold weights and settings only: no paths, no clocks, no optimiser. `pad_token`, if
    given, becomes the tokenizer's, so that a batch is padded with what the model skips. `state`, if
    given, are the weights, where the model itself has only a part of them.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    model.save_pretrained(out, state_dict=state)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    before = json.loads((base / "config.json").read_text(encoding="utf-8"))
    # The trainer turns the cache off in the config; generation from the saved model needs it.
    for name in ("_name_or_path", "use_cache"):
        config.pop(name, None)
    config |= {name: before[name] for name in ("use_cache",) if name in before}
    write_json(out / "config.json", config)
    (out / "generation_config.json").unlink(missing_ok=True)
    causal = hasattr(model, "generation_config") and model.can_generate()
    for name in (*TOKENIZER_FILES, *(["generation_config.json"] if causal else [])):
        if (base / name).exists():
            shutil.copyfile(base / name, out / name)
    if (base / "additional_chat_templates").is_dir():
        shutil.copytree(base / "additional_chat_templates", out / "additional_chat_templates")
    if pad_token is not None:
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            if (out / name).exists():
                write_json(out / name, json.loads((out / name).read_text("utf-8")) | {"pad_token": pad_token})
    for path in out.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """JSON with sorted keys, as transformers writes it."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
