"""The part of the Hub's HTTP API that its client libraries call, on 127.0.0.1.

`LocalHub(folder, bound_socket)` is a server of `http.server` in threads; it speaks to the real
`huggingface_hub` with `HF_ENDPOINT` set to its address and `HF_HUB_DISABLE_XET=1`. Files are real,
in `folder`. Contents of large files come from another host ("localhost"), as the Hub's come from a
CDN.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from hub_store import HubError, Store, is_large, parse_metadata

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
REPOSITORY = rf"/api/(?P<kinds>models|datasets|spaces)/{NAME}"
IN_REPOSITORY = rf"/(?:(?P<kinds>datasets|spaces)/)?{NAME}"
ROUTES = [
    ("GET", "/api/whoami-v2", "whoami"),
    ("POST", "/api/repos/create", "create"),
    ("DELETE", "/api/repos/delete", "delete"),
    ("POST", "/api/validate-yaml", "validate"),
    ("GET", rf"{REPOSITORY}(?:/revision/(?P<revision>[^/]+))?", "info"),
    ("GET", rf"{REPOSITORY}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree"),
    ("POST", rf"{REPOSITORY}/paths-info/(?P<revision>[^/]+)", "paths_info"),
    ("GET", rf"{REPOSITORY}/refs", "refs"),
    ("GET", rf"{REPOSITORY}/commits/(?P<revision>[^/]+)", "commits"),
    ("POST", rf"{REPOSITORY}/(?P<what>branch|tag)/(?P<revision>[^/]+)", "name_revision"),
    ("POST", rf"{REPOSITORY}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"{REPOSITORY}/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", rf"{IN_REPOSITORY}\.git/info/lfs/objects/batch", "batch"),
    ("POST", rf"{IN_REPOSITORY}\.git/info/lfs/objects/verify", "verify"),
    ("GET", rf"{IN_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ("PUT", r"/storage/(?P<sha256>\w{64})", "receive"),
    ("GET", r"/storage/(?P<sha256>\w{64})", "deliver"),
]


class LocalHub(ThreadingHTTPServer):
    """A Hub; `store` is what it holds, `requests` what was asked of it: `(method, path)`.

    `ranges` are the parts of files that clients asked for.
    """

    daemon_threads = True

    def __init__(self, folder, bound_socket):
        super().__init__(bound_socket.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound_socket
        self.server_activate()
        self.store = Store(folder)
        self.requests, self.ranges = [], []
        # Set by a test: uploads of large files wait here, as on a connection that has stalled.
        self.stalled = threading.Event()
        self.may_upload = threading.Event()
        self.may_upload.set()
        self.uploads_before_stalling = None
        self.uploads_on_their_way = threading.Condition()
        self.uploads_to_arrive = 0
        self.download_breaks = False

    @property
    def url(self):
        return "http://{}:{}".format(*self.socket.getsockname())

    @property
    def storage(self):
        return f"http://localhost:{self.socket.getsockname()[1]}/storage"

    def stall_uploads(self, after):
        """Let so many large files through; the next ones are read by half and never answered."""
        self.stalled.clear()
        self.may_upload.clear()
        self.uploads_before_stalling = self.uploads_to_arrive = after

    def resume_uploads(self):
        self.uploads_before_stalling = None
        self.may_upload.set()

    def break_next_download(self):
        """The next large file is sent by half; then the connection ends."""
        self.download_breaks = True

    def paths(self, method):
        return [path for asked, path in self.requests if asked == method]


class Handler(BaseHTTPRequestHandler):
    """One request after the other of a connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.handle_one("GET")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        self.handle_one("POST")

    def do_PUT(self):
        self.handle_one("PUT")

    def do_DELETE(self):
        self.handle_one("DELETE")

    @property
    def store(self):
        return self.server.store

    @property
    def token(self):
        given = self.headers.get("Authorization")
        return given.removeprefix("Bearer ") if given else None

    def handle_one(self, method):
        address = urlsplit(self.path)
        self.server.requests.append((self.command, unquote(address.path)))
        self.query = parse_qs(address.query)
        try:
            for expected, pattern, name in ROUTES:
                found = re.fullmatch(pattern, address.path)
                if expected == method and found is not None:
                    given = {k: v and unquote(v) for k, v in found.groupdict().items()}
                    kinds = given.pop("kinds", None) or "models"
                    if "name" in given:
                        given["kind"] = KINDS[kinds]
                    # Contents may take their time; all else is one after the other.
                    if name in ("receive", "deliver"):
                        return getattr(self, name)(**given)
                    with self.store.lock:
                        return getattr(self, name)(**given)
            self.body()
            raise HubError(404, f"No route {method} {address.path}")
        except HubError as error:
            self.refuse(error)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, content, status=200, **headers):
        is_bytes = isinstance(content, bytes)
        body = content if is_bytes else json.dumps(content).encode()
        self.send_response(status)
        headers.setdefault("Content_Type", "text/plain" if is_bytes else "application/json")
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, error):
        headers = {"X_Error_Message": error.message}
        if error.code is not None:
            headers["X_Error_Code"] = error.code
        if error.commit is not None:
            headers["X_Repo_Commit"] = error.commit
        self.answer(error.content, error.status, **headers)

    # Users and repositories

    def whoami(self):
        user, may_write = self.store.user_of(self.token)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        role = "write" if may_write else "read"
        token = {"accessToken": {"displayName": "test", "role": role}, "type": "access_token"}
        self.answer({"type": "user", "name": user, "orgs": [], "auth": token})

    def create(self):
        asked = json.loads(self.body())
        user, _ = self.store.user_of(self.token)
        namespace = asked.get("organization") or user
        self.store.check_writer(namespace, self.token)
        kind, name = asked.get("type") or "model", f"{namespace}/{asked['name']}"
        url = self.url_of(kind, name)
        if (kind, name) in self.store.repositories:
            raise HubError(409, f"You already created this {kind} repo: {name}", url=url)
        self.store.create(kind, name, asked.get("visibility") == "private", asked.get("sdk"))
        self.answer({"url": url, "name": name})

    def url_of(self, kind, name):
        return f"{self.server.url}/{'' if kind == 'model' else kind + 's/'}{name}"

    def delete(self):
        asked = json.loads(self.body())
        kind, name = asked.get("type") or "model", f"{asked['organization']}/{asked['name']}"
        self.store.writable(kind, name, self.token)
        del self.store.repositories[kind, name]
        self.answer({})

    def validate(self):
        try:
            parse_metadata(json.loads(self.body())["content"])
        except yaml.YAMLError as error:
            raise HubError(400, "Invalid YAML", errors=[{"message": str(error)}]) from error
        self.answer({"errors": [], "warnings": []})

    def name_revision(self, kind, name, what, revision):
        asked = json.loads(self.body() or b"{}")
        repository = self.store.writable(kind, name, self.token)
        if what == "tag":
            names, new, old = repository.tags, asked["tag"], revision
        else:
            names, new, old = repository.branches, revision, asked.get("startingPoint", "main")
        if new in names:
            raise HubError(409, f"{what} {new} exists already")
        names[new] = repository.find(old).sha
        self.answer({})

    # What a repository holds

    def info(self, kind, name, revision):
        repository = self.store.readable(kind, name, self.token)
        commit = repository.find(revision or "main")
        card = self.store.card_of(commit)
        content = {
            "id": name,
            "modelId": name,
            "author": name.split("/")[0],
            "sha": commit.sha,
            "lastModified": commit.date,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "tags": card.get("tags") or [],
            "cardData": card,
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }
        if kind == "space":
            content["sdk"] = repository.sdk
        self.answer(content)

    def tree(self, kind, name, revision, path):
        commit = self.store.readable(kind, name, self.token).find(revision)
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folder = f"{path}/" if path else ""
        inside = {p: f for p, f in sorted(commit.files.items()) if p.startswith(folder)}
        if path and not inside:
            raise HubError(404, f"{path} does not exist", "EntryNotFound", commit.sha)
        entries = {}
        for file, stored in inside.items():
            parts = file.removeprefix(folder).split("/")
            for depth in range(1, len(parts) if recursive else min(2, len(parts))):
                parent = folder + "/".join(parts[:depth])
                entries[parent] = describe_folder(parent)
            if recursive or len(parts) == 1:
                entries[file] = self.described(stored, file, commit)
        self.answer(list(entries.values()))

    def described(self, stored, path, commit):
        entry = stored.describe(path)
        if self.query.get("expand", ["false"])[0].lower() in ("true", "1"):
            entry["lastCommit"] = {"id": commit.sha, "title": commit.title, "date": commit.date}
        return entry

    def paths_info(self, kind, name, revision):
        asked = parse_qs(self.body().decode())
        commit = self.store.readable(kind, name, self.token).find(revision)
        self.query["expand"] = asked.get("expand", ["false"])
        entries = []
        for path in asked.get("paths", []):
            if path in commit.files:
                entries.append(self.described(commit.files[path], path, commit))
            elif any(file.startswith(f"{path}/") for file in commit.files):
                entries.append(describe_folder(path))
        self.answer(entries)

    def refs(self, kind, name):
        repository = self.store.readable(kind, name, self.token)
        branches, tags = (
            [{"name": n, "ref": f"refs/{what}/{n}", "targetCommit": sha} for n, sha in refs.items()]
            for what, refs in (("heads", repository.branches), ("tags", repository.tags))
        )
        self.answer({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    def commits(self, kind, name, revision):
        history = self.store.readable(kind, name, self.token).history(revision)
        told = {"message": "", "authors": [{"user": name.split("/")[0]}]}
        self.answer([{"id": c.sha, "title": c.title, "date": c.date, **told} for c in history])

    def resolve(self, kind, name, revision, path):
        commit = self.store.readable(kind, name, self.token).find(revision)
        file = commit.files.get(path)
        if file is None:
            raise HubError(404, "Entry not found", "EntryNotFound", commit.sha)
        headers = {"X_Repo_Commit": commit.sha, "ETag": f'"{file.etag}"', "Accept_Ranges": "bytes"}
        if file.is_large:
            linked = {"X_Linked_Etag": f'"{file.etag}"', "X_Linked_Size": str(file.size)}
            location = f"{self.server.storage}/{file.sha256}"
            return self.answer(b"", 302, Location=location, **headers, **linked)
        return self.answer_range(self.store.path_of(file.sha256).read_bytes(), **headers)

    def answer_range(self, content, **headers):
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return self.answer(content, **headers)
        self.server.ranges.append(asked[0])
        first = int(asked[1])
        last = min(int(asked[2] or len(content)), len(content) - 1)
        if first > last:
            raise HubError(416, "Range Not Satisfiable")
        headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
        return self.answer(content[first : last + 1], 206, **headers)

    # How it comes there

    def preupload(self, kind, name, revision):
        asked = json.loads(self.body())
        repository = self.store.writable(kind, name, self.token)
        there = repository.find(revision).files
        files = []
        for file in asked["files"]:
            path, large = file["path"], is_large(file["path"], base64.b64decode(file["sample"]))
            mode = {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            oid = {"oid": there[path].etag} if path in there else {}
            files.append({"path": path, **mode, **oid})
        self.answer({"files": files})

    def batch(self, kind, name):
        asked = json.loads(self.body())
        self.store.writable(kind, name, self.token)
        objects = []
        for one in asked["objects"]:
            entry = {"oid": one["oid"], "size": one["size"]}
            if not self.store.path_of(one["oid"]).exists():
                verify = f"{self.url_of(kind, name)}.git/info/lfs/objects/verify"
                upload = {"href": f"{self.server.storage}/{one['oid']}"}
                entry["actions"] = {"upload": upload, "verify": {"href": verify}}
            objects.append(entry)
        self.answer({"transfer": "basic", "objects": objects})

    def receive(self, sha256):
        self.check_no_token()
        length = int(self.headers["Content-Length"])
        if self.must_stall():
            self.rfile.read(length // 2)
            # What was let through arrives at the same time, and is to be there by then.
            with (arrivals := self.server.uploads_on_their_way):
                arrivals.wait_for(lambda: self.server.uploads_to_arrive <= 0)
            self.server.stalled.set()
            self.server.may_upload.wait()
            self.close_connection = True
            return
        content = self.rfile.read(length)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise HubError(400, "The content is not what was announced")
        self.store.keep(content, is_large=True)
        with (arrivals := self.server.uploads_on_their_way):
            self.server.uploads_to_arrive -= 1
            arrivals.notify_all()
        self.answer(b"")

    def must_stall(self):
        with self.store.lock:
            left = self.server.uploads_before_stalling
            if left is not None and left > 0:
                self.server.uploads_before_stalling = left - 1
            return left == 0

    def deliver(self, sha256):
        self.check_no_token()
        if self.server.download_breaks:
            self.server.download_breaks = False
            content = self.store.path_of(sha256).read_bytes()
            self.close_connection = True
            length = str(len(content))
            return self.answer(content[: len(content) // 2], Content_Length=length)
        self.answer_range(self.store.path_of(sha256).read_bytes(), Accept_Ranges="bytes")

    def check_no_token(self):
        """Storage belongs to others: a token that is sent there has leaked."""
        if self.token is not None:
            raise HubError(400, "Got a token, expected none outside of the Hub")

    def verify(self, kind, name):
        asked = json.loads(self.body())
        self.store.writable(kind, name, self.token)
        path = self.store.path_of(asked["oid"])
        if not path.exists() or path.stat().st_size != asked["size"]:
            raise HubError(404, "The object is not there")
        self.answer({})

    def commit(self, kind, name, revision):
        lines = [json.loads(line) for line in self.body().splitlines()]
        repository = self.store.writable(kind, name, self.token)
        if revision not in repository.branches:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files = dict(repository.find(revision).files)
        for line in lines[1:]:
            self.apply(line["key"], line["value"], files)
        made = repository.commit(revision, lines[0]["value"]["summary"], files)
        url = f"{self.url_of(kind, name)}/commit/{made.sha}"
        self.answer({"success": True, "commitOid": made.sha, "commitUrl": url})

    def apply(self, key, value, files):
        path = value["path"]
        if key == "file":
            files[path] = self.store.keep(base64.b64decode(value["content"]), is_large=False)
        elif key == "lfsFile":
            if not self.store.path_of(value["oid"]).exists():
                raise HubError(400, f"The content of {path} was not uploaded")
            files[path] = self.store.describe(value["oid"], is_large=True)
        elif key == "deletedFile":
            del files[path]
        else:
            for file in [file for file in files if file.startswith(f"{path.rstrip('/')}/")]:
                del files[file]


def describe_folder(path):
    oid = hashlib.sha1(path.encode()).hexdigest()
    return {"type": "directory", "path": path, "oid": oid, "size": 0}
