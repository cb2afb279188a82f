"""A private mapping of a file: written pages keep what the program wrote, others show the file, which keeps its own."""

import os

from guest import PAGE, expect, map_memory, peek, poke, run

values = {}


def prepare():
    with open("mapped", "wb") as file:
        file.write(b"file".ljust(PAGE, b".") * 4)
    fd = os.open("mapped", os.O_RDONLY)
    values["region"] = map_memory(4 * PAGE, fd)
    os.close(fd)
    poke(values["region"], b"mine")
    poke(values["region"] + 2 * PAGE, b"also mine")


def change(count):
    for page in range(4):
        poke(values["region"] + page * PAGE, b"changed %d" % count)


def verify():
    begins = [peek(values["region"] + page * PAGE, 9) for page in range(4)]
    expect(begins, [b"mine.....", b"file.....", b"also mine", b"file....."])
    expect(open("mapped", "rb").read(4), b"file")


run(prepare, change, verify)
