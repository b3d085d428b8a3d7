"""A thief: asks with a certificate on a new connection and on one whose session is resumed; when
the file `revoked` is there, says whether both still stand and tries the same again.
"""

import os
import socket
import ssl
import sys
import time

ADDRESS, CERTIFICATE, KEY = (sys.argv[1], int(sys.argv[2])), sys.argv[3], sys.argv[4]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.load_cert_chain(CERTIFICATE, KEY)


def connect(session=None):
    stream = socket.create_connection(ADDRESS, 50)
    return context.wrap_socket(stream, server_hostname="payments", session=session)


def ask(stream):
    stream.sendall(b"GET /rates HTTP/1.1\r\nhost: payments\r\n\r\n")
    said = stream.recv(65536)
    return said.split(b" ")[1].decode() if said else "ended"


def stands(stream):
    try:
        # What is left of the answer, then the end.
        while stream.recv(65536):
            pass
        return "cut"
    except TimeoutError:
        return "open"
    except OSError:
        return "cut"


def tries(what, session):
    try:
        stream = connect(session)
        print(what, "resumed" if stream.session_reused else "new", ask(stream), flush=True)
        return stream
    except OSError as fault:
        print(what, "refused", fault, flush=True)


first = tries("first", None)
second = tries("second", first.session)
while not os.path.exists("revoked"):
    time.sleep(0.02)
print("first", stands(first), flush=True)
print("second", stands(second), flush=True)
tries("third", second.session)
tries("fourth", None)
print("end", flush=True)
