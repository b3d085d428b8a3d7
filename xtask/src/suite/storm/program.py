"""The programs of the storm: two services, and their clients.

`serve NAME`: payments answers; orders asks payments by the outbound proxy and passes the answer on.
`ask SECONDS CLIENTS PORT`: asks orders by the outbound proxy, every other time on a new connection, and
writes down how many requests were answered and how many failed.
"""

import http.client
import http.server
import os
import sys
import threading
import time
import urllib.parse

OUTBOUND = urllib.parse.urlsplit(os.environ["BASTIDE_OUTBOUND_PROXY"])


class Way:
    """Requests through the outbound proxy, on one connection until it is dropped."""

    def __init__(self):
        self.connection = None

    def get(self, url, anew):
        if anew:
            self.drop()
        if self.connection is None:
            self.connection = http.client.HTTPConnection(OUTBOUND.hostname, OUTBOUND.port, timeout=30)
        try:
            self.connection.request("GET", url)
            answer = self.connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            self.drop()
            raise

    def drop(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def serve(name):
    own = threading.local()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, text = 200, "paid"
            if name == "orders":
                if not hasattr(own, "way"):
                    own.way, own.count = Way(), 0
                own.count += 1
                status, text = own.way.get("http://payments/charges", own.count % 2 == 0)
            body = text.encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 256
        daemon_threads = True

    Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()


def ask(seconds, clients):
    ends = time.monotonic() + seconds
    counts, lock = {"answered": 0, "failed": 0}, threading.Lock()

    def one():
        way, number = Way(), 0
        while time.monotonic() < ends:
            number += 1
            try:
                status, text = way.get("http://orders/paid", number % 2 == 0)
                good = status == 200 and text == "paid"
                what = f"{status} {text}"
            except (OSError, http.client.HTTPException) as fault:
                good, what = False, repr(fault)
            with lock:
                counts["answered" if good else "failed"] += 1
            if not good:
                print("FAIL", what, flush=True)
                time.sleep(0.1)
            time.sleep(0.01)

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open("verdict", "w", encoding="utf-8") as verdict:
        verdict.write(f"{seconds} s: answered {counts['answered']} , failed {counts['failed']}\n")


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    ask(int(sys.argv[2]), int(sys.argv[3]))
