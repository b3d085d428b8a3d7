"""Runs schemathesis against a gateway that holds a route against `api.yaml`. The upstream
behind it asks openapi-core about each request that arrives: an oracle of its own.

Arguments: the gateway's binary, the document, examples per operation. The last line says
how many requests arrived, how many of these break the document, and how schemathesis
itself judged (it expects wrong requests to be refused and right ones to be accepted).
"""

import json
import pathlib
import shutil
import sys
import tempfile
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gateway
from openapi_core import OpenAPI
from openapi_core.contrib.werkzeug.requests import WerkzeugOpenAPIRequest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

PATIENCE_SECONDS = 600
CHECKS = "negative_data_rejection,positive_data_acceptance"

binary, document, examples = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
oracle = OpenAPI.from_file_path(str(document))
lock = threading.Lock()
arrived, wrong = 0, []


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def serve(self):
        global arrived
        body = self.body()
        path, _, query = self.path.partition("?")
        framing = ("host", "transfer-encoding", "content-length")
        headers = [(name, value) for name, value in self.headers.items() if name.lower() not in framing]
        fault = None
        try:
            builder = EnvironBuilder(
                path=urllib.parse.unquote(path),
                base_url="http://localhost/",
                query_string=query,
                method=self.command,
                headers=headers,
                data=body or None,
            )
            oracle.validate_request(WerkzeugOpenAPIRequest(Request(builder.get_environ())))
        except Exception as error:  # Whatever it is: the oracle did not say yes.
            fault = f"{self.command} {self.path} {body[:200]!r}: {error!r} {error.__cause__!r}"
        with lock:
            arrived += 1
            if fault:
                wrong.append(fault)
        answer = b"{}"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = serve

    def log_message(self, *_):
        pass


def configure(folder, upstream):
    shutil.copy(document, folder / "api.yaml")
    (folder / "bastide.yaml").write_text(
        "state: ./state\nadmin: { address: 127.0.0.1:0 }\nlisten: [ 127.0.0.1:0 ]\n"
        f"services: {{ here: [ 'http://127.0.0.1:{upstream}' ] }}\n"
        "routes: [ { match: /**, to: here, authenticate: none, allow: anyone, validate: api.yaml } ]\n"
    )


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configure(folder, server.server_address[1])
    with gateway.serving(binary, folder) as address:
        judged = gateway.schemathesis(folder, document, address, examples, CHECKS, PATIENCE_SECONDS)

for fault in wrong[:20]:
    print("passed although it breaks the document:", fault)
print(json.dumps({"arrived": arrived, "wrong": len(wrong), "refused_by_schemathesis": judged.returncode != 0}))
