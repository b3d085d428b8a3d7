"""PyPI's websockets on both sides: an echo server, and a client that comes through the gateway.

Usage: websocket.py serve | websocket.py ask URL CA HOST PORT

With `-` in the place of CA it asks in clear, and whoever refuses the other paths may say so
as it likes. The server listens at the port PORT of its environment, if there is one.
"""

import asyncio
import os
import ssl
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def run_server():
    async with serve(echo, "127.0.0.1", int(os.environ.get("PORT", "0")), max_size=None, ping_interval=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        print("the program is up", flush=True)
        await asyncio.get_running_loop().create_future()


async def ask(url, authority, host, port):
    where = dict(host="127.0.0.1", port=int(port), max_size=None, proxy=None)
    if authority != "-":
        where.update(ssl=ssl.create_default_context(cafile=authority), server_hostname=host)
    async with connect(url + "/ws/echo", **where) as connection:
        for message in ["hello", "", "caf\u00e9", b"\x00\xff" * 500_000] + [str(n) for n in range(200)]:
            await connection.send(message)
            back = await connection.recv()
            assert back == message, (len(back), len(message))
        latency = await (await connection.ping())
        assert latency >= 0
        await connection.close(4000, "enough")
        assert connection.close_code == 4000, connection.close_code
    # A route that allows no upgrade refuses the handshake.
    for path, status in [("/plain/echo", None if authority == "-" else 403), ("/nowhere", None if authority == "-" else 404)]:
        try:
            async with connect(url + path, **where):
                raise SystemExit(f"{path} was upgraded")
        except websockets.exceptions.InvalidStatus as refused:
            found = refused.response.status_code
            assert status is None or found == status, (path, found)
            assert found != 101
    print("all as it must be")


if sys.argv[1] == "serve":
    asyncio.run(run_server())
else:
    asyncio.run(ask(*sys.argv[2:]))
