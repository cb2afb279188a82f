"""Memory that processes share without a file: anonymous and inherited over fork, memfd."""

import ctypes
import fcntl
import os

from guest import PAGE, expect, libc, peek, poke, run

MIB = 1 << 20
SHARED = 1
F_ADD_SEALS, F_GET_SEALS, F_SEAL_SHRINK, F_SEAL_WRITE = 1033, 1034, 2, 8
values = {}


def map_shared(size, fd=-1):
    flags = SHARED if fd >= 0 else SHARED | 0x20
    address = libc.mmap(None, size, 3, flags, fd, 0)
    assert address != ctypes.c_void_p(-1).value
    return address


def serve_child(requests, answers):
    """Reads the anonymous memory and writes it, as another process."""
    while True:
        request = os.read(requests, 100)
        if not request:
            os._exit(0)
        if request == b"write":
            poke(values["anonymous"] + 3 * PAGE, b"by the child")
            os.write(answers, b"done")
        else:
            os.write(answers, peek(values["anonymous"], 7) + b"," + peek(values["anonymous"] + 3 * PAGE, 12))


def ask_child(request):
    os.write(values["requests"], request)
    return os.read(values["answers"], 100)


def prepare():
    # Mostly a hole, as the buffers of a database are.
    values["anonymous"] = map_shared(512 * MIB)
    poke(values["anonymous"], b"at once")
    poke(values["anonymous"] + 300 * MIB, b"far away")
    read_end, values["requests"] = os.pipe()
    values["answers"], write_end = os.pipe()
    if os.fork() == 0:
        os.close(values["requests"])
        serve_child(read_end, write_end)
    os.close(read_end)
    os.close(write_end)

    values["memfd"] = os.memfd_create("kept", os.MFD_ALLOW_SEALING)
    os.write(values["memfd"], b"in the memfd" + bytes(3 * PAGE))
    values["view"] = map_shared(2 * PAGE, values["memfd"])
    values["other"] = os.dup(values["memfd"])

    values["sealed"] = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.write(values["sealed"], b"not sealed yet")

    values["gone"] = os.memfd_create("gone")
    os.write(values["gone"], b"closed and unmapped later")
    values["gone_view"] = map_shared(PAGE, values["gone"])

    values["only_mapped"] = map_shared(4 * PAGE)
    poke(values["only_mapped"] + PAGE, b"unmapped later")


def change(count):
    poke(values["anonymous"], b"changed")
    poke(values["anonymous"] + 300 * MIB, b"\0" * 8)
    poke(values["anonymous"] + 200 * MIB, b"where a hole was")
    expect(ask_child(b"write"), b"done")
    os.pwrite(values["memfd"], b"IN THE MEMFD", 0)
    poke(values["view"] + PAGE, b"through the mapping")
    os.ftruncate(values["memfd"], (2 + count % 5) * PAGE)
    os.lseek(values["memfd"], 5, os.SEEK_SET)
    if count == 1:
        fcntl.fcntl(values["sealed"], F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK)
        os.close(values["other"])
        os.close(values["gone"])
        libc.munmap(values["gone_view"], PAGE)
        libc.munmap(values["only_mapped"], 4 * PAGE)
        values["new"] = os.memfd_create("new")


def verify():
    expect(peek(values["anonymous"], 7), b"at once")
    expect(peek(values["anonymous"] + 300 * MIB, 8), b"far away")
    expect(peek(values["anonymous"] + 200 * MIB, 16), bytes(16), "the hole:")
    expect(ask_child(b"read"), b"at once," + bytes(12), "the child's view:")
    poke(values["anonymous"], b"anew...")
    expect(ask_child(b"read"), b"anew...," + bytes(12), "the child's view:")
    poke(values["anonymous"], b"at once")

    expect(os.fstat(values["memfd"]).st_size, 3 * PAGE + 12)
    expect(os.lseek(values["memfd"], 0, os.SEEK_CUR), 3 * PAGE + 12)
    expect(os.pread(values["memfd"], 2 * PAGE, 0), b"in the memfd" + bytes(2 * PAGE - 12))
    expect(peek(values["view"], 12), b"in the memfd")
    os.pwrite(values["other"], b"coherent", PAGE)
    expect(peek(values["view"] + PAGE, 8), b"coherent")
    os.pwrite(values["memfd"], bytes(8), PAGE)
    expect(os.lseek(values["other"], 0, os.SEEK_CUR), 3 * PAGE + 12, "one description:")

    expect(fcntl.fcntl(values["sealed"], F_GET_SEALS), 0)
    os.pwrite(values["sealed"], b"not sealed yet", 0)
    expect(os.pread(values["sealed"], 100, 0), b"not sealed yet")

    expect(os.pread(values["gone"], 25, 0), b"closed and unmapped later")
    poke(values["gone_view"], b"CLOSED")
    expect(os.pread(values["gone"], 6, 0), b"CLOSED", "mapping and descriptor:")
    poke(values["gone_view"], b"closed")
    assert "memfd:gone" in os.readlink(f"/proc/self/fd/{values['gone']}")
    expect(peek(values["only_mapped"] + PAGE, 14), b"unmapped later")


run(prepare, change, verify)
