"""Blocked signals that wait: a plain one, and two queued with values, to the process and to a thread."""

import ctypes
import os
import signal
import struct
import threading

from guest import expect, libc, run

QUEUED = signal.SIGRTMIN + 1
PLAIN = signal.SIGUSR1
ALL = {PLAIN, QUEUED, signal.SIGUSR2}
libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]


def take():
    """All waiting signals: (number, code, value)."""
    taken = []
    mask = struct.pack("Q", sum(1 << (number - 1) for number in ALL)).ljust(128, b"\0")
    info = ctypes.create_string_buffer(128)
    while libc.sigtimedwait(mask, info, struct.pack("qq", 0, 0)) > 0:
        number, _, code = struct.unpack("iii", info.raw[:12])
        taken.append((number, code, struct.unpack("q", info.raw[24:32])[0] if code == -1 else None))
    return sorted(taken)


def prepare():
    signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
    os.kill(os.getpid(), PLAIN)
    for value in (41, 42):
        libc.sigqueue(os.getpid(), QUEUED, value)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)


def change(count):
    take()
    for value in range(count):
        libc.sigqueue(os.getpid(), QUEUED, 1000 + value)


def verify():
    # glibc tells SI_TKILL as SI_USER.
    expect(take(), [(PLAIN, 0, None), (signal.SIGUSR2, 0, None), (QUEUED, -1, 41), (QUEUED, -1, 42)])


run(prepare, change, verify)
