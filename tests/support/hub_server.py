"""A Hugging Face Hub on 127.0.0.1, for the real client: repositories, commits, LFS, downloads, Spaces, faults.

Speaks the part of the Hub's HTTP protocol that `huggingface_hub` and `datasets` use. Everything is kept in
memory. A client must be told where it is before it is imported: `environment()` gives the variables.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PUBLISHER = "hf_jwt_publisher"  # a workflow's token, which has no user and may create nothing
LFS_FROM = 64 << 10  # bytes; larger files, and binary ones, go through LFS as on the Hub
_BINARY = (".onnx", ".h5", ".keras", ".png", ".jpg", ".gz", ".tar", ".parquet")
_TYPES = {"models": "model", "datasets": "dataset", "spaces": "space"}


@dataclass
class Repo:
    """One repository: its commits by SHA, and where its branches stand."""

    id: str
    type: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # sha -> path -> content
    refs: dict[str, str] = field(default_factory=dict)  # branch -> sha
    variables: dict[str, str] = field(default_factory=dict)  # of a Space
    secrets: dict[str, str] = field(default_factory=dict)
    running: str = "0" * 40  # the commit of the build that runs
    create: dict = field(default_factory=dict)  # the request that made it

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """A new commit with exactly these files; returns its SHA."""
        listing = sorted((name, _blob(content)) for name, content in files.items())
        sha = hashlib.sha1(f"{self.id}{branch}{len(self.commits)}{listing}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[branch] = sha
        return sha

    def find(self, revision: str) -> str | None:
        revision = urllib.parse.unquote(revision)
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Fault:
    """What happens instead of an answer to the next `times` requests whose "METHOD /path" matches."""

    pattern: str
    status: int = 0
    times: int = 1_000_000
    hang: float = 0.0  # seconds of silence, then the connection is closed
    drop: bool = False  # close the connection at once
    truncate: int = -1  # send only so many bytes of the content
    damage: bool = False  # flip a byte of the content
    pause: float = 0.0  # seconds before each 32 kB of the content
    headers: dict[str, str] = field(default_factory=dict)


class Hub:
    """The server; use as a context manager."""

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.tokens = {"hf_writer": "tester", PUBLISHER: "tester"}
        self.read_only_tokens = {"hf_reader": "tester"}
        self.lfs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []  # "METHOD /path" in order of arrival
        self.stage = "RUNNING"  # of Spaces
        self._port = 0
        self.start()

    def start(self) -> None:
        """Listen (again, on the same port, after `stop`)."""
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", self._port), handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Be gone: connections are refused from now on."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def environment(self, home, token: str | None = None) -> dict[str, str]:
        """Environment variables for a client process whose caches live in `home`."""
        variables = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0",
        }
        return variables | ({"HF_TOKEN": token} if token else {})

    def add(self, repo_id: str, files: dict[str, bytes], type: str = "model", **kwargs) -> Repo:
        """A repository with one commit."""
        repo = self.repos[type, repo_id] = Repo(repo_id, type, **kwargs)
        repo.commit(files)
        return repo

    def fail(self, pattern: str, **kwargs) -> Fault:
        """Inject a fault; see Fault."""
        self.faults.append(Fault(pattern, **kwargs))
        return self.faults[-1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # clients that hang up are part of the tests
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, status: int, content=b"", headers=None, code: str = "") -> None:
        if not isinstance(content, bytes):
            content, headers = json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})}
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), **(headers or {})}
        if code:
            headers |= {"X-Error-Code": code, "X-Error-Message": code}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            fault = self.fault
            if fault and 0 <= fault.truncate < len(content):
                self.wfile.write(content[: fault.truncate])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            if fault and fault.damage and content:
                content = content[:-1] + bytes([content[-1] ^ 1])
            piece = 32 << 10 if fault and fault.pause else max(1, len(content))
            for start in range(0, len(content), piece):
                time.sleep(fault.pause if fault else 0)
                self.wfile.write(content[start : start + piece])

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            self.body = self.rfile.read(length) if length else b""
        split = urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(split.query)
        path, line = urllib.parse.unquote(split.path), f"{self.command} {urllib.parse.unquote(split.path)}"
        self.hub.requests.append(line)
        self.fault = self._next_fault(line)
        if self.fault:
            if self.fault.hang:
                time.sleep(self.fault.hang)
            if self.fault.drop or self.fault.hang:
                self.close_connection = True
                return
            if self.fault.status:
                return self._answer(self.fault.status, {"error": "fault"}, self.fault.headers)
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
        self.user = self.hub.tokens.get(self.token) or self.hub.read_only_tokens.get(self.token)
        self.can_write = self.token in self.hub.tokens
        if self.token and not self.user:
            return self._answer(401, {"error": "Invalid credentials in Authorization header"})
        for method, pattern, action in _ROUTES:
            match = method == self.command and re.fullmatch(pattern, path)
            if match:
                return action(self, **match.groupdict())
        self._answer(404, {"error": f"no route for {line}"})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _next_fault(self, line: str) -> Fault | None:
        for fault in self.hub.faults:
            if fault.times > 0 and re.search(fault.pattern, line):
                fault.times -= 1
                return fault
        return None

    def _repo(self, kind: str, id: str) -> Repo | None:
        """The repository, or None after an answer that says why not."""
        repo = self.hub.repos.get((_TYPES[kind], id))
        if repo is None or (repo.private and not self.user):
            self._answer(404 if self.user else 401, {"error": "Repository not found"}, code="RepoNotFound")
        elif repo.gated and not self.user:
            self._answer(403, {"error": "gated"}, code="GatedRepo")
        else:
            return repo
        return None

    def _commit_of(self, repo: Repo, revision: str | None) -> str | None:
        sha = repo.find(revision or "main")
        if sha is None:
            self._answer(404, {"error": "Invalid rev id"}, code="RevisionNotFound")
        return sha

    # What the client asks, in the order of _ROUTES.

    def exchange(self):
        if json.loads(self.body)["subject_token"] != "workflow":
            return self._answer(403, {"error": "No trusted publisher matches"})
        self._answer(200, {"access_token": PUBLISHER, "token_type": "bearer", "expires_in": 3600})

    def whoami(self):
        if not self.user or self.token == PUBLISHER:
            return self._answer(401, {"error": "Invalid username or password."})
        role = "write" if self.can_write else "read"
        token = {"displayName": "test", "role": role, "createdAt": "2026-01-01T00:00:00.000Z"}
        self._answer(
            200, {"type": "user", "name": self.user, "auth": {"type": "access_token", "accessToken": token}, "orgs": []}
        )

    def validate_yaml(self):
        self._answer(200, {"errors": [], "warnings": []})

    def create(self):
        wish = json.loads(self.body)
        owner = wish.get("organization") or self.user
        key = wish.get("type") or "model", f"{owner}/{wish['name']}"
        if not self.can_write or owner != self.user or self.token == PUBLISHER:
            return self._answer(403, {"error": f"You don't have the rights to create a {key[0]} under {owner}"})
        url = f"{self.hub.url}/{'' if key[0] == 'model' else key[0] + 's/'}{key[1]}"
        if key in self.hub.repos:
            return self._answer(409, {"error": "You already created this repo", "url": url})
        private = bool(wish.get("private")) or wish.get("visibility") == "private"
        repo = self.hub.add(key[1], {".gitattributes": b""}, key[0], private=private)
        repo.create = wish
        for name in ("variables", "secrets"):
            getattr(repo, name).update({item["key"]: item["value"] for item in wish.get(name) or ()})
        self._answer(200, {"url": url, "id": key[1], "name": key[1]})

    def info(self, kind, id, revision=None):
        repo = self._repo(kind, id)
        sha = repo and self._commit_of(repo, revision)
        if sha:
            siblings = [{"rfilename": path} for path in sorted(repo.commits[sha])]
            self._answer(
                200,
                {
                    "_id": id,
                    "id": id,
                    "sha": sha,
                    "private": repo.private,
                    "gated": "auto" if repo.gated else False,
                    "tags": [],
                    "likes": 0,
                }
                | {"downloads": 0, "siblings": siblings, "createdAt": "2026-01-01T00:00:00.000Z"}
                | {"sdk": repo.create.get("sdk", "gradio")}
                | {"lastModified": "2026-01-01T00:00:00.000Z", "disabled": False},
            )

    def auth_check(self, kind, id):
        if self._repo(kind, id):
            self._answer(200, {})

    def tree(self, kind, id, revision, path=""):
        repo = self._repo(kind, id)
        sha = repo and self._commit_of(repo, revision)
        if not sha:
            return
        prefix = f"{path.strip('/')}/" if path.strip("/") else ""
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries = {}
        for name, content in sorted(repo.commits[sha].items()):
            if name.startswith(prefix):
                parts = name[len(prefix) :].split("/")
                for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                    folder = prefix + "/".join(parts[:depth])
                    entries[folder] = {"type": "directory", "path": folder, "oid": _blob(folder.encode()), "size": 0}
                if recursive or len(parts) == 1:
                    entries[name] = _file(name, content)
        self._answer(200, list(entries.values()))

    def paths_info(self, kind, id, revision):
        repo = self._repo(kind, id)
        sha = repo and self._commit_of(repo, revision)
        if not sha:
            return
        if "json" in (self.headers.get("Content-Type") or ""):
            paths = json.loads(self.body)["paths"]
        else:
            paths = urllib.parse.parse_qs(self.body.decode()).get("paths", [])
        files, found = repo.commits[sha], []
        for path in [paths] if isinstance(paths, str) else paths:
            if path in files:
                found.append(_file(path, files[path]))
            elif any(name.startswith(path.rstrip("/") + "/") for name in files):
                found.append({"type": "directory", "path": path, "oid": _blob(path.encode()), "size": 0})
        self._answer(200, found)

    def refs(self, kind, id):
        repo = self._repo(kind, id)
        if repo:
            branches = [
                {"name": n, "ref": f"refs/heads/{n}", "targetCommit": s}
                for n, s in repo.refs.items()
                if not n.startswith("refs/")
            ]
            self._answer(200, {"branches": branches, "tags": [], "converts": []})

    def branch(self, kind, id, name):
        repo = self._repo(kind, id)
        if not repo:
            return
        if not self.can_write:
            return self._answer(403, {"error": "Forbidden"})
        if name in repo.refs:
            return self._answer(409, {"error": "Reference already exists"})
        start = json.loads(self.body or b"{}").get("startingPoint") or "main"
        repo.refs[name] = repo.find(start)
        self._answer(200, {})

    def preupload(self, kind, id, revision):
        repo = self._repo(kind, id)
        sha = repo and self._commit_of(repo, revision)
        if not sha:
            return
        if not self.can_write:
            return self._answer(403, {"error": "Forbidden: pass `create_pr=1` as a query parameter"})
        files = []
        for wish in json.loads(self.body)["files"]:
            path, old = wish["path"], repo.commits[sha].get(wish["path"])
            large = wish["size"] > LFS_FROM or path.endswith(_BINARY)
            oid = None if old is None else (hashlib.sha256(old).hexdigest() if large else _blob(old))
            mode = "lfs" if large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._answer(200, {"files": files})

    def commit(self, kind, id, revision):
        repo = self._repo(kind, id)
        head = repo and self._commit_of(repo, revision)
        if not head:
            return
        if not self.can_write:
            return self._answer(403, {"error": "Forbidden"})
        files = dict(repo.commits[head])
        for item in map(json.loads, self.body.decode().splitlines()):
            key, value = item["key"], item["value"]
            if key == "header":
                if value.get("parentCommit") not in (None, head):
                    return self._answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.hub.lfs:
                    return self._answer(400, {"error": f"LFS pointer pointed to a file that does not exist: {value}"})
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif key in ("deletedFile", "deletedFolder"):
                gone = value["path"].rstrip("/")
                files = {n: c for n, c in files.items() if n != gone and not n.startswith(gone + "/")}
        pull = self.query.get("create_pr", ["0"])[0] in ("1", "true", "True")
        sha = repo.commit(files, "refs/pr/1" if pull else urllib.parse.unquote(revision))
        place = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{id}"
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{place}/commit/{sha}", "hookOutput": ""}
        self._answer(200, answer | ({"pullRequestUrl": f"{place}/discussions/1"} if pull else {}))

    def lfs_batch(self, id, prefix=""):
        objects = []
        for wish in json.loads(self.body)["objects"]:
            answer = {"oid": wish["oid"], "size": wish["size"], "authenticated": True}
            if wish["oid"] not in self.hub.lfs:
                put = {"href": f"{self.hub.url}/lfs/{wish['oid']}", "header": {}}
                answer["actions"] = {"upload": put, "verify": {"href": f"{self.hub.url}/lfs-verify", "header": {}}}
            objects.append(answer)
        self._answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._answer(400, {"error": "hash mismatch"})
        self.hub.lfs[oid] = self.body
        self._answer(200)

    def lfs_verify(self):
        wish = json.loads(self.body)
        good = len(self.hub.lfs.get(wish["oid"], b"")) == wish["size"]
        self._answer(200 if good else 404, {})

    def resolve(self, id, revision, path, prefix=None):
        repo = self._repo(prefix or "models", id)
        sha = repo and self._commit_of(repo, revision)
        if not sha:
            return
        content = repo.commits[sha].get(path)
        if content is None:
            return self._answer(404, {"error": "Entry not found"}, {"X-Repo-Commit": sha}, "EntryNotFound")
        entry = _file(path, content)
        etag = entry.get("lfs", entry)["oid"]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "X-Linked-ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        headers["X-Linked-Size"] = str(len(content))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted:
            start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            return self._answer(206, content[start : end + 1], headers)
        if self.command == "HEAD":
            headers["Content-Length"] = str(len(content))
        self._answer(200, content, headers)

    def space_setting(self, id, what):
        repo = self._repo("spaces", id)
        if repo:
            if not self.can_write:
                return self._answer(403, {"error": "Forbidden"})
            if self.command == "POST":
                wish = json.loads(self.body)
                getattr(repo, what)[wish["key"]] = wish["value"]
            elif self.command == "DELETE":
                getattr(repo, what).pop(json.loads(self.body)["key"], None)
            shown = what == "variables"  # a secret's value never comes back
            settings = {k: {"key": k, "value": v} if shown else {"key": k} for k, v in getattr(repo, what).items()}
            self._answer(200, settings)

    def runtime(self, id):
        if repo := self._repo("spaces", id):
            # Right after a commit the build before it still runs: the first look sees that one.
            running, repo.running = repo.running, repo.refs["main"]
            hardware = {"current": "cpu-basic", "requested": "cpu-basic"}
            self._answer(
                200,
                {"stage": self.hub.stage, "hardware": hardware, "storage": None, "gcTimeout": 172800}
                | {"sha": running},
            )

    def hardware(self, id):
        self.runtime(id)

    def build_logs(self, id, which):
        if self._repo("spaces", id):
            logs = {
                "build": ["===== Build =====", "pip install failed: no such package"],
                "run": ["===== Application =====", "ModuleNotFoundError: No module named 'faces'"],
            }
            lines = logs[which]
            events = "".join(f"data: {json.dumps({'data': line + chr(10), 'timestamp': ''})}\n\n" for line in lines)
            self._answer(200, events.encode(), {"Content-Type": "text/event-stream"})


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _file(path: str, content: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
    if len(content) > LFS_FROM or path.endswith(_BINARY):
        sha = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha, "size": len(content), "pointerSize": 134}
    return entry


_ID = r"(?P<id>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>models|datasets|spaces)/{_ID}"
_REV = r"(?P<revision>refs/pr/\d+|[^/]+)"
_ROUTES = [
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("POST", "/api/validate-yaml", _Handler.validate_yaml),
    ("POST", "/api/repos/create", _Handler.create),
    ("GET", _API, _Handler.info),
    ("GET", rf"{_API}/auth-check(/write)?", _Handler.auth_check),
    ("POST", "/oauth/token", _Handler.exchange),
    ("GET", rf"{_API}/revision/{_REV}", _Handler.info),
    ("GET", rf"{_API}/tree/{_REV}(?P<path>/.*)?", lambda self, path=None, **k: self.tree(path=path or "", **k)),
    ("POST", rf"{_API}/paths-info/{_REV}", _Handler.paths_info),
    ("GET", rf"{_API}/refs", _Handler.refs),
    ("POST", rf"{_API}/branch/(?P<name>.+)", _Handler.branch),
    ("POST", rf"{_API}/preupload/{_REV}", _Handler.preupload),
    ("POST", rf"{_API}/commit/{_REV}", _Handler.commit),
    ("POST", rf"/(?P<prefix>datasets/|spaces/)?{_ID}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]+)", _Handler.lfs_put),
    ("POST", "/lfs-verify", _Handler.lfs_verify),
    *(
        (method, rf"/api/spaces/{_ID}/(?P<what>secrets|variables)", _Handler.space_setting)
        for method in ("GET", "POST", "DELETE")
    ),
    ("GET", rf"/api/spaces/{_ID}/runtime", _Handler.runtime),
    ("POST", rf"/api/spaces/{_ID}/hardware", _Handler.hardware),
    ("GET", rf"/api/spaces/{_ID}/logs/(?P<which>build|run)", _Handler.build_logs),
] + [
    (method, rf"/(?:(?P<prefix>datasets|spaces)/)?{_ID}/resolve/{_REV}/(?P<path>.+)", _Handler.resolve)
    for method in ("GET", "HEAD")
]
