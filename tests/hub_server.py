"""A stand-in for the Hugging Face Hub on the loopback interface, enough to publish to and to load from.

Repositories live in memory: each commit is a whole tree of path -> bytes. It speaks the part of the Hub's
protocol that huggingface_hub 2.4 uses with HF_HUB_DISABLE_XET=1: create, preupload, git-lfs, commit, tags,
refs, tree, paths-info, resolve. The client reads HF_ENDPOINT when it is imported, so tests use it in
subprocesses:

    with hub_server(tmp_path) as hub:
        subprocess.run([...], env=hub.env)
"""

import base64
import json
import os
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.hub_repositories import (
    DATE,
    LFS_SUFFIXES,
    Commit,
    Repo,
    describe_file,
    describe_repo,
    digest,
    sha256,
)

USER = "tester"
NO_REPO, NO_REVISION, NO_ENTRY = "RepoNotFound", "RevisionNotFound", "EntryNotFound"


@dataclass
class Hub:
    """What a test sees: where the server listens, the environment for clients, the repositories."""

    url: str
    env: dict[str, str]
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Each request as "METHOD path", in order."""

    def repo(self, repo_id: str, kind: str = "models") -> Repo:
        return self.repos[(kind, repo_id)]

    def add(self, repo_id: str, tree: dict[str, bytes], kind: str = "models") -> str:
        """Put files into a repository without a client, creating it if need be; gives the commit."""
        repo = self.repos.setdefault((kind, repo_id), Repo())
        return repo.commit("add files", repo.commits[-1].tree | tree).sha


@contextmanager
def hub_server(home: Path) -> Iterator[Hub]:
    """Serve until the block ends; `home` becomes HF_HOME, so that no cache outlives the test."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    server.hub = Hub(
        url=url,
        env=inherited
        | {
            "HF_ENDPOINT": url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_local",
            "HF_HOME": str(home / "hf_home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        },
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _HubError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet: a test that wants to know reads hub.requests."""

    def _serve(self) -> None:
        self.hub: Hub = self.server.hub
        self.path, _, query = self.path.partition("?")
        self.path = urllib.parse.unquote(self.path)
        self.query = dict(urllib.parse.parse_qsl(query))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {self.path}")
        try:
            for methods, pattern, action in ROUTES:
                found = re.fullmatch(pattern, self.path)
                if found and self.command in methods.split():
                    return action(self, **found.groupdict())
            raise _HubError(404, NO_ENTRY)
        except _HubError as failure:
            body = json.dumps({"error": failure.code}).encode()
            self._send(body, failure.status, {"X-Error-Code": failure.code})

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body))} | (headers or {})
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: object) -> None:
        self._send(json.dumps(value).encode())

    def _repo(self, kind: str | None, repo_id: str) -> Repo:
        repo = self.hub.repos.get((kind or "models", repo_id))
        if repo is None:
            raise _HubError(404, NO_REPO)
        return repo

    def _commit(self, kind: str | None, repo_id: str, revision: str) -> Commit:
        commit = self._repo(kind, repo_id).at(revision)
        if commit is None:
            raise _HubError(404, NO_REVISION)
        return commit

    def whoami(self) -> None:
        self._json({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def validate_yaml(self) -> None:
        self._json({"errors": [], "warnings": []})

    def create(self) -> None:
        wanted = json.loads(self.body)
        kind = wanted.get("type", "model") + "s"
        repo_id = f"{wanted.get('organization') or USER}/{wanted['name']}"
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}"
        known = (kind, repo_id) in self.hub.repos
        self.hub.repos.setdefault((kind, repo_id), Repo())
        self._send(json.dumps({"url": url, "name": repo_id}).encode(), 409 if known else 200)

    def preupload(self, kind: str, repo_id: str, revision: str) -> None:
        tree = self._commit(kind, repo_id, revision).tree
        answers = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            oid = digest(path, tree[path]) if path in tree else None
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answers})

    def lfs_batch(self, repo_id: str, kind: str | None = None) -> None:
        self._repo(kind, repo_id)
        answers = []
        for wanted in json.loads(self.body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}", "header": {}}}
            held = wanted["oid"] in self.hub.objects
            answers.append(wanted if held else wanted | {"actions": actions})
        self._json({"transfer": "basic", "objects": answers})

    def lfs_put(self, oid: str) -> None:
        if sha256(self.body) != oid:
            raise _HubError(400, "WrongDigest")
        self.hub.objects[oid] = self.body
        self._json({})

    def commit(self, kind: str, repo_id: str, revision: str) -> None:
        repo, parent = self._repo(kind, repo_id), self._commit(kind, repo_id, revision)
        tree, title = dict(parent.tree), ""
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, parent.sha):
                    raise _HubError(412, "ParentCommitMoved")
            elif line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                tree[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                tree.pop(value["path"], None)
            elif line["key"] == "deletedFolder":
                tree = {path: data for path, data in tree.items() if not path.startswith(value["path"])}
        sha = repo.commit(title, tree).sha
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}"})

    def tag(self, kind: str, repo_id: str, revision: str) -> None:
        repo, name = self._repo(kind, repo_id), json.loads(self.body)["tag"]
        if name in repo.tags:
            raise _HubError(409, "TagExists")
        repo.tags[name] = self._commit(kind, repo_id, revision).sha
        self._json({})

    def refs(self, kind: str, repo_id: str) -> None:
        repo = self._repo(kind, repo_id)
        tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": sha} for n, sha in repo.tags.items()]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commits[-1].sha}
        self._json({"branches": [main], "converts": [], "tags": tags})

    def commits(self, kind: str, repo_id: str, revision: str) -> None:
        repo, last = self._repo(kind, repo_id), self._commit(kind, repo_id, revision)
        history = repo.commits[: repo.commits.index(last) + 1][::-1]
        fixed = {"message": "", "authors": [], "date": DATE}
        self._json([{"id": commit.sha, "title": commit.title, **fixed} for commit in history])

    def info(self, kind: str, repo_id: str, revision: str | None) -> None:
        self._json(describe_repo(repo_id, self._commit(kind, repo_id, revision or "main")))

    def listing(self, kind: str) -> None:
        prefix = f"{self.query['author']}/" if "author" in self.query else ""
        held = [(name, repo) for (its_kind, name), repo in self.hub.repos.items() if its_kind == kind]
        self._json([describe_repo(name, repo.commits[-1]) for name, repo in held if name.startswith(prefix)])

    def tree(self, kind: str, repo_id: str, revision: str, folder: str | None) -> None:
        tree = self._commit(kind, repo_id, revision).tree
        prefix = f"{folder}/" if folder else ""
        held = [path for path in tree if path.startswith(prefix)]
        if prefix and not held:
            raise _HubError(404, NO_ENTRY)
        deep = self.query.get("recursive", "").lower() in ("true", "1")
        folders = {str(parent) for path in held for parent in Path(path).parents if str(parent) != "."}
        entries = [describe_file(path, tree) for path in sorted({*held, *folders}) if path.startswith(prefix)]
        self._json([e for e in entries if deep or "/" not in e["path"].removeprefix(prefix)])

    def paths_info(self, kind: str, repo_id: str, revision: str) -> None:
        tree = self._commit(kind, repo_id, revision).tree
        if "json" in self.headers.get("Content-Type", ""):
            paths = json.loads(self.body)["paths"]
        else:
            paths = urllib.parse.parse_qs(self.body.decode())["paths"]
        known = [path for path in paths if any(p == path or p.startswith(f"{path}/") for p in tree)]
        self._json([describe_file(path, tree) for path in known])

    def resolve(self, repo_id: str, revision: str, file: str, kind: str | None = None) -> None:
        commit = self._commit(kind, repo_id, revision)
        data = commit.tree.get(file)
        if data is None:
            raise _HubError(404, NO_ENTRY)
        headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes", "ETag": f'"{digest(file, data)}"'}
        if file.endswith(LFS_SUFFIXES):
            headers |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self._send(data, 200, headers | {"Content-Type": "application/octet-stream"})
        first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        headers |= {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return self._send(data[first : last + 1], 206, headers | {"Content-Type": "application/octet-stream"})


_API = r"/api/(?P<kind>models|datasets)/(?P<repo_id>[^/]+/[^/]+)"
_GIT = r"/(?:(?P<kind>datasets)/)?(?P<repo_id>[^/]+/[^/]+)"
_REV = r"/(?P<revision>[^/]+)"
ROUTES = (
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/validate-yaml", _Handler.validate_yaml),
    ("POST", r"/api/repos/create", _Handler.create),
    ("GET", r"/api/(?P<kind>models|datasets)", _Handler.listing),
    ("POST", rf"{_API}/preupload{_REV}", _Handler.preupload),
    ("POST", rf"{_GIT}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_put),
    ("POST", rf"{_API}/commit{_REV}", _Handler.commit),
    ("POST", rf"{_API}/tag{_REV}", _Handler.tag),
    ("GET", rf"{_API}/refs", _Handler.refs),
    ("GET", rf"{_API}/commits{_REV}", _Handler.commits),
    ("GET", rf"{_API}(?:/revision{_REV})?", _Handler.info),
    ("GET", rf"{_API}/tree{_REV}(?:/(?P<folder>.+))?", _Handler.tree),
    ("POST", rf"{_API}/paths-info{_REV}", _Handler.paths_info),
    ("GET HEAD", rf"{_GIT}/resolve{_REV}/(?P<file>.+)", _Handler.resolve),
)
