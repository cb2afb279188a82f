"""A socket whose connection was reset, and which was told so, or was ended by both, goes on to show what had arrived and
then the end, whether or not it is there yet."""

import errno
import os
import socket
import struct

from guest import expect, run

FULL = ("reset full", "ended full")
values = {}


def connect():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


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
    # Something waits in these.
    values["reset full"], other = connect()
    other.send(b"left")
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()
    expect(values["reset full"].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), errno.ECONNRESET)
    values["ended full"], other = connect()
    values["ended full"].shutdown(socket.SHUT_WR)
    other.send(b"left")
    expect(other.recv(10), b"")
    other.close()
    values["names"] = [values[name].getsockname() for name in FULL]
    # One that never was connected is another matter.
    values["fresh"] = socket.socket()


def change(count):
    for name in FULL:
        if values[name].type == socket.SOCK_STREAM:
            values[name].recv(10)
    for name in ("reset", "accepted", "fresh", "server", *FULL):
        if count % 2 == 0 and name in ("server", *FULL):
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
    for name in FULL:
        expect(values[name].recv(10, socket.MSG_PEEK), b"left")
        try:
            values[name].getpeername()
            raise AssertionError("it is connected")
        except OSError as error:
            expect(error.errno, errno.ENOTCONN)
    expect([values[name].getsockname() for name in FULL], values["names"])
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
