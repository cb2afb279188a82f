"""POSIX timers: deleted ones come back under their numbers with the time that was left, newer ones are gone, others go on
as they were: over several clocks, to the process or to one thread, armed or not."""

import ctypes
import signal
import struct
import threading

from guest import call, eventually, expect, libc, run

CREATE, SETTIME, GETTIME, DELETE = 222, 223, 224, 226
REALTIME, MONOTONIC, PROCESSOR_TIME = 0, 1, 2
SIGNAL, NONE, TO_THREAD = 0, 1, 4
libc.syscall.restype = ctypes.c_long
ids = {}
ticks = []
threads = []


def create(clock, notify=SIGNAL, number=signal.SIGUSR1, value=0, thread=0):
    event = ctypes.create_string_buffer(struct.pack("=Qiii44x", value, number, notify, thread), 64)
    made = ctypes.c_int(0)
    expect(call(libc.syscall, CREATE, clock, event, ctypes.byref(made)), (0, 0), "timer_create")
    return made.value


def arm(timer, seconds, interval=0.0):
    spec = struct.pack("=4q", int(interval), round(interval % 1 * 1e9), int(seconds), round(seconds % 1 * 1e9))
    return call(libc.syscall, SETTIME, timer, 0, ctypes.create_string_buffer(spec, 32), None)


def left(timer):
    spec = ctypes.create_string_buffer(32)
    expect(call(libc.syscall, GETTIME, timer, spec), (0, 0), f"timer_gettime of {timer}")
    interval, interval_ns, seconds, ns = struct.unpack("=4q", spec.raw)
    return seconds + ns / 1e9, interval + interval_ns / 1e9


def described():
    return sorted(("\n" + open("/proc/self/timers").read().strip()).split("\nID: "))


def delete(*timers):
    for timer in timers:
        libc.syscall(DELETE, timer)


def prepare():
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    signal.signal(signal.SIGUSR2, lambda number, frame: ticks.append(number))
    waiting = threading.Event()
    threads.append(threading.Thread(target=waiting.wait, daemon=True))
    threads[0].start()
    delete(create(MONOTONIC), create(MONOTONIC))  # so that numbers begin with a gap
    ids["deleted"] = create(MONOTONIC, value=0x123456789A)
    arm(ids["deleted"], 5000, 70.5)
    ids["rearmed"] = create(REALTIME, NONE, 0)
    arm(ids["rearmed"], 3000)
    ids["disarmed"] = create(MONOTONIC, TO_THREAD, thread=threads[0].native_id)
    ids["processor"] = create(PROCESSOR_TIME)
    arm(ids["processor"], 2000)
    ids["ticking"] = create(MONOTONIC, number=signal.SIGUSR2)
    arm(ids["ticking"], 0.01, 0.01)
    ids["text"] = described()
    eventually("no tick", lambda: ticks)


def change(count):
    if count % 2 == 1:
        delete(ids["deleted"], ids["processor"], ids["ticking"])
    if count == 2:
        delete(ids["disarmed"])
    arm(ids["rearmed"], 90_000 + count, 1)
    arm(ids["disarmed"], 4000)
    for _ in range(count):
        arm(create(MONOTONIC), 6000)


def verify():
    expect(described(), ids["text"])
    rest, interval = left(ids["deleted"])
    assert 4900 < rest <= 5000.1 and interval == 70.5, (rest, interval)
    rest, interval = left(ids["rearmed"])
    assert 2900 < rest <= 3000.1 and interval == 0, (rest, interval)
    expect(left(ids["disarmed"]), (0, 0))
    rest, interval = left(ids["processor"])
    assert 1900 < rest <= 2000.1 and interval == 0, (rest, interval)
    before = len(ticks)
    eventually("it does not tick", lambda: len(ticks) > before + 2)
    # One made now gets a number of its own.
    fresh = create(MONOTONIC)
    assert fresh not in ids.values(), fresh
    delete(fresh)


run(prepare, change, verify)
