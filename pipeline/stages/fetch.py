"""Bring the raw files of a source into the project, at their pinned commit or digest.

    python -m pipeline.stages.fetch SOURCE RECIPE OUT

Three origins: a folder of the project, a folder below $PAIRMILL_DATA, or a Hub data set at a commit.
The first two are checked against the sha256 in params.yaml; a commit pins the third. OUT appears whole
or not at all. RECIPE marks a checked params.yaml: it only puts this stage after that one.
"""

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pipeline import edge
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.ids import digest_file
from pipeline.params import load
from pipeline.source_params import RawFile, Source

log = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")


def main() -> None:
    """Read the arguments and the source's section, and fetch."""
    name, _, out = edge.arguments("source", "recipe", "out")
    fetch(str(name), load(f"sources.{name}", Source), out)


def fetch(name: str, source: Source, out: Path) -> None:
    """Put every file of the source below `out`.

    UserError for a missing or wrong file, a digest that is missing, and an origin that cannot be reached.
    """
    locate = locator(name, source.origin)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for file in source.files:
            found = locate(file)
            verify(name, file, found, pinned=source.origin.startswith("hub:"))
            (partial / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, partial / file.path)
            log.info("%s: %s, %d bytes", name, file.path, found.stat().st_size)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def locator(name: str, origin: str) -> Callable[[RawFile], Path]:
    """How to find a file of this origin on this machine."""
    form, place = origin.split(":", 1)
    match form:
        case "hub":
            repository, revision = place.split("@")
            if not COMMIT.fullmatch(revision):
                raise UserError(
                    f"params.yaml: sources.{name}.origin: expected a commit of 40 hex digits after @, found "
                    f"{revision!r}; a branch or tag can move: take the commit from "
                    f"https://huggingface.co/datasets/{repository}/commits/main"
                )
            if set(revision) == {"0"}:
                raise UserError(
                    f"params.yaml: sources.{name}.origin: expected the commit to read {repository} at, found "
                    f"zeros; choose one on the set's page on the Hub and put it after the @"
                )
            return lambda file: downloaded(name, repository, revision, file.path)
        case "env":
            data = execution().data
            if data is None:
                raise UserError(
                    f"sources.{name}: its origin {origin} is below the folder of raw data, which is not set; "
                    "mend: export PAIRMILL_DATA=<folder>, or data: <folder> in exec.yaml"
                )
            return lambda file: present(name, data / place / file.path)
        case _:
            return lambda file: present(name, Path(place) / file.path)


def present(name: str, path: Path) -> Path:
    """A file of a local folder."""
    if not path.is_file():
        raise UserError(
            f"sources.{name}: expected the raw file {path}, found none; put it there, or correct "
            f"sources.{name}.origin and .files in params.yaml"
        )
    return path


def verify(name: str, file: RawFile, found: Path, *, pinned: bool) -> None:
    """Compare the digest with params.yaml; only a pinned origin may do without one."""
    if file.sha256 is None and pinned:
        return
    digest = digest_file(found)
    if file.sha256 is None:
        raise UserError(
            f"sources.{name}: {file.path} needs a digest, found null; put it into params.yaml: "
            f'{{path: {file.path}, sha256: "{digest}"}}'
        )
    if digest != file.sha256:
        raise UserError(
            f"sources.{name}: {file.path}: expected sha256 {file.sha256}, found {digest} in {found}; "
            "bring the right file, or, if the change is meant, put the found digest into params.yaml"
        )


def downloaded(name: str, repository: str, revision: str, path: str) -> Path:
    """A file of a Hub data set, in the Hub's own cache."""
    where = f"sources.{name}: hub:{repository}@{revision}"
    try:
        return Path(hf_hub_download(repository, path, repo_type="dataset", revision=revision))
    except GatedRepoError as error:
        raise UserError(f"{where} is gated; accept its terms on the Hub, then: hf auth login") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{where}: no such data set, or no access; correct the origin, or: hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{where}: no such commit in the data set; correct sources.{name}.origin") from error
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"{where}: the Hub cannot be reached and {path} is not in its cache; try again"
        ) from error
    except EntryNotFoundError as error:
        raise UserError(
            f"{where}: expected the file {path}, found none; correct sources.{name}.files"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise UserError(f"{where}: {path} could not be downloaded ({error}); try again") from error


if __name__ == "__main__":
    edge.run("fetch", main)
