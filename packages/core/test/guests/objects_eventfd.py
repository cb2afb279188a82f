"""Eventfds: counts, semaphores, closed ones, and which descriptors share one."""

import os

from guest import expect, run

values = {}


def prepare():
    values["counter"] = os.eventfd(7, os.EFD_NONBLOCK)
    values["blocking"] = os.eventfd(1)
    values["semaphore"] = os.eventfd(3, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
    values["closed"] = os.eventfd(5, os.EFD_NONBLOCK)
    values["empty"] = os.eventfd(0, os.EFD_NONBLOCK)
    values["shared"] = os.dup(values["closed"])
    os.eventfd_write(values["counter"], 1 << 40)


def change(count):
    os.eventfd_write(values["counter"], 100 * count)
    os.eventfd_write(values["empty"], count)
    if count == 1:
        os.eventfd_read(values["blocking"])
        os.eventfd_read(values["semaphore"])
        os.close(values["closed"])
        os.dup2(values["empty"], values["shared"])
    os.set_blocking(values["semaphore"], True)


def is_empty(name):
    try:
        return f"{name} holds {os.eventfd_read(values[name])}"
    except BlockingIOError:
        return None


def verify():
    expect(os.eventfd_read(values["counter"]), (1 << 40) + 7)
    expect(os.get_blocking(values["blocking"]), True)
    expect(os.get_blocking(values["semaphore"]), False)
    expect(os.eventfd_read(values["blocking"]), 1)
    for _ in range(3):
        expect(os.eventfd_read(values["semaphore"]), 1)
    expect(os.eventfd_read(values["closed"]), 5)
    for name in ("counter", "semaphore", "empty", "shared"):
        expect(is_empty(name), None)
    os.eventfd_write(values["shared"], 2)
    expect(os.eventfd_read(values["closed"]), 2, "a descriptor that shares the eventfd")
    # As prepared, for another look.
    os.eventfd_write(values["counter"], (1 << 40) + 7)
    os.eventfd_write(values["blocking"], 1)
    os.eventfd_write(values["semaphore"], 3)
    os.eventfd_write(values["closed"], 5)


run(prepare, change, verify)
