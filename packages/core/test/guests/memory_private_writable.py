"""Private mappings of files that were open for writing when they were mapped, which keeps the files' mount busy."""

import mmap
import os

from guest import PAGE, expect, libc, map_memory, peek, poke, run

values = {}


def prepare():
    with open("mapped", "wb") as file:
        file.write(b"file".ljust(PAGE, b".") * 4)
    fd = os.open("mapped", os.O_RDWR)
    values["region"] = map_memory(4 * PAGE, fd)
    os.close(fd)
    poke(values["region"], b"mine")
    poke(values["region"] + 2 * PAGE, b"also mine")
    libc.mprotect(values["region"] + 2 * PAGE, PAGE, mmap.PROT_READ)


def change(count):
    poke(values["region"], b"changed %d" % count)
    poke(values["region"] + PAGE, b"changed %d" % count)
    name = f"other {count}"
    with open(name, "wb") as file:
        file.write(bytes(PAGE))
    with open(name, "r+b") as file:
        values[name] = mmap.mmap(file.fileno(), PAGE, access=mmap.ACCESS_COPY)
    values[name][0:5] = b"other"


def verify():
    begins = [peek(values["region"] + page * PAGE, 9) for page in range(4)]
    expect(begins, [b"mine.....", b"file.....", b"also mine", b"file....."])
    expect(open("mapped", "rb").read(4), b"file")
    expect([name for name in values if name != "region"], [])


run(prepare, change, verify)
