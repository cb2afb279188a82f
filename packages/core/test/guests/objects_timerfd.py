"""Timerfds: time that is left, interval, expirations that nobody has read, absolute times, closed ones."""

import ctypes
import os
import struct
import time

from guest import call, eventually, expect, libc, run

ABSOLUTE = 1
NONBLOCK = os.O_NONBLOCK
values = {}


def create(name, clock, flags=NONBLOCK):
    values[name] = libc.timerfd_create(clock, flags)
    assert values[name] >= 0


def arm(name, value_s, interval_s=0.0, flags=0):
    def pair(seconds):
        return int(seconds), int(seconds % 1 * 1_000_000_000)

    wanted = struct.pack("qqqq", *pair(interval_s), *pair(value_s))
    expect(call(libc.timerfd_settime, values[name], flags, wanted, None), (0, 0))


def left(name):
    buffer = ctypes.create_string_buffer(32)
    expect(call(libc.timerfd_gettime, values[name], buffer), (0, 0), name)
    interval_s, interval_ns, value_s, value_ns = struct.unpack("qqqq", buffer.raw)
    return value_s + value_ns / 1e9, interval_s + interval_ns / 1e9


def info(name):
    return open(f"/proc/self/fdinfo/{values[name]}").read()


def prepare():
    create("far", time.CLOCK_MONOTONIC)
    arm("far", 5000, 3)
    create("absolute", time.CLOCK_REALTIME)
    values["at"] = int(time.time()) + 7000
    arm("absolute", values["at"], 0, ABSOLUTE)
    create("disarmed", time.CLOCK_BOOTTIME)
    create("expired", time.CLOCK_MONOTONIC)
    arm("expired", 0.001)
    create("closed", time.CLOCK_MONOTONIC)
    arm("closed", 6000)
    eventually("no expiration", lambda: "ticks: 1" in info("expired"))


def change(count):
    arm("far", 10)
    arm("absolute", 100)
    arm("disarmed", 1000, 2)
    if count == 1:
        os.read(values["expired"], 8)
        os.close(values["closed"])


def near(found, wanted):
    assert wanted - 300 < found <= wanted, f"{found} s left instead of {wanted}"


def verify():
    value, interval = left("far")
    near(value, 5000)
    expect(interval, 3.0)
    value, interval = left("absolute")
    assert abs(time.time() + value - values["at"]) < 0.5, f"due at {time.time() + value}, not {values['at']}"
    expect("settime flags: 01" in info("absolute"), True, "settime flags")
    expect(left("disarmed"), (0.0, 0.0))
    expect("clockid: 7" in info("disarmed"), True, "clock")
    expect("ticks: 1\n" in info("expired"), True, "an expiration that nobody has read")
    expect(left("expired"), (0.0, 0.0))
    near(left("closed")[0], 6000)


run(prepare, change, verify)
