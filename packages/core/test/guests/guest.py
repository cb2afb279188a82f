"""What all guests share: the conversation with the runner, and a few C functions whose EINTR Python does not hide."""

import ctypes
import os
import sys
import time
import traceback

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.sbrk.restype = ctypes.c_void_p
libc.sbrk.argtypes = [ctypes.c_long]
PAGE = 4096


def call(function, *arguments):
    """The result of a C function and its errno."""
    ctypes.set_errno(0)
    result = function(*arguments)
    return result, ctypes.get_errno() if result == -1 else 0


def map_memory(size, fd=-1):
    address = libc.mmap(None, size, 3, 2 if fd >= 0 else 0x22, fd, 0)
    assert address != ctypes.c_void_p(-1).value
    return address


def peek(address, size):
    return ctypes.string_at(address, size)


def poke(address, data):
    ctypes.memmove(address, data, len(data))


def permissions(address):
    """Of the mapping at an address, or None."""
    for line in open("/proc/self/maps"):
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return line.split()[1]
    return None


def expect(found, wanted, what=""):
    assert found == wanted, f"{what} {found!r} instead of {wanted!r}"


def eventually(what, condition):
    """Waits for other threads of the guest; the bound is far above what any of them needs."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(what)


def serve(change, verify):
    print("READY", flush=True)
    changes = 0
    for line in iter(sys.stdin.readline, ""):
        try:
            if line.strip() == "change":
                changes += 1
                change(changes)
                print("CHANGED", flush=True)
            else:
                verify()
                print("ok", flush=True)
        except BaseException:
            reason = traceback.format_exc().strip().splitlines()
            print(f"not ok: {reason[-1]} ({reason[-2].strip()})", flush=True)


def run(prepare, change, verify):
    place = f"/workspace/{os.path.basename(sys.argv[0])}-{os.getpid()}"
    os.makedirs(place)
    os.chdir(place)
    prepare()
    serve(change, verify)
