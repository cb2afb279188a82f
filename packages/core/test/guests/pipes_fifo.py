"""A FIFO that was opened by its path: what waits in it, and ends that were closed since."""

import os

from guest import expect, run

values = {}


def prepare():
    os.mkfifo("fifo")
    values["read"] = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    values["write"] = os.open("fifo", os.O_WRONLY)
    os.write(values["write"], b"in the fifo")


def change(count):
    os.read(values["read"], 4)
    if count == 1:
        os.write(values["write"], b"more")
        os.close(values["write"])


def verify():
    os.write(values["write"], b" and new")
    expect(os.read(values["read"], 100), b"in the fifo and new")
    os.write(values["write"], b"in the fifo")


run(prepare, change, verify)
