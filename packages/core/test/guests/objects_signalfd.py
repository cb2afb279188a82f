"""Signalfds: the mask; a signal that waits for one is read again."""

import os
import signal
import struct

from guest import call, expect, libc, run

NONBLOCK = os.O_NONBLOCK
values = {}


def mask_of(*signals):
    return struct.pack("Q", sum(1 << number - 1 for number in signals)) + bytes(120)


def masks(name):
    return [line.split()[1] for line in open(f"/proc/self/fdinfo/{values[name]}") if line.startswith("sigmask")]


def prepare():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP})
    values["kept"] = libc.signalfd(-1, mask_of(signal.SIGUSR1, signal.SIGHUP), NONBLOCK)
    values["closed"] = libc.signalfd(-1, mask_of(signal.SIGUSR2), NONBLOCK)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)


def change(count):
    expect(call(libc.signalfd, values["kept"], mask_of(signal.SIGHUP), 0)[1], 0)
    if count == 1:
        os.read(values["closed"], 128)
        os.close(values["closed"])
    os.kill(os.getpid(), signal.SIGHUP)


def taken(name):
    return struct.unpack("I", os.read(values[name], 128)[:4])[0]


def verify():
    expect(masks("kept"), ["0000000000000201"])
    expect(masks("closed"), ["0000000000000800"])
    expect(taken("kept"), signal.SIGUSR1)
    expect(taken("closed"), signal.SIGUSR2)
    for name in ("kept", "closed"):
        try:
            raise AssertionError(f"{name} has signal {taken(name)}, too")
        except BlockingIOError:
            pass
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)


run(prepare, change, verify)
