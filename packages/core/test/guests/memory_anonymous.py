"""Anonymous memory: written pages, untouched pages and a large allocation."""

import ctypes

from guest import PAGE, expect, map_memory, peek, poke, run

SIZE = 256 * PAGE
values = {}


def prepare():
    values["region"] = map_memory(SIZE)
    for page in range(0, 256, 3):
        poke(values["region"] + page * PAGE, b"page %d" % page)
    values["list"] = list(range(100_000))


def change(count):
    ctypes.memset(values["region"], count, SIZE)
    values["list"] = [count] * 50_000
    values["more"] = bytearray(b"x" * (20 << 20))


def verify():
    for page in range(256):
        wanted = b"page %d" % page if page % 3 == 0 else b""
        expect(peek(values["region"] + page * PAGE, PAGE), wanted.ljust(PAGE, b"\0"), f"page {page}")
    expect(sum(values["list"]), 4_999_950_000)
    expect("more" in values, False)


run(prepare, change, verify)
