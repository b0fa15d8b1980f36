"""The sha256 of large files, each read once: `<state>/digests.json` remembers them by size, time and inode.

The weights of a large model take a minute to read, and every stage that asks the row store needs their
digest. A file that was changed within the last seconds is not remembered: a second change within one tick
of the clock of the file system could go unseen.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from pipeline.execution import execution
from pipeline.ids import digest_file

SMALL_BYTES = 16 << 20
"""Files below this are read each time."""
SETTLED_SECONDS = 5.0
"""Time since the last change after which a digest may be remembered."""


def file_digest(path: Path, small: int = SMALL_BYTES) -> str:
    """sha256 of a file, as 64 hex digits."""
    before = path.stat()
    if before.st_size < small:
        return digest_file(path)
    name, state = str(path.resolve()), [before.st_size, before.st_mtime_ns, before.st_ino]
    known = remembered().get(name)
    if isinstance(known, list) and known[:-1] == state and isinstance(known[-1], str):
        return known[-1]
    digest = digest_file(path)
    if time.time() - before.st_mtime > SETTLED_SECONDS:
        remember(name, [*state, digest])
    return digest


def remembered() -> dict[str, Any]:
    """What is remembered; nothing where the file is absent or damaged."""
    try:
        found = json.loads((execution().state / "digests.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(name: str, state: list[Any]) -> None:
    """Add a file. Of two processes that do so at once one may be forgotten, and is read again."""
    path = execution().state / "digests.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"digests.{os.getpid()}.partial")
    partial.write_text(json.dumps(remembered() | {name: state}, indent=1), encoding="utf-8")
    partial.replace(path)
