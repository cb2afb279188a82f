"""A segment of System V that is attached."""

import ctypes

from guest import PAGE, expect, libc, peek, poke, run

libc.shmat.restype = ctypes.c_void_p
values = {}


def prepare():
    values["id"] = libc.shmget(0, 4 * PAGE, 0o1600)
    values["segment"] = libc.shmat(values["id"], None, 0)
    poke(values["segment"], b"of System V")


def change(count):
    poke(values["segment"], b"OF SYSTEM V")


def verify():
    expect(peek(values["segment"], 11), b"of System V")


run(prepare, change, verify)
