"""Calls with a time limit that something else than a checkpoint was the first to interrupt never show EINTR either."""

import ctypes
import os
import signal
import struct
import threading
import time

from guest import call, eventually, expect, libc, run

results = {}
write_ends = {}
never = threading.Lock()
FAR_MS = 1_000_000


class Poll(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


def waits(name, function):
    def body():
        results[name] = function()
        never.acquire()

    threading.Thread(target=body, daemon=True).start()


def poll(timeout_ms):
    read_end, write_end = os.pipe()
    write_ends[timeout_ms] = write_end
    return call(libc.poll, ctypes.byref(Poll(read_end, 1, 0)), 1, timeout_ms)


semaphore = ctypes.create_string_buffer(32)


def prepare():
    never.acquire()
    libc.sem_init(semaphore, 0, 0)
    waits("poll", lambda: poll(-1))
    waits("timed poll", lambda: poll(FAR_MS))
    waits("timed futex", lambda: call(libc.sem_timedwait, semaphore, struct.pack("qq", 4_000_000_000, 0)))
    waits("sleep", lambda: call(libc.nanosleep, struct.pack("qq", 1_000_000, 0), None))
    eventually("not all threads wait", all_wait)
    # All of them notice that the process stops and goes on: the kernel restarts their calls.
    child = os.fork()
    if child == 0:
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(0.1)
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    os.waitpid(child, 0)
    eventually("not all threads wait again", all_wait)


def all_wait():
    tasks = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
    states = [open(f"/proc/self/task/{task}/stat").read().rsplit(")", 1)[1].split()[0] for task in tasks]
    return len(tasks) == 4 and set(states) == {"S"}


def change(count):
    if count == 1:
        wake_all()


def wake_all():
    for end in write_ends.values():
        os.write(end, b"w")
    libc.sem_post(semaphore)
    eventually(f"woken are only {results}", lambda: len(results) == 3)


def verify():
    expect(results, {})
    wake_all()
    expect(results, {"poll": (1, 0), "timed poll": (1, 0), "timed futex": (0, 0)})


run(prepare, change, verify)
