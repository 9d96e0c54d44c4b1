"""A stand-in for both hubs: what glimpse and huggingface_hub ask for is answered as the real ones do, and can be made to go wrong.

A hub listens at 127.0.0.1, and what keeps its large files at localhost, which is another host to whoever asks."""

import hashlib
import json
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_of_the_tests"
# What is larger is a shard.
SHARD = 30_000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def changed(data: bytes) -> bytes:
    """As long, and different."""
    return data[:-1] + bytes([data[-1] ^ 1])


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Revision:
    """The files of a commit. Large ones, and those that git would not show, are stored apart."""

    files: dict[str, bytes]

    @property
    def commit(self) -> str:
        listed = "".join(f"{name} {sha256(data)}\n" for name, data in sorted(self.files.items()))
        return hashlib.sha1(listed.encode()).hexdigest()

    def is_large(self, name: str) -> bool:
        return name.endswith((".safetensors", ".model", ".png"))

    def etag(self, name: str) -> str:
        data = self.files[name]
        return sha256(data) if self.is_large(name) else git_blob(data)

    def xet_hash(self, name: str) -> str:
        return sha256(b"xet" + self.files[name])


@dataclass
class Model:
    branches: dict[str, Revision] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def revision(self, named: str) -> Revision | None:
        known = {revision.commit: revision for revision in self.branches.values()}
        return self.branches.get(named) or known.get(named)


@dataclass
class Asked:
    host: str
    method: str
    path: str
    headers: dict[str, str]

    @property
    def start(self) -> int:
        """The first byte that was asked for."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


class StandIn:
    """Models, what was asked for, and what goes wrong next."""

    def __init__(self):
        self.models: dict[str, Model] = {}
        self.renamed: dict[str, str] = {}
        self.asked: list[Asked] = []
        self.lock = threading.Lock()
        # (part of a path) → answers to give instead of the usual, first one first: (status, headers)
        self.refusals: dict[str, list[tuple[int, dict[str, str]]]] = {}
        # Bytes after which each of the next answers with a file's bytes is cut.
        self.cuts: list[int] = []
        # Answers with a file's bytes that are wrong in one place.
        self.spoilt = 0
        # Files whose first answer is: however many are fetched side by side, none gets two.
        self.spoilt_once = 0
        self.began: set[bytes] = set()
        # Answers with a shard's bytes that stand still in the middle until this is set.
        self.stall: threading.Event | None = None
        self.stalls = 0
        # The one shard whose answers do, if not all.
        self.stalls_of: str | None = None
        self.ranges = True
        self.etag = "constant"
        # Sizes to tell instead of the true ones.
        self.sizes: dict[str, int] = {}
        self.signed: Counter = Counter()
        self.uses_of_an_address = 10**9
        self.other_etags: list[str] = []

    def start(self):
        self.hub = self.listen("127.0.0.1", HubHandler)
        self.store = self.listen("localhost", StoreHandler)

    def listen(self, host, handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"world": self, "host": host}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def stop(self):
        if self.stall:
            self.stall.set()
        for server in (self.hub, self.store):
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.hub.server_port}"

    def blob(self, key: str) -> bytes | None:
        for model in self.models.values():
            for revision in model.branches.values():
                for data in revision.files.values():
                    if sha256(data) == key:
                        return data
        return None

    def address(self, data: bytes) -> str:
        """Where a large file's bytes are for a while."""
        with self.lock:
            self.signed[sha256(data)] += 1
            number = self.signed[sha256(data)]
        return f"http://localhost:{self.store.server_port}/{sha256(data)}?signature={number}"

    def refusal(self, path: str) -> tuple[int, dict[str, str]] | None:
        with self.lock:
            for part, answers in self.refusals.items():
                if part in path and answers:
                    return answers.pop(0)
        return None

    def versions(self, name: str) -> list[bytes]:
        """The file's bytes in each commit that has it."""
        return [r.files[name] for m in self.models.values() for r in m.branches.values() if name in r.files]

    def bytes_of(self, name: str) -> list[Asked]:
        """Requests for the bytes of one file, at the store."""
        keys = {sha256(data) for data in self.versions(name)}
        return [asked for asked in self.asked if asked.host == "localhost" and any(key in asked.path for key in keys)]

    def resolved(self, name: str, method: str = "GET") -> list[Asked]:
        """Requests to the hub for one file."""
        return [asked for asked in self.asked if asked.method == method and "/resolve/" in asked.path and asked.path.endswith(f"/{name}")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world: StandIn
    host: str

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.handle_one()

    def do_GET(self):
        self.handle_one()

    def handle_one(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.world.lock:
            self.world.asked.append(Asked(self.host, self.command, self.path, headers))
        refusal = self.world.refusal(self.path)
        try:
            if refusal:
                status, headers = refusal
                self.answer(status, b"no", headers)
            else:
                self.serve()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None):
        self.send_response(status)
        headers = {"Content-Length": str(len(body))} | (headers or {})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value, status: int = 200, headers: dict[str, str] | None = None):
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def send_file(self, data: bytes, headers: dict[str, str]):
        """A file's bytes, or those that are asked for; with whatever is to go wrong."""
        world = self.world
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        with world.lock:
            cut = world.cuts.pop(0) if world.cuts and self.command == "GET" else None
            spoil = world.spoilt > 0 and self.command == "GET"
            world.spoilt -= spoil
            if world.spoilt_once > 0 and self.command == "GET" and data not in world.began:
                world.began.add(data)
                world.spoilt_once -= 1
                spoil = True
            meant = world.stalls_of is None or data in world.versions(world.stalls_of)
            stall = world.stall if world.stalls > 0 and self.command == "GET" and len(data) > SHARD and meant else None
            world.stalls -= stall is not None
        if start >= len(data) > 0 and world.ranges:
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        status, body = 200, data
        if start > 0 and world.ranges:
            status, body = 206, data[start:]
            headers = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        if spoil:
            body = changed(body)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Accept-Ranges": "bytes"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut is not None and cut < len(body):
            self.wfile.write(body[:cut])
            self.wfile.flush()
            self.close_connection = True
            return
        if stall:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            # For what hangs alone: a test sets it.
            stall.wait(600)
            self.close_connection = True
            return
        self.wfile.write(body)


class StoreHandler(Handler):
    """Where large files lie: it knows no model, only addresses that were signed for a while."""

    def serve(self):
        parts = urlsplit(self.path)
        key, number = parts.path.strip("/"), int(parse_qs(parts.query)["signature"][0])
        data = self.world.blob(key)
        with self.world.lock:
            uses = sum(asked.path == self.path and asked.method == "GET" for asked in self.world.asked)
        if data is None or number > self.world.signed[key] or uses > self.world.uses_of_an_address:
            return self.answer(403, b"expired")
        etag = f'"{key[:32]}"' if self.world.etag == "constant" else f'"{number}"'
        self.send_file(data, {"ETag": etag})


class HubHandler(Handler):
    def serve(self):
        parts = urlsplit(self.path)
        path = [unquote(part) for part in parts.path.strip("/").split("/")]
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match path:
            case ["api", "v1", "models", owner, name, "repo", "files"]:
                self.model_scope_files(f"{owner}/{name}", query)
            case ["api", "v1", "models", owner, name, "repo"]:
                self.model_scope_file(f"{owner}/{name}", query)
            case ["api", "models", owner, name, *rest]:
                self.about(f"{owner}/{name}", rest)
            case [owner, name, "resolve", revision, *file]:
                self.resolve(f"{owner}/{name}", revision, "/".join(file))
            case _:
                self.answer(404, b"no such page")

    def model(self, name: str) -> Model | None:
        """The model, unless something else was answered."""
        renamed = self.world.renamed.get(name)
        if renamed:
            path = self.path.replace(f"/{name}", f"/{renamed}", 1)
            self.answer(307, b"", {"Location": path})
            return None
        model = self.world.models.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if model is None or (model.private and not known):
            # Whether there is one is nobody's business who is not known.
            status = 404 if known else 401
            self.json({"error": "Repository not found"}, status, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return None
        if model.gated and "/resolve/" in self.path:
            self.json({"error": "gated"}, 403 if known else 401, {"X-Error-Code": "GatedRepo"})
            return None
        return model

    def about(self, name: str, rest: list[str]):
        model = self.model(name)
        if model is None:
            return
        revision = model.revision(rest[1] if len(rest) > 1 else "main")
        if revision is None:
            return self.json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        if rest[:1] == ["tree"]:
            return self.json([self.entry(revision, file) for file in sorted(revision.files)])
        siblings = [{"rfilename": file} for file in sorted(revision.files)]
        self.json({"_id": "1", "id": name, "modelId": name, "sha": revision.commit, "siblings": siblings, "gated": model.gated, "private": model.private, "tags": []})

    def entry(self, revision: Revision, file: str):
        data = revision.files[file]
        entry = {"type": "file", "path": file, "size": len(data), "oid": git_blob(data)}
        if revision.is_large(file):
            entry |= {"lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 134}}
        return entry

    def resolve(self, name: str, named: str, file: str):
        model = self.model(name)
        if model is None:
            return
        revision = model.revision(named)
        if revision is None:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        commit = {"X-Repo-Commit": revision.commit}
        if file not in revision.files:
            return self.answer(404, b"", commit | {"X-Error-Code": "EntryNotFound"})
        data = revision.files[file]
        etag = f'"{revision.etag(file)}"'
        if not revision.is_large(file):
            return self.send_file(data, commit | {"ETag": etag})
        with self.world.lock:
            if self.command == "GET" and self.world.other_etags:
                etag = self.world.other_etags.pop(0)
        size = self.world.sizes.get(file, len(data))
        linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(size), "X-Xet-Hash": revision.xet_hash(file)}
        self.answer(302, b"", commit | linked | {"Location": self.world.address(data)})

    def model_scope_files(self, name: str, query: dict[str, str]):
        model = self.world.models.get(name)
        revision = model and model.revision(query["Revision"])
        if not revision:
            return self.json({"Code": 10010205001, "Message": "not found", "Success": False}, 404)
        files = [{"Path": file, "Name": file, "Type": "blob", "Size": len(data), "Sha256": sha256(data)} for file, data in revision.files.items()]
        self.json({"Code": 200, "Data": {"Files": files}, "Success": True})

    def model_scope_file(self, name: str, query: dict[str, str]):
        revision = self.world.models[name].revision(query["Revision"])
        data = revision.files[query["FilePath"]]
        if revision.is_large(query["FilePath"]):
            return self.answer(302, b"", {"Location": self.world.address(data)})
        self.send_file(data, {})


@contextmanager
def stand_in():
    world = StandIn()
    world.start()
    try:
        yield world
    finally:
        world.stop()
