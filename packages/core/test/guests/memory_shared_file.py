"""Shared mappings of files: their contents are the file's, and both return; POSIX shared memory is such a file."""

import mmap
import os

from guest import expect, run

places = {}
maps = {}
fds = {}


def prepare():
    places["workspace"] = "mapped"
    places["shm"] = f"/dev/shm/guest-{os.getpid()}"
    for name, path in places.items():
        fds[name] = os.open(path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(fds[name], 16384)
        maps[name] = mmap.mmap(fds[name], 16384)
        maps[name][0:6] = b"before"
        maps[name][8192:8198] = b"second"
    maps["closed"] = mmap.mmap(fds["workspace"], 4096, offset=8192)
    maps["reader"] = mmap.mmap(fds["shm"], 16384, prot=mmap.PROT_READ)
    os.close(fds.pop("shm"))


def change(count):
    maps["workspace"][0:6] = b"after%d" % (count % 10)
    maps["closed"][100:103] = b"new"
    maps["shm"][8192:8198] = b"SECOND"
    os.pwrite(fds["workspace"], b"written", 4096)
    os.truncate(places["shm"], 20000)
    if count == 1:
        maps["closed"].close()
        maps["closed"] = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    elif count == 2:
        os.unlink(places["workspace"])


def verify():
    for name, path in places.items():
        expect((maps[name][0:6], maps[name][8192:8198]), (b"before", b"second"), name)
        expect(maps[name][4096:4103], bytes(7), name)
        expect(os.stat(path).st_size, 16384, name)
    expect((maps["closed"][0:6], maps["closed"][100:103]), (b"second", bytes(3)))
    expect(maps["reader"][0:6], b"before")
    # One memory still, whichever way it is written.
    maps["closed"][0:6] = b"SECOND"
    expect((maps["workspace"][8192:8198], os.pread(fds["workspace"], 6, 8192)), (b"SECOND", b"SECOND"))
    os.pwrite(fds["workspace"], b"second", 8192)
    expect((maps["closed"][0:6], open("mapped", "rb").read()[8192:8198]), (b"second", b"second"))
    maps["shm"][0:6] = b"BEFORE"
    expect(maps["reader"][0:6], b"BEFORE")
    maps["shm"][0:6] = b"before"


run(prepare, change, verify)
