"""A server of the part of the Hub that receives small files."""

import json
import threading
from base64 import b64decode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HubHandler(BaseHTTPRequestHandler):
    """The endpoints of the Hub that an upload of small files calls."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.tokens.add(self.headers.get("Authorization"))
        kind = "datasets" if "/api/datasets/" in self.path else "models"
        commit = f"/api/{kind}/{self.server.repository}/commit/main"
        if self.server.refuses:
            return self.send_error(403)
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self.answer({"url": f"{self.server.url}/{self.server.repository}"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if self.path == commit.replace("commit", "preupload"):
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            return self.answer({"files": [{"path": path, **modes} for path in files]})
        if self.path == commit:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = b64decode(line["value"]["content"])
                    self.server.files[line["value"]["path"]] = content
            return self.answer(
                {
                    "commitUrl": f"{self.server.url}/{self.server.repository}/commit/0",
                    "commitOid": "0" * 40,
                }
            )
        return self.send_error(404)

    def answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def hub_server(repository="someone/toy-emotions"):
    """A server at `url`, which remembers `files`, what was `created` and with which `tokens`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), HubHandler) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.repository = repository
        server.files, server.created, server.tokens, server.refuses = {}, [], set(), False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
