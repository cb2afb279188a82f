"""Files that were removed and are still open or mapped: contents, offsets and who shares them come back."""

import mmap
import os

from guest import PAGE, expect, libc, peek, poke, run

fds = {}
maps = {}


def prepare():
    for name in ("both", "mapped"):
        fds[name] = os.open(name, os.O_RDWR | os.O_CREAT)
        os.write(fds[name], name.encode() * 2000)
    fds["reader"] = os.open("both", os.O_RDONLY)
    os.lseek(fds["reader"], 4, os.SEEK_SET)
    fds["writer"] = os.open("both", os.O_WRONLY | os.O_APPEND)
    maps["mapped"] = mmap.mmap(fds["mapped"], 12000)
    fds["temporary"] = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fds["temporary"], b"temporary")
    # As sem_open and shm_open with an early unlink leave them: nobody has a descriptor any more.
    semaphore = os.open(f"/dev/shm/sem-{os.getpid()}", os.O_RDWR | os.O_CREAT)
    os.ftruncate(semaphore, 4096)
    maps["semaphore"] = mmap.mmap(semaphore, 4096)
    maps["semaphore"][0:3] = b"sem"
    os.close(semaphore)
    os.unlink(f"/dev/shm/sem-{os.getpid()}")
    # Of one that ends in the first of two pages.
    short = os.open("short", os.O_RDWR | os.O_CREAT)
    os.ftruncate(short, 100)
    maps["short"] = libc.mmap(None, 2 * PAGE, 3, mmap.MAP_SHARED, short, 0)
    poke(maps["short"], b"short")
    os.close(short)
    os.unlink("short")
    for name in ("both", "mapped"):
        os.unlink(name)


def is_readable(address):
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        try:
            return len(os.pread(memory.fileno(), 1, address)) == 1
        except OSError:
            return False


def change(count):
    os.write(fds["writer"], b"appended")
    if count == 1:
        os.pwrite(fds["both"], b"CHANGED", 1000)
    maps["mapped"][0:7] = b"CHANGED"
    maps["semaphore"][0:3] = b"SEM"
    poke(maps["short"], b"SHORT")
    os.ftruncate(fds["temporary"], count)
    os.lseek(fds["reader"], count, os.SEEK_SET)
    if count == 1:
        os.close(fds["both"])
    with open("both", "w") as other:
        other.write("another file under the old name")


def verify():
    expect(os.listdir("."), [])
    expect(os.fstat(fds["both"]).st_nlink, 0)
    expect(os.pread(fds["both"], 10000, 0), b"both" * 2000)
    expect(os.read(fds["reader"], 4), b"both")
    expect(os.lseek(fds["reader"], -4, os.SEEK_CUR), 4)
    expect(maps["mapped"][0:12], b"mappedmapped")
    expect(maps["semaphore"][0:4], b"sem\0")
    expect(peek(maps["short"], 5), b"short")
    expect([is_readable(maps["short"] + page * PAGE) for page in range(2)], [True, False])
    expect(os.pread(fds["temporary"], 100, 0), b"temporary")
    # One file still.
    os.write(fds["writer"], b"more")
    expect(os.pread(fds["reader"], 100, 8000), b"more")
    os.ftruncate(fds["both"], 8000)
    maps["mapped"][0:6] = b"MAPPED"
    expect(os.pread(fds["mapped"], 6, 0), b"MAPPED")
    os.pwrite(fds["mapped"], b"mapped", 0)
    expect(maps["mapped"][0:6], b"mapped")


run(prepare, change, verify)
