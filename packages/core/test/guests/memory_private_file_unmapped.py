"""A private mapping of a volume's file that is unmapped after the checkpoint comes back with file and own pages."""

import os

from guest import PAGE, expect, libc, map_memory, peek, permissions, poke, run

values = {}


def prepare():
    with open("mapped", "wb") as file:
        file.write(b"file".ljust(PAGE, b".") * 4)
    fd = os.open("mapped", os.O_RDONLY)
    values["region"] = map_memory(4 * PAGE, fd)
    os.close(fd)
    poke(values["region"], b"mine")


def change(count):
    libc.munmap(values["region"], 4 * PAGE)
    open("mapped", "ab").write(b"%d" % count)


def verify():
    expect(permissions(values["region"]), "rw-p")
    expect([peek(values["region"] + page * PAGE, 5) for page in range(2)], [b"mine.", b"file."])


run(prepare, change, verify)
