"""A socket whose connection was reset, and which was told so, goes on to show the end, whether or not it is there yet."""

import os
import socket
import struct

from guest import expect, run

values = {}


def prepare():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        other = server.accept()[0]
    client.send(b"nobody reads this")
    other.close()
    try:
        client.recv(10)
        raise AssertionError("no reset")
    except ConnectionResetError:
        pass
    values["reset"] = client
    values["name"] = client.getsockname()
    # The server's end, whose port the server has, too.
    values["server"] = socket.create_server(("127.0.0.1", 0))
    values["port"] = values["server"].getsockname()
    client = socket.create_connection(values["port"])
    values["accepted"] = values["server"].accept()[0]
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    try:
        values["accepted"].recv(10)
        raise AssertionError("no reset")
    except ConnectionResetError:
        pass
    # One that never was connected is another matter.
    values["fresh"] = socket.socket()


def change(count):
    for name in ("reset", "accepted", "fresh", "server"):
        if count % 2 == 0 and name == "server":
            continue
        values[name].close()
        values[name] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        values[name].setblocking(False)


def verify():
    expect(values["reset"].recv(10), b"")
    expect(values["accepted"].recv(10), b"")
    expect((values["accepted"].getsockname(), values["server"].getsockname()), (values["port"], values["port"]))
    with socket.create_connection(values["port"]) as client, values["server"].accept()[0] as end:
        client.send(b"hello")
        expect(end.recv(10), b"hello")
    expect(values["reset"].getsockname(), values["name"])
    try:
        values["reset"].send(b"x")
        raise AssertionError("no EPIPE")
    except BrokenPipeError:
        pass
    try:
        values["fresh"].recv(10)
        raise AssertionError("it is not connected")
    except OSError as error:
        expect(os.strerror(error.errno), os.strerror(107))


run(prepare, change, verify)
