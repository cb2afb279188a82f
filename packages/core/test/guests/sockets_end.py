"""After a checkpoint the other end hears at once that one was closed, and its port and name are free: nothing else holds
it. Here the verdict comes before the change as well as after it."""

import os
import socket

from guest import expect, run

values = {}


def listen_on(port=0):
    server = socket.socket()
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def connect_to(server):
    client = socket.create_connection(server.getsockname())
    return client, server.accept()[0]


def prepare():
    values["pair"] = socket.socketpair()
    values["server"] = listen_on()
    values["connection"] = connect_to(values["server"])
    values["changes"] = 0


def close_and_see(near, far):
    near.close()
    far.settimeout(5)
    expect(far.recv(10), b"", "the end:")


def change(count):
    values["changes"] += 1
    if count > 1:
        return
    close_and_see(*values["pair"])
    try:
        values["pair"][1].send(b"x")
        raise AssertionError("no EPIPE")
    except BrokenPipeError:
        pass
    # The server's end goes last, so that no TIME_WAIT keeps the port.
    close_and_see(*values["connection"])
    values["connection"][1].close()
    port = values["server"].getsockname()[1]
    values["server"].close()
    listen_on(port).close()


def verify():
    expect(values["changes"], 0, "changes that are not taken back:")
    for near, far in (values["pair"], values["connection"]):
        near.send(b"alive")
        expect(far.recv(10), b"alive")


run(prepare, change, verify)
