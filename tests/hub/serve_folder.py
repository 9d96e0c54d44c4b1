#!/usr/bin/env python3
"""A hub with one model, from a folder: for measuring how soon a model is ready that has just come.

    tests/hub/serve_folder.py FOLDER [PORT]       then HF_ENDPOINT=http://127.0.0.1:PORT glimpse serve --model zai-org/glm-4v-9b

Speaks as much of the real protocol as fetching takes, as fast as loopback carries it; any name is this model's. Each file's checksum
is computed first. Needs nothing but Python."""

import hashlib
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0" * 40


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict[str, tuple[Path, str]]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.path.startswith("/api/models/"):
            listing = {"sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
            body = json.dumps(listing).encode()
            self.say(200, len(body), {"Content-Type": "application/json"})
            if self.command == "GET":
                self.wfile.write(body)
            return
        file = self.files.get(unquote(urlsplit(self.path).path.rsplit("/", 1)[-1]))
        if file is None or "/resolve/" not in self.path:
            self.say(404, 0, {"X-Error-Code": "EntryNotFound"})
            return
        path, etag = file
        size = path.stat().st_size
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        said = {"ETag": f'"{etag}"', "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(size), "Accept-Ranges": "bytes"}
        if start:
            said["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self.say(206 if start else 200, size - start, said)
        if self.command == "GET":
            self.wfile.flush()
            with path.open("rb") as data:
                while start < size:
                    start += os.sendfile(self.connection.fileno(), data.fileno(), start, min(size - start, 1 << 26))

    def say(self, status: int, length: int, headers: dict[str, str]):
        self.send_response(status)
        for name, value in ({"Content-Length": str(length), "X-Repo-Commit": COMMIT} | headers).items():
            self.send_header(name, value)
        self.end_headers()


def main():
    folder, port = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 18124
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    with ProcessPoolExecutor() as pool:
        sums = list(pool.map(checksum, paths))
    Hub.files = {path.name: (path, etag) for path, etag in zip(paths, sums, strict=True)}
    server = ThreadingHTTPServer(("127.0.0.1", port), Hub)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
