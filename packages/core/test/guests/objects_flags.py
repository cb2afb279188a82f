"""The flags that fcntl(F_SETFL) sets, of descriptors of every kind, also where the object has to be made anew."""

import ctypes
import fcntl
import os
import socket

from guest import expect, libc, run

FLAGS = os.O_APPEND | os.O_NONBLOCK | os.O_ASYNC
MEANINGLESS = 0o2100000  # O_CLOEXEC and O_LARGEFILE: how it was opened
descriptors = {}
flags = {}


def prepare():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    pair = socket.socketpair()
    master, slave = os.openpty()
    deleted = os.open("deleted", os.O_RDWR | os.O_CREAT)
    os.unlink("deleted")
    mask = (ctypes.c_ulong * 16)(1 << 35)
    made = {
        "listener": listener.detach(), "client": client.detach(), "server": server.detach(),
        "left": pair[0].detach(), "right": pair[1].detach(),
        "datagrams": socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(),
        "eventfd": os.eventfd(3), "epoll": libc.epoll_create1(0), "memfd": os.memfd_create("memory"),
        "timerfd": libc.timerfd_create(1, 0), "signalfd": libc.signalfd(-1, mask, 0), "inotify": libc.inotify_init(),
        "master": master, "slave": slave, "deleted": deleted,
        "file": os.open("file", os.O_RDWR | os.O_CREAT), "pipe": os.pipe()[1],
    }  # fmt: skip
    descriptors.update(made)
    for name, fd in descriptors.items():
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | FLAGS)
        flags[name] = fcntl.fcntl(fd, fcntl.F_GETFL) & ~MEANINGLESS


def change(count):
    for fd in descriptors.values():
        try:
            if count % 2:
                os.close(fd)
            else:
                fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        except OSError:
            pass  # closed by a change before


def verify():
    found = {name: fcntl.fcntl(fd, fcntl.F_GETFL) & ~MEANINGLESS for name, fd in descriptors.items()}
    expect({name: oct(value) for name, value in found.items()}, {name: oct(value) for name, value in flags.items()})


run(prepare, change, verify)
