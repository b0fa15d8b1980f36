"""Checkpoints that can be trusted after a kill: sealed when complete, verified before use."""

import json
import logging
import re
import shutil
from pathlib import Path

from pipeline.ids import digest_file

log = logging.getLogger(__name__)

SEAL = "complete.json"
IDENTITY = "identity.json"


def seal(folder: Path) -> None:
    """Record size and sha256 of every file, also in subfolders; without this record it is not complete."""
    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, digest_file(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    partial = folder / f"{SEAL}.partial"
    partial.write_text(json.dumps(files, indent=1), encoding="utf-8")
    partial.replace(folder / SEAL)


def intact(folder: Path) -> bool:
    """Whether every file is there as it was when the checkpoint was sealed."""
    try:
        files = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        return all(
            (folder / name).stat().st_size == size and digest_file(folder / name) == digest
            for name, (size, digest) in files.items()
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def newest(folder: Path) -> Path | None:
    """The last intact checkpoint below `folder`, or None; damaged ones are removed with a warning."""
    found = [
        (int(path.name.rpartition("-")[2]), path) for path in folder.glob("checkpoint-*") if numbered(path)
    ]
    for step, path in sorted(found, reverse=True):
        if intact(path):
            return path
        log.warning("the checkpoint of step %d is damaged or incomplete; going back to the one before", step)
        shutil.rmtree(path)
    if found:
        log.warning("no checkpoint is intact; starting anew")
    return None


def numbered(path: Path) -> bool:
    """Whether the folder is named as the trainer names them."""
    return re.fullmatch(r"checkpoint-\d+", path.name) is not None and path.is_dir()


def claim(folder: Path, identity: str) -> None:
    """Make `folder` the place of one run; checkpoints of another identity are removed with a warning."""
    record = folder / IDENTITY
    if folder.exists() and (not record.exists() or record.read_text(encoding="utf-8") != identity):
        log.warning("the checkpoints in %s belong to other settings or rows; starting anew", folder.name)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(identity, encoding="utf-8")
