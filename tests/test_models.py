"""The identity of a model: its weights and its tokenizer, each by itself, and nothing else in its folder."""

import shutil

import pytest

from pipeline.errors import UserError
from pipeline.models import model_digest, model_identity


@pytest.fixture
def model(tiny_model, own_state, tmp_path):
    """A model folder of its own, and how to read its identity anew."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def identity(folder) -> dict[str, str]:
    model_identity.cache_clear()
    return model_identity(folder)


def append(path, text: str = "\n") -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "notes/card.json"])
def test_papers_beside_a_model_change_nothing(model, name):
    before = identity(model)
    (model / name).parent.mkdir(exist_ok=True)
    append(model / name, "A card.")
    assert identity(model) == before


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_a_change_of_tokenizer_or_template_is_one_of_the_tokenizer_alone(model, name):
    before = identity(model)
    append(model / name)
    after = identity(model)
    assert after["weights"] == before["weights"]
    assert after["tokenizer"] != before["tokenizer"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model-00002-of-00002.safetensors"])
def test_a_change_of_weights_or_their_shape_is_one_of_the_weights_alone(model, name):
    before = identity(model)
    append(model / name)
    after = identity(model)
    assert after["weights"] != before["weights"]
    assert after["tokenizer"] == before["tokenizer"]


def test_the_place_of_a_folder_is_no_part_of_it(model, tmp_path):
    assert identity(shutil.copytree(model, tmp_path / "elsewhere")) == identity(model)


def test_a_template_that_is_gone_is_another_tokenizer(model):
    before = identity(model)
    (model / "chat_template.jinja").unlink()
    assert identity(model)["tokenizer"] != before["tokenizer"]


def test_a_folder_without_a_model_is_told(tmp_path, own_state):
    (tmp_path / "stray.safetensors").touch()
    with pytest.raises(UserError, match=r"expected a model \(config.json\), found none"):
        identity(tmp_path)


def test_the_digest_of_a_folder_covers_its_papers(model):
    model_digest.cache_clear()
    before = model_digest(model)
    append(model / "README.md", "A card.")
    model_digest.cache_clear()
    assert model_digest(model) != before
