"""Repositories of a local Hub: users, branches, commits, and the files' contents in a folder."""

import hashlib
import os
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import yaml

# What the Hub keeps apart from git, by name; binary files of other names too.
LARGE = (".bin", ".flac", ".mp3", ".npy", ".onnx", ".parquet", ".png", ".safetensors", ".wav")
ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE)


class HubError(Exception):
    """An answer that is no success, with the code that clients tell errors apart by."""

    def __init__(self, status, message, code=None, commit=None, **content):
        super().__init__(message)
        self.status, self.message, self.code, self.commit = status, message, code, commit
        self.content = {"error": message, **content}


@dataclass(frozen=True)
class StoredFile:
    """A version of a file; its content lies in the store under `sha256`."""

    sha256: str
    size: int
    is_large: bool
    git_oid: str

    @property
    def etag(self):
        return self.sha256 if self.is_large else self.git_oid

    def describe(self, path):
        entry = {"type": "file", "path": path, "size": self.size, "oid": self.git_oid}
        if self.is_large:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 128}
        return entry


@dataclass(frozen=True)
class Commit:
    sha: str
    title: str
    date: str
    files: dict = field(repr=False)
    parent: str | None = None


class Repository:
    """A git history as far as clients see it."""

    def __init__(self, kind, name, private, sdk=None):
        self.kind, self.name, self.private, self.sdk = kind, name, private, sdk
        self.commits, self.branches, self.tags = {}, {}, {}

    def find(self, revision):
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        if sha not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[sha]

    def commit(self, branch, title, files):
        parent = self.branches.get(branch)
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        told = f"{self.kind}{self.name}{parent}{len(self.commits)}{title}{sorted(files.items())}"
        made = Commit(hashlib.sha1(told.encode()).hexdigest(), title, date, files, parent)
        self.commits[made.sha] = made
        self.branches[branch] = made.sha
        return made

    def history(self, revision):
        commit = self.find(revision)
        while commit is not None:
            yield commit
            commit = self.commits.get(commit.parent)


class Store:
    """Everything that the Hub remembers."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.repositories = {}
        # Token -> name of the user and whether the token may write.
        self.tokens = {}
        self.lock = threading.RLock()

    def user_of(self, token):
        if token is None:
            return None, False
        if token not in self.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    def create(self, kind, name, private, sdk=None):
        repository = Repository(kind, name, private, sdk)
        attributes = self.keep(ATTRIBUTES.encode(), is_large=False)
        repository.commit("main", "initial commit", {".gitattributes": attributes})
        self.repositories[kind, name] = repository
        return repository

    def readable(self, kind, name, token):
        """A repository that the owner of a token may read; others do not learn that it is there."""
        user, _ = self.user_of(token)
        found = self.repositories.get((kind, name))
        if found is not None and (not found.private or user == name.split("/")[0]):
            return found
        if user is None:
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        raise HubError(404, "Repository not found", "RepoNotFound")

    def writable(self, kind, name, token):
        found = self.readable(kind, name, token)
        self.check_writer(name.split("/")[0], token)
        return found

    def check_writer(self, namespace, token):
        user, may_write = self.user_of(token)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        if user != namespace or not may_write:
            raise HubError(403, f'You don\'t have the rights to write under "{namespace}"')

    def path_of(self, sha256):
        return self.folder / sha256

    def keep(self, content, is_large):
        """Store a content once, under its hash, whole or not at all."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.path_of(sha256).exists():
            partial = self.folder / f"{sha256}.{threading.get_ident()}"
            partial.write_bytes(content)
            os.replace(partial, self.path_of(sha256))
        return self.describe(sha256, is_large)

    def describe(self, sha256, is_large):
        content = self.path_of(sha256).read_bytes()
        if is_large:
            text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\n"
            in_git = f"{text}size {len(content)}\n".encode()
        else:
            in_git = content
        git_oid = hashlib.sha1(b"blob %d\0" % len(in_git) + in_git).hexdigest()
        return StoredFile(sha256, len(content), is_large, git_oid)

    def read(self, kind, name, revision="main"):
        """Contents of a repository by path, for tests; what the Hub itself put there left out."""
        files = self.repositories[kind, name].find(revision).files
        return {
            path: self.path_of(file.sha256).read_bytes()
            for path, file in files.items()
            if path != ".gitattributes"
        }

    def card_of(self, commit):
        """Metadata of the README, as the Hub shows them."""
        if "README.md" not in commit.files:
            return {}
        text = self.path_of(commit.files["README.md"].sha256).read_text()
        return parse_metadata(text)


def parse_metadata(text):
    """The YAML between the lines of dashes that a card starts with."""
    if not text.startswith("---\n"):
        return {}
    return yaml.safe_load(text.split("\n---\n", 1)[0][4:]) or {}


def is_large(path, sample):
    return path.endswith(LARGE) or b"\0" in sample
