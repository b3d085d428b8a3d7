"""A mail server that keeps what it gets: aiosmtpd, with TLS and a password.

mail.py starttls|implicit CERTIFICATE KEY FILE: prints its port; writes each letter to FILE as a line of
JSON. A letter to refused@… is refused for good, one to busy@… for now, once.
"""

import json
import socket
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

_, way, certificate, key, file = sys.argv
busy = []


class Keep:
    async def handle_DATA(self, server, session, envelope):
        to = envelope.rcpt_tos[0]
        if to.startswith("refused@"):
            return "550 no such mailbox"
        if to.startswith("busy@") and not busy:
            busy.append(to)
            return "451 come again"
        line = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None,
            "login": session.auth_data,
            "data": envelope.content.decode("utf-8"),
        }
        with open(file, "a") as letters:
            letters.write(json.dumps(line) + "\n")
        return "250 kept"


def judge(server, session, envelope, mechanism, data):
    good = (data.login, data.password) == (b"town", b"s3cret")
    return AuthResult(success=good, handled=good, auth_data=data.login.decode() if good else None)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
if way == "implicit":
    secured = {"ssl_context": context, "auth_require_tls": False}
else:
    secured = {"tls_context": context, "require_starttls": True}
controller = Controller(
    Keep(), hostname="127.0.0.1", port=0, authenticator=judge, auth_required=True, **secured
)


def trigger():
    """The controller asks itself at the port that it was given: here the system gave it."""
    address = controller.server.sockets[0].getsockname()
    with socket.create_connection(address, 5) as connection:
        if way == "implicit":
            anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            anybody.check_hostname = False
            anybody.verify_mode = ssl.CERT_NONE
            connection = anybody.wrap_socket(connection)
        connection.recv(1024)


controller._trigger_server = trigger
controller.start()
print(controller.server.sockets[0].getsockname()[1], flush=True)
threading.Event().wait()
