"""The repositories of the stand-in Hub: commits as whole trees in memory, and how the Hub describes them."""

import hashlib
import json
from dataclasses import dataclass, field

LFS_SUFFIXES = (".parquet", ".safetensors", ".bin", ".gguf")
"""Files that go through git-lfs; the Hub knows them by sha256, all others by git's sha1."""

DATE = "2024-01-01T00:00:00.000Z"


@dataclass
class Commit:
    sha: str
    title: str
    tree: dict[str, bytes]


@dataclass
class Repo:
    commits: list[Commit] = field(default_factory=lambda: [Commit("0" * 39 + "1", "initial commit", {})])
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        sha = self.tags.get(revision, revision)
        if sha == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit.sha == sha), None)

    def commit(self, title: str, tree: dict[str, bytes]) -> Commit:
        content = json.dumps([self.commits[-1].sha, title, {p: sha256(b) for p, b in sorted(tree.items())}])
        self.commits.append(Commit(hashlib.sha1(content.encode()).hexdigest(), title, tree))
        return self.commits[-1]


def describe_repo(repo_id: str, commit: Commit) -> dict:
    files = [{"rfilename": path} for path in sorted(commit.tree)]
    fixed = {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
    dates = {"lastModified": DATE, "createdAt": DATE}
    return {"_id": repo_id, "id": repo_id, "sha": commit.sha, "siblings": files, **fixed, **dates}


def describe_file(path: str, tree: dict[str, bytes]) -> dict:
    if path not in tree:
        return {"type": "directory", "path": path, "oid": git_sha1(path.encode()), "size": 0}
    data = tree[path]
    lfs = (
        {"oid": sha256(data), "size": len(data), "pointerSize": 134} if path.endswith(LFS_SUFFIXES) else None
    )
    return {"type": "file", "path": path, "oid": git_sha1(data), "size": len(data), "lfs": lfs}


def digest(path: str, data: bytes) -> str:
    return sha256(data) if path.endswith(LFS_SUFFIXES) else git_sha1(data)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
