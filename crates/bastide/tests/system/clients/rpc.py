"""PyPI's grpcio on both sides: a server, and a client that comes through the gateway.

Usage: rpc.py serve | rpc.py ask CA HOST PORT | rpc.py refused CA HOST PORT

With `-` in the place of CA it asks in clear. The server listens at the port PORT of its
environment, if there is one.
"""

import os
import re
import sys
import threading
from concurrent import futures

import grpc

SERVICE = "shop.Echo"


def once(request, context):
    if request == b"wrong":
        context.set_trailing_metadata((("x-reason", "asked for it"),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong, as asked")
    return request


def many(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def both(requests, context):
    for request in requests:
        yield request.upper()


def never(request, context):
    threading.Event().wait(20)
    return b""


def run_server():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    handlers = {
        "Once": grpc.unary_unary_rpc_method_handler(once),
        "Many": grpc.unary_stream_rpc_method_handler(many),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Never": grpc.unary_unary_rpc_method_handler(never),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    print(server.add_insecure_port("127.0.0.1:" + os.environ.get("PORT", "0")), flush=True)
    server.start()
    print("the program is up", flush=True)
    server.wait_for_termination()


def connect(authority, host, port):
    options = [("grpc.default_authority", host), ("grpc.enable_http_proxy", 0)]
    if authority == "-":
        return grpc.insecure_channel("127.0.0.1:" + port, options)
    with open(authority, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options[0] = ("grpc.ssl_target_name_override", host)
    return grpc.secure_channel("127.0.0.1:" + port, credentials, options)


def ask(authority, host, port):
    with connect(authority, host, port) as channel:
        unary = channel.unary_unary(f"/{SERVICE}/Once")
        assert unary(b"hello", timeout=50) == b"hello"
        assert unary(b"x" * 1_000_000, timeout=50) == b"x" * 1_000_000
        try:
            unary(b"wrong", timeout=50)
            raise SystemExit("an error came as a success")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            assert error.details() == "wrong, as asked", error
            assert dict(error.trailing_metadata())["x-reason"] == "asked for it", error
        numbers = list(channel.unary_stream(f"/{SERVICE}/Many")(b"500", timeout=50))
        assert numbers == [b"%d" % number for number in range(500)]
        # Each message waits for the answer to the one before.
        turn, said = threading.Semaphore(1), []

        def say():
            for word in [b"one", b"two", b"three"] * 20:
                turn.acquire()
                yield word

        for answer in channel.stream_stream(f"/{SERVICE}/Both")(say(), timeout=50):
            said.append(answer)
            turn.release()
        assert said == [b"ONE", b"TWO", b"THREE"] * 20
        try:
            channel.unary_unary(f"/{SERVICE}/Never")(b"", timeout=0.3)
            raise SystemExit("a deadline was not kept")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        # A path that no route has.
        try:
            channel.unary_unary("/other.Service/Once")(b"", timeout=50)
            raise SystemExit("a service that is not routed was reached")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
        assert unary(b"still here", timeout=50) == b"still here"
    print("all as it must be")


def refused(authority, host, port):
    """What the gateway refuses it refuses as a call: with its own status, and the request's id."""
    with connect(authority, host, port) as channel:
        for path, body, metadata, code, title in [
            ("/other.Service/Once", b"", (), "UNIMPLEMENTED", "Not Found"),
            ("/shop.Keys/Once", b"", (), "UNAUTHENTICATED", "Unauthorized"),
            (f"/{SERVICE}/Once", b"", (("x_under", "1"),), "INTERNAL", "Bad Request"),
            (f"/{SERVICE}/Once", b"x" * 3_000_000, (), "RESOURCE_EXHAUSTED", "Payload Too Large"),
            ("/shop.Often/Once", b"", (), "UNIMPLEMENTED", None),
            ("/shop.Often/Once", b"", (), "RESOURCE_EXHAUSTED", "Too Many Requests"),
            ("/shop.Gone/Once", b"", (), "UNAVAILABLE", "Bad Gateway"),
        ]:
            try:
                channel.unary_unary(path)(body, timeout=50, metadata=metadata)
                raise SystemExit(f"{path} was reached")
            except grpc.RpcError as error:
                assert error.code().name == code, error
                if title:
                    assert re.fullmatch(title + r" \(request [0-9a-f]{32}\)", error.details()), error
                    assert dict(error.trailing_metadata())["x-request-id"] in error.details(), error
    print("all as it must be")


if sys.argv[1] == "serve":
    run_server()
else:
    {"ask": ask, "refused": refused}[sys.argv[1]](*sys.argv[2:])
