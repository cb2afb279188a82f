"""Holds one thing that a checkpoint does not capture: unsupported.py KIND."""

import os
import signal
import socket
import subprocess
import sys
import threading

import guest

held = []


def hold(kind):
    if kind == "socket":
        held.extend(socket.socketpair())
    elif kind == "deleted-directory":
        os.mkdir("directory")
        held.append(os.open("directory", os.O_RDONLY))
        os.rmdir("directory")
    elif kind == "signal":
        signal.signal(signal.SIGTRAP, signal.SIG_IGN)
    elif kind == "child":
        held.append(subprocess.Popen(["sleep", "1000"]))
    elif kind == "thread":
        held.append(threading.Event())
        held.append(threading.Thread(target=held[0].wait))
        held[1].start()


def change(count):
    kind = sys.argv[1]
    if kind == "child":
        held[0].kill()
        held[0].wait()
    elif kind == "thread":
        held[0].set()
        held[1].join()
    elif kind == "deleted-directory":
        os.close(held[0])
    open("changed", "w").close()


os.chdir("/workspace")
hold(sys.argv[1])
guest.serve(change, lambda: None)
