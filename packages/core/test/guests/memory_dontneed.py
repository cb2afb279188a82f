"""MADV_DONTNEED after the checkpoint: contents come back; before it: zeros stay zeros."""

import ctypes

from guest import PAGE, expect, libc, map_memory, peek, run

SIZE = 64 * PAGE
values = {}


def prepare():
    values["region"] = map_memory(SIZE)
    ctypes.memset(values["region"], 9, SIZE)
    libc.madvise(values["region"] + 32 * PAGE, 16 * PAGE, 4)


def change(count):
    libc.madvise(values["region"], 16 * PAGE, 4)
    ctypes.memset(values["region"] + 32 * PAGE, count, 8 * PAGE)


def verify():
    expect(peek(values["region"], SIZE), b"\x09" * 32 * PAGE + bytes(16 * PAGE) + b"\x09" * 16 * PAGE)


run(prepare, change, verify)
