"""munmap, mmap in its place, mprotect: the mappings are as they were, with their contents."""

from guest import PAGE, expect, libc, map_memory, peek, permissions, poke, run

SIZE = 16 * PAGE
values = {}


def prepare():
    for name in ("whole", "hole", "read_only", "forbidden", "split"):
        values[name] = map_memory(SIZE)
        poke(values[name], name.encode() * 100)
        poke(values[name] + 8 * PAGE, name.encode() * 100)
    libc.mprotect(values["forbidden"], SIZE, 0)


def change(count):
    libc.munmap(values["whole"], SIZE)
    libc.munmap(values["hole"] + 8 * PAGE, PAGE)
    libc.mprotect(values["read_only"], SIZE, 1)
    libc.mprotect(values["forbidden"], SIZE, 3)
    poke(values["forbidden"], b"changed")
    libc.mprotect(values["split"] + 4 * PAGE, PAGE * count, 5)
    for size in (1, 8, 16):
        poke(map_memory(size * PAGE), b"new")


def verify():
    expect(permissions(values["forbidden"]), "---p", "forbidden")
    libc.mprotect(values["forbidden"], SIZE, 1)
    for name, address in values.items():
        wanted = "r--p" if name == "forbidden" else "rw-p"
        expect([permissions(address + page * PAGE) for page in range(16)], [wanted] * 16, name)
        text = name.encode() * 100
        expect(peek(address, len(text)), text, name)
        expect(peek(address + 8 * PAGE, len(text)), text, name)
        expect(peek(address + 9 * PAGE, PAGE), bytes(PAGE), name)


run(prepare, change, verify)
