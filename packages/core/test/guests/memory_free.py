"""MADV_FREE after the checkpoint: contents come back, whether the kernel took the pages or not."""

import ctypes

from guest import PAGE, expect, libc, map_memory, peek, run

SIZE = 64 * PAGE
values = {"changed": False}


def prepare():
    values["region"] = map_memory(SIZE)
    ctypes.memset(values["region"], 9, SIZE)


def change(count):
    values["changed"] = True
    libc.madvise(values["region"], SIZE, 8)
    if count % 2:
        libc.madvise(values["region"], SIZE, 21)  # MADV_PAGEOUT: freed pages go at once


def verify():
    expect(values["changed"], False)
    expect(peek(values["region"], SIZE), b"\x09" * SIZE)


run(prepare, change, verify)
