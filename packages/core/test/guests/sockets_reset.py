"""A socket whose connection was reset, and which was told so, goes on to show the end, whether or not it is there yet."""

import os
import socket

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
    # One that never was connected is another matter.
    values["fresh"] = socket.socket()


def change(count):
    for name in ("reset", "fresh"):
        values[name].close()
        values[name] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        values[name].setblocking(False)


def verify():
    expect(values["reset"].recv(10), b"")
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
