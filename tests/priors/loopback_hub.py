"""A Hugging Face hub on this machine's loopback: what huggingface_hub asks of the real one.

Statuses, headers and keys are those of the exchanges of huggingface_hub 1.31 with the real hub that
were recorded in github.com/wzshiming/xet, client/hf/hftest/testdata. Left out are what the client
does not read and Xet, the second way to move large files, without which the client takes LFS
(HF_HUB_DISABLE_XET), after git-lfs's docs/api/batch.md.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from mgdm_audio.priors.hub import fetch

TOKEN = "hf_loopback"
LARGE = ".safetensors"  # in LFS, by the .gitattributes of a new repository


def blob_id(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repository:
    """Commits and the branches and tags that name them."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> path -> content
    names: dict[str, str] = field(default_factory=dict)  # branch or tag -> commit

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """One more commit of a branch, with these files beside those that it had."""
        parent = self.names.get(branch, "")
        tree = self.commits.get(parent, {}) | files
        named = json.dumps([parent, {path: blob_id(data) for path, data in sorted(tree.items())}])
        commit = hashlib.sha1(named.encode()).hexdigest()
        self.commits[commit] = tree
        self.names[branch] = commit
        return commit

    def find(self, revision: str) -> str | None:
        return self.names.get(revision, revision if revision in self.commits else None)


class Hub:
    """``repositories`` by ``owner/name``; ``requests``: method and path of each that came."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.objects: dict[str, bytes] = {}  # of LFS, by SHA-256
        self.url = ""

    def add(
        self,
        name: str,
        folder: Path,
        more: Mapping[str, bytes] = MappingProxyType({}),
        private: bool = False,
    ) -> str:
        """Commit all files of a folder, and ``more``, to a repository, made if it is not there."""
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        repository = self.repositories.setdefault(name, Repository(private))
        return repository.commit(files | dict(more))


@contextmanager
def loopback_hub() -> Iterator[Hub]:
    """A hub that listens until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def used_hub(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, where the client looks for it, with an empty cache in ``folder``; nobody is logged in.

    The client reads its variables when it is imported, so that a process of its own must show that
    they lead to these settings.
    """
    constants = pytest.importorskip("huggingface_hub.constants")
    patch.setenv("NO_PROXY", "*")
    patch.delenv("HF_TOKEN", raising=False)
    with loopback_hub() as hub:
        settings = {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(folder / "cache"),
            "HF_TOKEN_PATH": str(folder / "token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in settings.items():
            patch.setattr(constants, name, value)
        fetch.cache_clear()
        try:
            yield hub
        finally:
            fetch.cache_clear()


_NAME = r"(?P<repo>[^/]+/[^/]+)"
_ROUTES = {
    rf"GET /api/models/{_NAME}/revision/(?P<revision>.+)": "info",
    rf"GET /api/models/{_NAME}/tree/(?P<revision>.+)": "tree",
    rf"(?:HEAD|GET) /{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)": "resolve",
    r"GET /cdn/(?P<oid>[0-9a-f]{64})": "content",
    r"POST /api/repos/create": "create",
    r"POST /api/validate-yaml": "validate",
    rf"POST /api/models/{_NAME}/preupload/(?P<revision>.+)": "preupload",
    rf"POST /{_NAME}\.git/info/lfs/objects/batch": "batch",
    r"PUT /lfs/(?P<oid>[0-9a-f]{64})": "upload",
    r"POST /lfs/verify": "verify",
    rf"POST /api/models/{_NAME}/commit/(?P<revision>.+)": "commit",
}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.requests.append((self.command, path))
        for route, name in _ROUTES.items():
            if match := re.fullmatch(route, f"{self.command} {path}"):
                arguments = match.groupdict()
                if "repo" in arguments and not self.is_open(arguments["repo"]):
                    return
                getattr(self, name)(**arguments)
                return
        self.refuse(404, "Sorry, we can't find the page you are looking for.")

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self, value: Any = None, status: int = 200, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, header in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), header)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, message: str, code: str = "") -> None:
        more = {"X_Error_Code": code} if code else {}
        self.answer({"error": message}, status, X_Error_Message=message, **more)

    def is_open(self, repo: str) -> bool:
        """Else it was refused: as on the hub, a stranger cannot tell missing from private."""
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        repository = self.hub.repositories.get(repo)
        writing = self.command in ("POST", "PUT")
        if repository is not None and (known or not (repository.private or writing)):
            return True
        if known:
            self.refuse(404, "Repository not found", "RepoNotFound")
        else:
            self.refuse(401, "Invalid username or password.")
        return False

    def at(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self.hub.repositories[repo]
        commit = repository.find(revision)
        if commit is None:
            self.refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return None
        return commit, repository.commits[commit]

    def info(self, repo: str, revision: str) -> None:
        if (found := self.at(repo, revision)) is None:
            return
        siblings = [{"rfilename": path} for path in sorted(found[1])]
        private = self.hub.repositories[repo].private
        self.answer({"_id": "0", "id": repo, "modelId": repo, "author": repo.split("/")[0],
                     "sha": found[0], "private": private, "gated": False, "disabled": False,
                     "downloads": 0, "likes": 0, "tags": [], "siblings": siblings})  # fmt: skip

    def tree(self, repo: str, revision: str) -> None:
        if (found := self.at(repo, revision)) is None:
            return
        folders = sorted({str(Path(path).parent) for path in found[1]} - {"."})
        rows: list[dict[str, Any]] = [
            {"type": "directory", "oid": blob_id(f.encode()), "size": 0, "path": f} for f in folders
        ]
        for path, data in sorted(found[1].items()):
            row = {"type": "file", "oid": blob_id(data), "size": len(data), "path": path}
            if path.endswith(LARGE):
                oid = hashlib.sha256(data).hexdigest()
                row["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
            rows.append(row)
        self.answer(rows)

    def resolve(self, repo: str, revision: str, path: str) -> None:
        if (found := self.at(repo, revision)) is None:
            return
        commit, files = found
        if path not in files:
            self.refuse(404, "Entry not found", "EntryNotFound")
        elif path.endswith(LARGE):
            oid = hashlib.sha256(files[path]).hexdigest()
            self.hub.objects[oid] = files[path]
            # Another host, as the real one's: the client must not send the token there.
            port = self.hub.url.rpartition(":")[2]
            self.answer(
                b"Found.",
                302,
                Location=f"http://localhost:{port}/cdn/{oid}",
                X_Repo_Commit=commit,
                X_Linked_Etag=f'"{oid}"',
                X_Linked_Size=str(len(files[path])),
            )
        else:
            etag = f'"{blob_id(files[path])}"'
            self.answer(files[path], ETag=etag, X_Repo_Commit=commit, Accept_Ranges="bytes")

    def content(self, oid: str) -> None:
        if self.headers.get("Authorization"):
            self.refuse(400, "Only one auth mechanism allowed")  # as S3 says
        else:
            self.answer(self.hub.objects[oid], ETag=f'"{oid}"', Accept_Ranges="bytes")

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        url = f"{self.hub.url}/{name}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "Invalid username or password.")
        elif name in self.hub.repositories:
            message = f"You already created this model repo: {name}"
            self.answer({"error": message, "url": url}, 409, X_Error_Message=message)
        else:
            private = asked.get("visibility") == "private" or asked.get("private", False)
            self.hub.repositories[name] = Repository(private)
            self.hub.repositories[name].commit({".gitattributes": b""})
            self.answer({"url": url, "name": name, "id": "0"})

    def validate(self) -> None:
        content = json.loads(self.body)["content"]
        warnings = [] if content.startswith("---\n") else [{"message": "empty or missing yaml "
                                                           "metadata in repo card"}]  # fmt: skip
        self.answer({"errors": [], "warnings": warnings})

    def preupload(self, repo: str, revision: str) -> None:
        if (found := self.at(repo, revision)) is None:
            return
        rows = []
        for file in json.loads(self.body)["files"]:
            mode = "lfs" if file["path"].endswith(LARGE) else "regular"
            row = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            if (old := found[1].get(file["path"])) is not None:
                row["oid"] = hashlib.sha256(old).hexdigest() if mode == "lfs" else blob_id(old)
            rows.append(row)
        self.answer({"commitOid": found[0], "files": rows})

    def batch(self, repo: str) -> None:
        rows = []
        for asked in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.url}/lfs/{asked['oid']}"}
            verify = {"href": f"{self.hub.url}/lfs/verify"}
            rows.append(asked | {"actions": {"upload": upload, "verify": verify}})
        self.answer({"transfer": "basic", "objects": rows})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.refuse(400, "BadDigest")
            return
        self.hub.objects[oid] = self.body
        self.answer(b"", ETag=f'"{oid}"')

    def verify(self) -> None:
        asked = json.loads(self.body)
        if len(self.hub.objects.get(asked["oid"], b"")) == asked["size"]:
            self.answer({})
        else:
            self.refuse(404, "Object does not exist")

    def commit(self, repo: str, revision: str) -> None:
        files = {}
        for line in self.body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile" and value["oid"] in self.hub.objects:
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif row["key"] != "header":
                self.refuse(400, "Your push was rejected because an LFS pointer pointed to a file "
                                 "that does not exist.")  # fmt: skip
                return
        commit = self.hub.repositories[repo].commit(files, revision)
        url = f"{self.hub.url}/{repo}/commit/{commit}"
        self.answer({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})
