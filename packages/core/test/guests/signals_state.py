"""Masks, actions and alternate stacks."""

import ctypes
import signal

from guest import expect, libc, map_memory, run


class Stack(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


handled = []
values = {}


def alternate_stack(base=None):
    old = Stack()
    new = Stack(base, 0 if base else 2, 65536)
    libc.sigaltstack(ctypes.byref(new) if base is not None else None, ctypes.byref(old))
    return old.base, old.flags, old.size


def prepare():
    values["stack"] = map_memory(65536)
    alternate_stack(values["stack"])
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2, signal.SIGALRM, signal.SIGRTMIN + 3})
    signal.signal(signal.SIGUSR1, lambda *_: handled.append("before"))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def change(count):
    alternate_stack(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGINT})
    signal.signal(signal.SIGUSR1, lambda *_: handled.append("after"))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.siginterrupt(signal.SIGUSR1, count % 2 == 0)


def verify():
    expect(signal.pthread_sigmask(signal.SIG_BLOCK, []), {signal.SIGUSR2, signal.SIGALRM, signal.SIGRTMIN + 3})
    expect(alternate_stack(), (values["stack"], 0, 65536))
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGHUP)
    expect(handled, ["before"])
    expect(signal.getsignal(signal.SIGTERM), signal.SIG_DFL)
    ignored = [line.split()[1] for line in open("/proc/self/status") if line.startswith("SigIgn")][0]
    expect(int(ignored, 16) >> (signal.SIGTERM - 1) & 1, 0, "SIGTERM is ignored:")


run(prepare, change, verify)
