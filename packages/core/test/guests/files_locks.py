"""Locks of all three kinds, as another process sees them: kept over a checkpoint, and back after a rollback."""

import fcntl
import os
import struct
import subprocess
import sys

from guest import expect, run

fds = {}
# Tries to take locks from outside and says which it got: whole files, then bytes 0, 10 and 20 of "records".
PROBE = """
import fcntl, os, sys
got = []
for name, path in (("flock", "flock"), ("directory", "."), ("memory", sys.argv[1])):
    try:
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
        got.append(name)
    except BlockingIOError:
        pass
for name in ("records", sys.argv[1]):
    with open(name, "r+") as file:
        for start in (0, 10, 20):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, start)
                got.append(start)
            except BlockingIOError:
                pass
print(got)
"""


def probe():
    memory = f"/proc/{os.getpid()}/fd/{fds['memory']}"
    return subprocess.run(
        [sys.executable, "-c", PROBE, memory], capture_output=True, text=True, check=True
    ).stdout.strip()


def prepare():
    for name in ("flock", "records"):
        fds[name] = os.open(name, os.O_RDWR | os.O_CREAT)
        os.write(fds[name], bytes(100))
    fds["open file"] = os.open("records", os.O_RDWR)
    fds["directory"] = os.open(".", os.O_RDONLY)
    fds["memory"] = os.memfd_create("locked")
    os.write(fds["memory"], bytes(100))
    fcntl.flock(fds["flock"], fcntl.LOCK_SH)
    fcntl.flock(fds["directory"], fcntl.LOCK_EX)
    fcntl.flock(fds["memory"], fcntl.LOCK_EX)
    fcntl.lockf(fds["memory"], fcntl.LOCK_EX, 5, 0)
    fcntl.lockf(fds["records"], fcntl.LOCK_EX, 5, 0)
    fcntl.fcntl(fds["open file"], fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 10, 5, 0))


def change(count):
    fcntl.flock(fds["flock"], fcntl.LOCK_UN if count == 1 else fcntl.LOCK_EX)
    fcntl.flock(fds["directory"], fcntl.LOCK_UN)
    fcntl.flock(fds["memory"], fcntl.LOCK_UN)
    fcntl.lockf(fds["memory"], fcntl.LOCK_UN, 5, 0)
    fcntl.lockf(fds["records"], fcntl.LOCK_UN, 5, 0)
    fcntl.fcntl(fds["open file"], fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_UNLCK, 0, 0, 0, 0))
    fcntl.lockf(fds["records"], fcntl.LOCK_EX, 5, 20)


def verify():
    expect(probe(), "[20, 10, 20]")
    # Shared: a second reader gets in.
    with open("flock") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


run(prepare, change, verify)
