"""Pipes and shared memory of a process that is made again because it took on what no task may take back."""

import mmap
import os

from guest import expect, run

values = {}


def prepare():
    values["pipe"] = os.pipe2(os.O_NONBLOCK)
    os.write(values["pipe"][1], b"what waits")
    values["memory"] = os.memfd_create("memory")
    os.write(values["memory"], b"shared")
    values["mapped"] = mmap.mmap(-1, 4096)
    values["mapped"][0:6] = b"mapped"


def change(count):
    os.setpriority(os.PRIO_PROCESS, 0, min(19, os.getpriority(os.PRIO_PROCESS, 0) + 1))


def verify():
    expect(os.getpriority(os.PRIO_PROCESS, 0), 0, "nice")
    read, write = values["pipe"]
    expect(os.read(read, 100), b"what waits")
    os.write(write, b"what waits")
    expect(os.pread(values["memory"], 100, 0), b"shared")
    expect(values["mapped"][0:6], b"mapped")


run(prepare, change, verify)
