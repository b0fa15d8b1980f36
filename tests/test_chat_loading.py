"""Loading a renderer costs no torch where none is needed, and gives what transformers itself would load."""

import json
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from pipeline.chat import Chat, load_tokenizer
from pipeline.engines.tiny_models import tiny_random

TEMPLATES = ("smollm2", "llama3")
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " caf\u00e9 <|im_end|><|eot_id|> 12\n"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "why?"},
]


@pytest.fixture(scope="module", params=TEMPLATES)
def folder(request, tmp_path_factory):
    model = tmp_path_factory.mktemp("model") / request.param
    tiny_random(model, request.param)
    return model


def test_a_plain_tokenizer_is_the_one_that_transformers_would_load(folder):
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert type(ours) is type(theirs)
    assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    assert ours.init_kwargs == theirs.init_kwargs
    assert ours.chat_template == theirs.chat_template
    assert ours.special_tokens_map == theirs.special_tokens_map
    digest = Chat.load(folder).digest
    for messages in (MESSAGES[1:2], MESSAGES):
        assert Chat(ours, digest).prompt_ids(messages) == Chat(theirs, digest).prompt_ids(messages)
    assert Chat(ours, digest).stop_ids == Chat(theirs, digest).stop_ids


@pytest.mark.parametrize(
    "change", [{"tokenizer_class": "GPT2Tokenizer"}, {"auto_map": {"AutoTokenizer": ["x", None]}}]
)
def test_any_other_tokenizer_is_left_to_transformers(folder, tmp_path, monkeypatch, change):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | change))
    asked = []
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda path: asked.append(path))
    load_tokenizer(tmp_path)
    assert asked == [tmp_path]


def test_rendering_does_not_import_torch(folder):
    program = (
        "import sys; from pathlib import Path; from pipeline.chat import Chat; "
        f"Chat.load(Path({str(folder)!r})).prompt_ids([dict(role='user', content='x')]); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_folders_with_the_same_files_share_a_renderer(tmp_path):
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    for folder in (one, two, other):
        tiny_random(folder, "smollm2")
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + "!")
    assert Chat.load(one) is Chat.load(two)
    assert (
        Chat.load(other).text([{"role": "user", "content": "x"}], add_generation_prompt=False).endswith("!")
    )
    assert (
        not Chat.load(one).text([{"role": "user", "content": "x"}], add_generation_prompt=False).endswith("!")
    )
