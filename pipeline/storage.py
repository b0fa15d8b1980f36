"""Files below a folder or an fsspec URL, written whole or not at all; a failure is one line."""

import os
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from pipeline.errors import UserError

#: Where a file appears only when its upload is complete, and a move would be a copy.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss"})
#: Where a move is one step of the file system. In others fsspec may copy and then remove: a killed writer
#: would leave a part of a file under a name that promises the whole.
RENAMING = frozenset({"file", "local", "memory", "sftp", "ssh", "hdfs"})
PARTIAL = ".partial"


class Storage:
    """Files by their path below one folder or URL. Any of its methods may raise UserError: the place
    cannot be reached, may not be read or written, or is full. So does making one, for a URL of a file system
    that may show a part of a file."""

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        protocol = get_protocol(self.url)
        if protocol not in RENAMING | OBJECT_STORES:
            raise UserError(
                f"the row store {self.url}: expected a folder or a URL of {', '.join(sorted(RENAMING))}, "
                f"{', '.join(sorted(OBJECT_STORES))}, where a file appears whole or not at all, found "
                f"{protocol}; name another place in exec.store (PAIRMILL_STORE)"
            )
        self.whole_uploads = protocol in OBJECT_STORES
        # Other machines write here, too: a listing that was kept would hide what they wrote. What is no
        # object store keeps none, and may hand on options that it does not know.
        options = {"use_listings_cache": False} if self.whole_uploads else {}
        self.fs: Any
        with self.told("open", ""):
            self.fs, self.root = fsspec.core.url_to_fs(self.url, **options)
        self.local = isinstance(self.fs, LocalFileSystem)

    def files(self, folder: str) -> dict[str, int]:
        """Size in bytes by path of the files in a folder, in order; none where there is no such folder."""
        listed = self.listed(folder)
        return {path: entry["size"] for path, entry in listed.items() if entry["type"] == "file"}

    def folders(self, folder: str) -> list[str]:
        """The paths of the folders in a folder, in order."""
        return [path for path, entry in self.listed(folder).items() if entry["type"] == "directory"]

    def listed(self, folder: str) -> dict[str, dict[str, Any]]:
        """What fsspec says of each entry of a folder, by path."""
        entries: list[dict[str, Any]] = []
        with self.told("list", folder), suppress(FileNotFoundError):
            self.fs.invalidate_cache()
            entries = self.fs.ls(self.full(folder), detail=True)
        names = {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}
        return {f"{folder}/{name}".lstrip("/"): names[name] for name in sorted(names)}

    def read(self, path: str, start: int = 0) -> bytes | None:
        """The bytes of a file, `start` and after; None where there is no such file (any more)."""
        with self.told("read", path), suppress(FileNotFoundError):
            return self.fs.cat_file(self.full(path), start=start or None)
        return None

    def write(self, path: str, content: bytes) -> None:
        """Write a file so that no reader sees a part of it, whenever this process is killed."""
        with self.told("write", path):
            if self.whole_uploads:
                self.fs.pipe_file(self.full(path), content)
                return
            partial = (
                f"{self.full(path).rpartition('/')[0]}/{stamp(time.time_ns())}-{uuid.uuid4().hex}{PARTIAL}"
            )
            try:
                self.write_through(partial, content)
                self.move(partial, self.full(path))
            except BaseException:
                with suppress(OSError):  # a full disk needs the room; what a kill leaves, `keep` removes
                    self.fs.rm_file(partial)
                raise

    def write_through(self, path: str, content: bytes) -> None:
        """Write a file down to the disk; its folder is made where there is none."""
        try:
            file = self.fs.open(path, "wb")
        except FileNotFoundError:
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            file = self.fs.open(path, "wb")
        with file:
            file.write(content)
            if self.local:
                file.flush()
                os.fsync(file.fileno())

    def move(self, path: str, to: str) -> None:
        """Rename; unlike fsspec's own move, which copies where a local rename fails."""
        if self.local:
            Path(path).replace(to)
        else:
            self.fs.mv(path, to)

    def set_aside(self, path: str, name: str) -> None:
        """Rename a file, if nobody else has done so."""
        with self.told("rename", path), suppress(FileNotFoundError):
            self.move(self.full(path), self.full(name))

    def remove(self, path: str) -> None:
        """Remove a file, if nobody else has done so, and its folder, if that is empty now."""
        with self.told("remove", path), suppress(FileNotFoundError):
            self.fs.rm_file(self.full(path))
        if self.local:
            with suppress(OSError):
                Path(self.full(path)).parent.rmdir()

    def full(self, path: str) -> str:
        """The path as the file system knows it."""
        return f"{self.root.rstrip('/')}/{path}" if path else self.root

    @contextmanager
    def told(self, verb: str, path: str) -> Generator[None]:
        """Turn whatever a file system raises into one line."""
        try:
            yield
        except Exception as error:
            what = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"the row store {self.url}: expected to {verb} {path or 'it'}, found: {what}; "
                "mend that, or name another place in exec.store (PAIRMILL_STORE)"
            ) from error


def stamp(nanoseconds: int) -> str:
    """A time such that names which begin with it sort by it."""
    return f"{nanoseconds:016x}"
