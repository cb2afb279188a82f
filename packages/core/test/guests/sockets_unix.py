"""Unix sockets: what waits in them, which ends are open, shut down or bound, and that ends still tell of each other."""

import os
import socket

from guest import expect, run

values = {}


def pair(kind=socket.SOCK_STREAM):
    return socket.socketpair(socket.AF_UNIX, kind)


def prepare():
    values["stream"] = pair()
    values["stream"][0].send(b"to be read")
    values["packets"] = pair(socket.SOCK_SEQPACKET)
    values["packets"][0].send(b"one")
    values["packets"][0].send(b"two")
    values["datagrams"] = pair(socket.SOCK_DGRAM)
    values["datagrams"][1].send(b"a datagram")
    values["idle"] = pair()
    values["half"] = pair()
    values["half"][0].send(b"the last words")
    values["half"][0].shutdown(socket.SHUT_WR)
    values["left"], gone = pair()
    gone.send(b"of one that closed")
    gone.close()
    values["closed"] = pair()
    values["closed"][0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 30000)
    values["closed"][1].setblocking(False)
    values["closed"][1].send(b"kept")
    values["name"] = f"\0guest-{os.getpid()}"
    values["listener"] = socket.socket(socket.AF_UNIX)
    values["listener"].bind(values["name"])
    values["listener"].listen(7)
    values["child_end"], theirs = pair()
    if os.fork() == 0:
        values["child_end"].close()
        try:
            while data := theirs.recv(100):
                theirs.send(data.upper())
        finally:
            os._exit(0)
    theirs.close()


def change(count):
    values["stream"][0].send(b" and more")
    values["stream"][1].recv(3)
    values["stream"][1].send(b"an answer")
    values["datagrams"][0].send(b"back")
    values["child_end"].send(b"unread")
    if count == 1:
        values["packets"][1].recv(100)
        values["datagrams"][0].recv(100)
        socket.socket(socket.AF_UNIX).connect(values["name"])
        for end in values["closed"]:
            end.close()
        values["idle"][0].shutdown(socket.SHUT_WR)
        values["half"][1].close()
        values["left"].recv(100)
        values["new"] = pair()
    if count == 2:
        values["listener"].close()


def expect_nothing(end):
    end.setblocking(False)
    try:
        raise AssertionError(f"{end.recv(100)!r} waits where nothing did")
    except BlockingIOError:
        pass
    end.setblocking(True)


def verify():
    near, far = values["stream"]
    expect(far.recv(100, socket.MSG_PEEK), b"to be read")
    expect_nothing(near)
    far.send(b"answer")
    expect(near.recv(100), b"answer")
    expect(values["packets"][1].recv(100, socket.MSG_PEEK), b"one")
    expect_nothing(values["packets"][0])
    expect(values["datagrams"][0].recv(100, socket.MSG_PEEK), b"a datagram")
    expect_nothing(values["datagrams"][1])
    for near, far in (values["idle"], reversed(values["idle"])):
        expect_nothing(far)
        near.send(b"through")
        expect(far.recv(100), b"through")
    near, far = values["half"]
    expect(far.recv(100, socket.MSG_PEEK), b"the last words")
    far.send(b"heard")
    expect(near.recv(100), b"heard")
    expect(values["left"].recv(100, socket.MSG_PEEK), b"of one that closed")
    near, far = values["closed"]
    expect(near.recv(100, socket.MSG_PEEK), b"kept")
    expect(near.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), 60000)
    expect(os.get_blocking(far.fileno()), False)
    expect(os.get_blocking(near.fileno()), True)
    client = socket.socket(socket.AF_UNIX)
    client.connect(values["name"])
    server, _ = values["listener"].accept()
    client.send(b"hello")
    expect(server.recv(100), b"hello")
    values["child_end"].send(b"question")
    expect(values["child_end"].recv(100), b"QUESTION")


run(prepare, change, verify)
