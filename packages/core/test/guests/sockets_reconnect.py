"""Connections that ended since come back although one of their ends waits out its ports (TIME_WAIT), whoever closed
first, and also where they had come back before."""

import socket

from guest import expect, run

values = {}


def prepare():
    values["connections"] = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for _ in range(2):
            with socket.create_server((address, 0), family=family) as server:
                client = socket.create_connection(server.getsockname()[:2])
                values["connections"].append((client, server.accept()[0]))


def change(count):
    for index, ends in enumerate(values["connections"]):
        first, second = ends if index % 2 == 0 else reversed(ends)
        if first.fileno() < 0:
            continue
        first.shutdown(socket.SHUT_WR)
        expect(second.recv(10), b"")
        second.close()
        expect(first.recv(10), b"")
        first.close()


def verify():
    for near, far in values["connections"]:
        near.send(b"there")
        expect(far.recv(10), b"there")
        far.send(b"back")
        expect(near.recv(10), b"back")


run(prepare, change, verify)
