"""A Llama in a GGUF file, turned into a normal checkpoint folder.

Transformers reads GGUF, but what it gives cannot be used as it is; each remedy here has its reason beside it.
"""

from pathlib import Path
from typing import Any

from pipeline.errors import UserError

DIGITS_THEN_BYTES = "smollm"
FAITHFUL_READERS = frozenset({DIGITS_THEN_BYTES, "llama-bpe", "gpt-2"})
"""Pre-tokenizers (`tokenizer.ggml.pre`) that come out right: the first by the repair below, the rest as read.
Any other is refused, since a wrong one shows only in worse text."""

READER_TRACES = (
    "_name_or_path",
    "_model_name_or_path",
    "quantization_config",
    "transformers_version",
    "unk_token_id",
    "dtype",
)
"""Keys the reader leaves in the config that tell of the file and the machine, not of the model."""


def convert_gguf(file: Path, out: Path) -> None:
    """Write the Llama in `file` to the folder `out` with bfloat16 weights, always the same bytes.

    bfloat16 because nothing is lost that the file still has: its weights lie on a grid of some sixteen values
    per block, far coarser than the eight significant bits kept, and the folder is half as large as float32.

    UserError if the file is cut short, is no Llama, or its tokenizer is not known to be read faithfully.
    """
    facts = _read_facts(file)
    tokenizer = _rebuilt_tokenizer(file, facts)
    tokenizer.save_pretrained(out)
    _rebuilt_model(file).save_pretrained(out)
    # Written 0600, which a colleague on the same machine could not read.
    (out / "model.safetensors").chmod(0o644)


def _read_facts(file: Path) -> dict[str, Any]:
    """The metadata that decides whether and how the file can be read."""
    from gguf import GGUFReader

    wanted = ("general.architecture", "tokenizer.ggml.pre", "llama.context_length")
    try:
        reader = GGUFReader(file)
        # Each tensor's view was taken by now, so a file that is cut short has already failed.
        facts = {name: reader.fields[name].contents() for name in wanted if name in reader.fields}
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(
            f"expected a whole GGUF file, found one that cannot be read ({error}): {file.name}; "
            f"mend: pin a package whose file is intact"
        ) from error
    architecture = facts.get("general.architecture")
    if architecture != "llama":
        raise UserError(
            f"expected a GGUF of architecture llama, found {architecture!r}: {file.name}; "
            f"mend: use hub: or path: with a safetensors checkpoint of this model"
        )
    pre = facts.get("tokenizer.ggml.pre")
    if pre not in FAITHFUL_READERS:
        raise UserError(
            f"expected tokenizer.ggml.pre to be one of {sorted(FAITHFUL_READERS)}, found {pre!r}: "
            f"{file.name}; mend: use hub: or path: with the model's own tokenizer.json"
        )
    return facts


def _rebuilt_tokenizer(file: Path, facts: dict[str, Any]):
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    read: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    backend = read.backend_tokenizer
    if facts["tokenizer.ggml.pre"] == DIGITS_THEN_BYTES:
        # The reader knows only ByteLevel, and drops the rule that each digit is a token of its own.
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    # A new wrapper, because the one that was read saves how and from where it was loaded.
    rebuilt = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=read.bos_token,
        eos_token=read.eos_token,
        unk_token=read.unk_token,
        pad_token=read.pad_token,
        model_max_length=facts["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )
    rebuilt.chat_template = read.chat_template
    return rebuilt


def _rebuilt_model(file: Path):
    """The weights in a fresh model: transformers refuses to save one that it has read from a GGUF."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    read = LlamaForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    kept = {key: value for key, value in read.config.to_dict().items() if key not in READER_TRACES}
    config = LlamaConfig(**kept, dtype="bfloat16")
    with torch.device("meta"):  # spares drawing random weights that are overwritten
        model = LlamaForCausalLM(config)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in read.state_dict().items()}
    model.load_state_dict(weights, strict=True, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    return model
