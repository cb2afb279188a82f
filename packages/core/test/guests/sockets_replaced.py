"""Connections and listeners that went on under other numbers, in the place of files, free their addresses for those that
come back."""

import os
import socket

from guest import expect, run

values = {}


def prepare():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    values["sockets"] = {"server": server, "client": client, "accepted": server.accept()[0]}
    values["files"] = {name: os.open("file " + name, os.O_RDWR | os.O_CREAT) for name in values["sockets"]}


def change(count):
    if count > 1:
        return
    values["sockets"]["client"].shutdown(socket.SHUT_WR)
    values["sockets"]["server"].shutdown(socket.SHUT_RDWR)  # it does not listen any more
    for name, end in values["sockets"].items():
        os.dup2(end.fileno(), values["files"][name])
        os.close(end.detach())


def verify():
    ends = values["sockets"]
    for name, fd in values["files"].items():
        expect(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")), "file " + name)
    ends["client"].send(b"there")
    expect(ends["accepted"].recv(10), b"there")
    with socket.create_connection(ends["server"].getsockname()) as other:
        expect(ends["server"].accept()[0].getpeername(), other.getsockname())


run(prepare, change, verify)
