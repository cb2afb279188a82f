"""Open files: offset, append, close-on-exec, O_NONBLOCK, shared and separate descriptions, and what they write to."""

import fcntl
import os

from guest import expect, run

fds = {}


def prepare():
    with open("data", "wb") as file:
        file.write(b"0123456789" * 100)
    fds["reading"] = os.open("data", os.O_RDONLY)
    os.lseek(fds["reading"], 5, os.SEEK_SET)
    fds["shared"] = os.dup(fds["reading"])
    fds["separate"] = os.open("data", os.O_RDONLY)
    os.lseek(fds["separate"], 7, os.SEEK_SET)
    fds["appending"] = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fds["appending"], b"first\n")
    fds["both"] = os.open("out", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)
    os.write(fds["both"], b"some text")
    os.set_inheritable(fds["both"], True)
    fds["high"] = fcntl.fcntl(fds["both"], fcntl.F_DUPFD_CLOEXEC, 200)


def change(count):
    os.lseek(fds["reading"], 100 + count, os.SEEK_SET)
    os.write(fds["appending"], b"second\n")
    os.ftruncate(fds["both"], 1)
    os.set_blocking(fds["both"], True)
    os.set_inheritable(fds["both"], False)
    fcntl.fcntl(fds["appending"], fcntl.F_SETFL, 0)
    os.open("new", os.O_CREAT | os.O_WRONLY)
    if count == 1:
        os.set_inheritable(fds["high"], True)
        os.dup2(fds["separate"], fds["shared"])
        os.close(fds["separate"])
        os.rename("log", "old log")
        os.rename("out", "moved")
    else:
        os.open("data", os.O_RDONLY)
        os.dup2(fds["both"], fds["high"])


def verify():
    listed = {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}
    expect(listed, {0, 1, 2, *fds.values()})
    expect(sorted(os.listdir(".")), ["data", "log", "out"])
    expect(os.read(fds["reading"], 3), b"567")
    expect(os.read(fds["shared"], 3), b"890")
    expect(os.read(fds["separate"], 3), b"789")
    os.write(fds["appending"], b"next\n")
    expect(open("log").read(), "first\nnext\n")
    expect(fcntl.fcntl(fds["appending"], fcntl.F_GETFL) & os.O_APPEND, os.O_APPEND)
    expect((os.get_blocking(fds["both"]), os.get_inheritable(fds["both"])), (False, True))
    expect(os.get_inheritable(fds["high"]), False)
    os.write(fds["high"], b" and more")
    expect(os.lseek(fds["both"], 0, os.SEEK_CUR), 18)
    expect(os.pread(fds["both"], 100, 0), b"some text and more")
    expect(open("out").read(), "some text and more")


run(prepare, change, verify)
