"""Floating-point and vector registers of a thread in a system call."""

import ctypes
import math
import mmap
import os
import struct
import threading

from guest import eventually, expect, run

# Loads ymm0-3, 7, 8, 15 from rdi and pi to the x87 stack; read(ecx, rdx, 1); stores all to rsi, pi as a double at 128.
CODE = bytes.fromhex(
    "564889d6c5fe6f07c5fe6f4f20c5fe6f5740c5fe6f5f60c5fe6fbfe0000000c57e6f8700010000c57e6fbfe0010000d9eb31c089cfba01000000"
    "0f055ec5fe7f06c5fe7f4e20c5fe7f5640c5fe7f5e60c5fe7fbee0000000c57e7f8600010000c57e7fbee0010000dd9e80000000c5f877c3"
)
USED = (0, 1, 2, 3, 7, 8, 15)
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE)
page.write(CODE)
function = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_void_p] * 3, ctypes.c_long)(
    ctypes.addressof(ctypes.c_char.from_buffer(page))
)
never = threading.Lock()
loaded = os.urandom(512)
results = []
values = {}


def body():
    stored = ctypes.create_string_buffer(512)
    result = function(loaded, ctypes.addressof(stored), ctypes.addressof(ctypes.create_string_buffer(8)), values["read"])
    results.append((result, stored.raw))
    never.acquire()


def prepare():
    never.acquire()
    values["read"], values["write"] = os.pipe()
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    eventually("it does not wait", lambda: open(f"/proc/self/task/{thread.native_id}/syscall").read().startswith("0 "))


def change(count):
    if count == 1:
        os.write(values["write"], b"w")
        eventually("it does not return", lambda: len(results) == 1)


def verify():
    expect(results, [])
    os.write(values["write"], b"w")
    eventually("it does not return", lambda: len(results) == 1)
    result, stored = results[0]
    expect(result, 1)
    for register in USED:
        expect(stored[register * 32 :][:32], loaded[register * 32 :][:32], f"ymm{register}")
    expect(struct.unpack("d", stored[128:136])[0], math.pi)


run(prepare, change, verify)
