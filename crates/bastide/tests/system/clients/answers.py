"""A service for tests: says what it was asked, and asks others when it is told to.

`/ask?METHOD,URL` asks on, with the caller's token of the end user and its trace; `/ask-as?TOKEN,METHOD,URL`
with another token. Answers go back as they come. SIGTERM ends it with code 7, the end of its parent with 1.
"""

import http.server
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

NAME = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def ask(self, method, url, token):
        fields = {"x-bastide-user": token, "traceparent": self.headers.get("traceparent")}
        fields = {name: value for name, value in fields.items() if value}
        body = b"" if method == "POST" else None
        try:
            asked = urllib.request.Request(url, method=method, headers=fields, data=body)
            with urllib.request.urlopen(asked, timeout=50) as reply:
                self.answer(reply.status, reply.read().decode())
        except urllib.error.HTTPError as refused:
            self.answer(refused.code, refused.read().decode())

    def serve(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        path, _, what = self.path.partition("?")
        if path == "/ask":
            method, url = what.split(",", 1)
            self.ask(method, url, self.headers.get("x-bastide-user"))
        elif path == "/ask-as":
            token, method, url = what.split(",", 2)
            self.ask(method, url, token)
        else:
            fields = [self.headers.get(name) or "-" for name in ("host", "traceparent", "x-bastide-user")]
            self.answer(200, " ".join([NAME, self.command, self.path, *fields]))

    do_GET = do_POST = serve

    def log_message(self, *_):
        pass


def end(*_):
    print("ending", flush=True)
    os._exit(7)


def end_with(parent):
    """A run that is killed leaves its program behind; a test leaves nobody."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, end)
threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
# In two words, so that the command in a log is not taken for what it prints.
print("the program is", "up", flush=True)
server.serve_forever()
