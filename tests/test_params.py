"""Every wrong key of params.yaml is named, with what was expected and what was found."""

import pytest
from pydantic import Field

from pipeline.errors import UserError
from pipeline.params import Params, load, read_file


class Inner(Params):
    rate: float = Field(gt=0)
    names: tuple[str, ...]


class Section(Params):
    size: int = Field(ge=1)
    inner: Inner
    limit: int | None


GOOD = "section:\n  size: 3\n  limit: null\n  inner: {rate: 5.0e-7, names: [a, b]}\n"


def written(tmp_path, text: str):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_a_section_becomes_a_frozen_object(tmp_path):
    section = load("section", Section, written(tmp_path, GOOD))
    assert section == Section(size=3, limit=None, inner=Inner(rate=5e-7, names=("a", "b")))
    with pytest.raises(ValueError, match="frozen"):
        section.size = 4


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("size: 3", "size: 3\n  sise: 4", "unknown key section.sise"),
        ("size: 3", "size: three", "section.size: input should be a valid integer, found 'three'"),
        ("size: 3", "size: 0", "section.size: input should be greater than or equal to 1, found 0"),
        ("size: 3", "size: 3.0", "section.size"),
        ("rate: 5.0e-7", "rate: .inf", "section.inner.rate: input should be a finite number, found inf"),
        ("rate: 5.0e-7", "rate: .nan", "section.inner.rate"),
        ("limit: null", "x: 1", "section.limit is missing"),
        ("rate: 5.0e-7", "rate: 'fast'", "section.inner.rate"),
        ("[a, b]", "[a, 1]", "section.inner.names.1"),
        ("section:", "sektion:", "expected the key section, found at the top level only ['sektion']"),
        ("{rate", "{{rate", "expected YAML 1.2"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, old, new, told):
    with pytest.raises(UserError) as error:
        load("section", Section, written(tmp_path, GOOD.replace(old, new)))
    assert told in str(error.value)


def test_yaml_is_read_as_dvc_reads_it(tmp_path):
    content = read_file(written(tmp_path, "a: 5e-7\nb: no\n"))
    assert content == {"a": 5e-7, "b": "no"}


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(UserError, match=r"cp recipes/quickstart\.yaml"):
        read_file(tmp_path / "params.yaml")
