"""What the scheduler knows of threads: policy, nice value, processors, I/O priority, timer slack; each thread its own."""

import ctypes
import os
import threading

from guest import call, eventually, expect, libc, run

IOPRIO_SET, IOPRIO_GET = 251, 252
PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30
libc.syscall.restype = ctypes.c_long
PROCESSORS = sorted(os.sched_getaffinity(0))
order = {"round": 0, "action": None}
seen = {}


def io_priority(kind, data):
    expect(call(libc.syscall, IOPRIO_SET, 1, 0, kind << 13 | data), (0, 0), "ioprio_set")


def state():
    """Of the calling thread."""
    return (
        os.sched_getscheduler(0),
        os.getpriority(os.PRIO_PROCESS, 0),
        sorted(os.sched_getaffinity(0)),
        libc.syscall(IOPRIO_GET, 1, 0),
        libc.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0),
    )


def set_state(processors, io, slack, policy):
    os.sched_setaffinity(0, processors)
    io_priority(2, io)
    libc.prctl(PR_SET_TIMERSLACK, slack, 0, 0, 0)
    os.sched_setscheduler(0, policy, os.sched_param(0))


def other():
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 7)
    set_state(PROCESSORS[-1:], 5, 70_000, os.SCHED_BATCH)
    done = 0
    seen["other"] = state()
    while True:
        eventually_forever(lambda: order["round"] != done)
        done = order["round"]
        if order["action"] == "change":
            set_state(PROCESSORS, 1, 60_000 + done, os.SCHED_OTHER)
        seen["other"] = state()
        seen["round"] = done


def eventually_forever(condition):
    with turn:
        turn.wait_for(condition)


turn = threading.Condition()


def ask(action):
    with turn:
        order["action"] = action
        order["round"] += 1
        turn.notify_all()
    eventually("the thread does not answer", lambda: seen.get("round") == order["round"])


def prepare():
    set_state(PROCESSORS[:1], 3, 80_000, os.SCHED_BATCH)
    threading.Thread(target=other, daemon=True).start()
    eventually("no thread", lambda: "other" in seen)


def change(count):
    set_state(PROCESSORS, 7, 90_000 + count, os.SCHED_OTHER)
    ask("change")


def verify():
    expect(state(), (os.SCHED_BATCH, 0, PROCESSORS[:1], 2 << 13 | 3, 80_000), "the main thread")
    ask("look")
    expect(seen["other"], (os.SCHED_BATCH, 7, PROCESSORS[-1:], 2 << 13 | 5, 70_000), "the other thread")


run(prepare, change, verify)
