"""Threads blocked in system calls block again after a rollback, wake as they should, and never see EINTR."""

import ctypes
import os
import select
import struct
import threading

from guest import call, eventually, expect, libc, run

results = {}
wakers = {}
kept = []
never = threading.Lock()
FAR_MS = 1_000_000


class Poll(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


def waits(name, function):
    """A thread that records the result of one call, then waits elsewhere for ever."""
    read_end, write_end = os.pipe()
    wakers[name] = write_end

    def body():
        results[name] = function(read_end)
        never.acquire()

    threading.Thread(target=body, daemon=True).start()


def poll(read_end, timeout_ms):
    return call(libc.poll, ctypes.byref(Poll(read_end, 1, 0)), 1, timeout_ms)


def epoll(read_end):
    waiter = select.epoll()
    kept.append(waiter)
    waiter.register(read_end, 1)
    return call(libc.epoll_wait, waiter.fileno(), ctypes.create_string_buffer(12), 1, -1)


def choose(read_end):
    bits = ctypes.create_string_buffer(128)
    bits[read_end // 8] = 1 << read_end % 8
    return call(libc.select, read_end + 1, bits, None, None, None)


def semaphore(read_end, timed):
    """Another thread posts when the pipe gets a byte, so that each wait has its pipe."""
    memory = ctypes.create_string_buffer(32)
    libc.sem_init(memory, 0, 0)

    def post():
        os.read(read_end, 1)
        libc.sem_post(memory)
        never.acquire()

    threading.Thread(target=post, daemon=True).start()
    deadline = struct.pack("qq", 4_000_000_000, 0)
    return call(libc.sem_timedwait, memory, deadline) if timed else call(libc.sem_wait, memory)


def prepare():
    never.acquire()
    waits("read", lambda fd: call(libc.read, fd, ctypes.create_string_buffer(8), 8))
    waits("poll", lambda fd: poll(fd, -1))
    waits("timed poll", lambda fd: poll(fd, FAR_MS))
    waits("epoll", epoll)
    waits("select", choose)
    waits("futex", lambda fd: semaphore(fd, False))
    waits("timed futex", lambda fd: semaphore(fd, True))
    eventually("not all threads wait", lambda: all_wait())


def all_wait():
    tasks = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
    states = [open(f"/proc/self/task/{task}/stat").read().rsplit(")", 1)[1].split()[0] for task in tasks]
    return len(tasks) == 9 and set(states) == {"S"}


def wake_all():
    for name, write_end in wakers.items():
        os.write(write_end, b"w")
    eventually(f"woken are only {results}", lambda: len(results) == len(wakers))


def change(count):
    if count == 1:
        wake_all()


def verify():
    expect(results, {})
    wake_all()
    wanted = {name: (0, 0) if "futex" in name else (1, 0) for name in wakers}
    expect(results, wanted)


run(prepare, change, verify)
