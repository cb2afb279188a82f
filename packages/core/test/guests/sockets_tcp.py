"""TCP and UDP over loopback: listeners, connections with both ends inside, what waits in them, closed ends."""

import os
import socket

from guest import expect, run

values = {}


def connect_to(server):
    client = socket.create_connection(server.getsockname()[:2])
    return client, server.accept()[0]


def prepare():
    server = values["server"] = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", 0))
    server.listen(5)
    values["used"] = connect_to(server)
    values["used"][0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    values["used"][0].send(b"waits for the server")
    values["idle"] = connect_to(server)
    values["closed"] = connect_to(server)
    values["closed"][0].send(b"waits in a connection that is closed later")
    values["closed"][1].send(b"and back")
    values["closed"][1].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    values["closed_names"] = [(end.getsockname(), end.getpeername()) for end in values["closed"]]
    values["half"] = connect_to(server)
    values["half"][0].send(b"request")
    values["half"][0].shutdown(socket.SHUT_WR)
    values["server6"] = socket.create_server(("::1", 0), family=socket.AF_INET6)
    values["closed6"] = connect_to(values["server6"])
    values["udp"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    values["udp"].bind(("127.0.0.1", 0))
    values["udp_name"] = values["udp"].getsockname()
    # A server with a client in another process, which keeps its connection.
    values["child_server"] = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        connection, _ = values["child_server"].accept()
        try:
            while data := connection.recv(1000):
                connection.send(data.upper())
        finally:
            os._exit(0)
    values["keep_alive"] = socket.create_connection(values["child_server"].getsockname())
    # A connection that nobody has accepted yet has no other end.
    values["keep_alive"].send(b"accepted?")
    expect(values["keep_alive"].recv(100), b"ACCEPTED?")
    values["child_server"].close()


def change(count):
    values["used"][1].recv(5)
    values["used"][0].send(b"more")
    values["used"][1].send(b"an answer")
    values["used"][0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    values["keep_alive"].send(b"unread")
    if count == 1:
        values["idle"][0].shutdown(socket.SHUT_WR)
        for end in (*values["closed"], *values["closed6"]):
            end.close()
        values["half"][1].send(b"response")
        values["half"][1].close()
        values["udp"].close()
        values["server6"].close()
    if count == 2:
        values["server"].close()
    values["new"] = socket.create_server(("127.0.0.1", 0))


def expect_nothing(end):
    end.setblocking(False)
    try:
        raise AssertionError(f"{end.recv(100)!r} waits where nothing did")
    except BlockingIOError:
        pass
    end.setblocking(True)


def echo(near, far):
    near.send(b"through")
    expect(far.recv(100), b"through")
    big = bytes(300000)
    far.sendall(big[:100000])
    expect(len(near.recv(100000, socket.MSG_WAITALL)), 100000)


def verify():
    client, server = values["used"]
    expect(server.recv(100, socket.MSG_PEEK), b"waits for the server")
    expect_nothing(client)
    expect(bool(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)), True)
    expect_nothing(values["idle"][0])
    echo(*values["idle"])
    client, server = values["closed"]
    expect([(end.getsockname(), end.getpeername()) for end in values["closed"]], values["closed_names"])
    expect(server.recv(100, socket.MSG_PEEK), b"waits in a connection that is closed later")
    expect(client.recv(100, socket.MSG_PEEK), b"and back")
    expect(bool(server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)), True)
    echo(*values["closed6"])
    client, server = values["half"]
    expect(server.recv(100, socket.MSG_PEEK), b"request")
    expect_nothing(client)
    expect(values["udp"].getsockname(), values["udp_name"])
    values["udp"].sendto(b"to itself", values["udp_name"])
    expect(values["udp"].recv(100), b"to itself")
    echo(*connect_to(values["server"]))
    echo(*connect_to(values["server6"]))
    values["keep_alive"].send(b"question")
    expect(values["keep_alive"].recv(100), b"QUESTION")


run(prepare, change, verify)
