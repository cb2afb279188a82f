"""The heap grows and shrinks."""

import ctypes

from guest import PAGE, expect, libc, peek, poke, run

values = {}


def prepare():
    values["start"] = libc.sbrk(32 * PAGE)
    poke(values["start"] + 31 * PAGE, b"top of the heap")
    values["end"] = libc.sbrk(0)


def change(count):
    if count % 2:
        ctypes.memset(libc.sbrk(64 * PAGE), 7, 64 * PAGE)
    else:
        libc.sbrk(-70 * PAGE)
    values["kept"] = bytes(1 << 18)


def verify():
    expect(libc.sbrk(0), values["end"])
    expect(peek(values["start"] + 31 * PAGE, 15), b"top of the heap")


run(prepare, change, verify)
