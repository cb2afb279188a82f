"""Holds one thing that a checkpoint does not capture: unsupported.py KIND."""

import os
import signal
import socket
import sys

import guest

held = []


def hold(kind):
    if kind == "socket":
        # A connection that nobody has accepted.
        held.append(socket.create_server(("127.0.0.1", 0)))
        held.append(socket.create_connection(held[0].getsockname()))
    elif kind == "deleted-directory":
        os.mkdir("directory")
        held.append(os.open("directory", os.O_RDONLY))
        os.rmdir("directory")
    elif kind == "executable-memory":
        guest.expect(guest.libc.prctl(65, 1, 0, 0, 0), 0, "PR_SET_MDWE")
    elif kind == "signal":
        signal.signal(signal.SIGTRAP, signal.SIG_IGN)


def change(count):
    kind = sys.argv[1]
    if kind == "deleted-directory":
        os.close(held[0])
    open("changed", "w").close()


os.chdir("/workspace")
hold(sys.argv[1])
guest.serve(change, lambda: None)
