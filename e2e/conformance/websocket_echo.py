#!/usr/bin/env python3
"""A WebSocket server that sends back whatever comes. It prints its port and serves until its input ends."""

import asyncio
import sys

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request, TextMessage
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import LocalProtocolError, RemoteProtocolError


def answers(connection, message, event):
    """Yields what an event is answered with."""
    if isinstance(event, Request):
        yield connection.send(AcceptConnection(extensions=[PerMessageDeflate()]))
    elif isinstance(event, (TextMessage, BytesMessage)):
        message.append(event.data)
        if event.message_finished:
            whole = ("" if isinstance(event, TextMessage) else b"").join(message)
            message.clear()
            yield connection.send(type(event)(data=whole))
    elif isinstance(event, (Ping, CloseConnection)):
        yield connection.send(event.response())


async def serve(reader, writer):
    connection, message = WSConnection(ConnectionType.SERVER), []
    try:
        while data := await reader.read(1 << 16):
            if data.startswith(b"GET /up "):
                # What the proxy asks for before it sends anybody.
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            ended = False
            try:
                connection.receive_data(data)
                for event in connection.events():
                    ended = ended or isinstance(event, CloseConnection)
                    for answer in answers(connection, message, event):
                        writer.write(answer)
            except RemoteProtocolError as error:
                if error.event_hint is not None:
                    writer.write(connection.send(error.event_hint))
                ended = True
            except LocalProtocolError:
                ended = True
            await writer.drain()
            if ended:
                return
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
