"""A terminal of which only the slave end is left keeps its number, which the terminal that comes back needs."""

import fcntl
import os
import tty

from guest import expect, run

fds = {}


def prepare():
    fds["master"], fds["slave"] = os.openpty()
    tty.setraw(fds["slave"])
    fds["name"] = os.ttyname(fds["slave"])
    fds["flags"] = fcntl.fcntl(fds["slave"], fcntl.F_GETFL)


def change(count):
    if fds["master"] is not None:
        os.close(fds["master"])
        fds["master"] = None
    if count % 2 == 0:
        os.close(fds["slave"])
        fds["slave"] = os.open("/dev/null", os.O_RDONLY)


def verify():
    expect(os.ttyname(fds["slave"]), fds["name"])
    expect(fcntl.fcntl(fds["slave"], fcntl.F_GETFL), fds["flags"])
    os.write(fds["master"], b"in")
    os.write(fds["slave"], b"out")
    expect((os.read(fds["slave"], 10), os.read(fds["master"], 10)), (b"in", b"out"))


run(prepare, change, verify)
