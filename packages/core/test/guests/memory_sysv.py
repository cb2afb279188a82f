"""Segments of System V that are attached: one by its id, one by a key, one that goes with its last holder."""

import ctypes
import os

from guest import PAGE, expect, libc, peek, poke, run

libc.shmat.restype = ctypes.c_void_p
libc.shmdt.argtypes = [ctypes.c_void_p]
IPC_RMID, IPC_CREAT = 0, 0o1000
values = {}


def attach(segment):
    address = libc.shmat(segment, None, 0)
    assert address != ctypes.c_void_p(-1).value
    return address


def prepare():
    key = 0x5000_0000 | os.getpid()
    for name, key, size in (("plain", 0, 4 * PAGE), ("keyed", key, 56), ("removed", 0, PAGE)):
        segment = libc.shmget(key, size, IPC_CREAT | 0o640)
        values[name] = (segment, key, attach(segment))
        poke(values[name][2], name.encode())
    libc.shmctl(values["removed"][0], IPC_RMID, None)


def change(count):
    for segment, _, address in values.values():
        poke(address, b"OF SYSTEM V")
    if count % 2:
        libc.shmdt(values["removed"][2])
        values["removed"] = (0, 0, values["plain"][2])


def status(segment):
    """Key, size, how many are attached."""
    line = next(line.split() for line in open("/proc/sysvipc/shm").readlines()[1:] if int(line.split()[1]) == segment)
    return int(line[0]), line[2], int(line[3]), int(line[6])


def verify():
    for name, (segment, key, address) in values.items():
        expect(peek(address, len(name)), name.encode())
        expect(status(segment), (key, "1640" if name == "removed" else "640", {"plain": 4 * PAGE, "keyed": 56, "removed": PAGE}[name], 1))
    # Others reach it by its key.
    expect(libc.shmget(values["keyed"][1], 56, 0), values["keyed"][0])
    other = attach(values["keyed"][0])
    poke(other, b"KEYED")
    expect(peek(values["keyed"][2], 5), b"KEYED")
    poke(other, b"keyed")
    libc.shmdt(other)


run(prepare, change, verify)
