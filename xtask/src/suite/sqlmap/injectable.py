"""A shop whose search is open to SQL injection, on purpose: what sqlmap has to find when
nothing stands before it. Listens on loopback, on the port that is its argument."""

import json
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

GOODS = [("cup", 900), ("plate", 1500), ("spoon", 400)]
LOCK = threading.Lock()
DATABASE = sqlite3.connect(":memory:", check_same_thread=False)
DATABASE.execute("CREATE TABLE goods (name TEXT, cents INTEGER)")
DATABASE.executemany("INSERT INTO goods VALUES (?, ?)", GOODS)


class Search(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        wanted = parse_qs(urlsplit(self.path).query).get("q", [""])[0]
        try:
            with LOCK:
                rows = DATABASE.execute(
                    "SELECT name, cents FROM goods WHERE name = '" + wanted + "'"
                ).fetchall()
            status, answer = 200, {"goods": rows}
        except sqlite3.Error as error:
            status, answer = 500, {"error": str(error)}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Search).serve_forever()
