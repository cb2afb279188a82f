"""Rights that a process can take back itself: its effective, inheritable and ambient capabilities, those of another thread,
keeping them over setuid, its supplementary groups and its effective user."""

import ctypes
import os
import struct
import threading

from guest import call, eventually, expect, libc, run

CAPGET, CAPSET = 125, 126
AMBIENT, RAISE, CLEAR_ALL = 47, 2, 4
KEEPCAPS = (8, 7)
CHOWN, KILL, SETGID, SETUID = 0, 5, 6, 7
libc.syscall.restype = ctypes.c_long
order = {"round": 0, "action": None}
seen = {}
turn = threading.Condition()


def mask(*numbers):
    return sum(1 << number for number in numbers)


def capset(effective, permitted, inheritable):
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    data = ctypes.create_string_buffer(struct.pack("=6I", effective, permitted, inheritable, 0, 0, 0), 24)
    expect(call(libc.syscall, CAPSET, header, data), (0, 0), "capset")


def rights():
    """Of the calling thread."""
    lines = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/thread-self/status") if ":\t" in line)
    return tuple(lines[name].strip() for name in ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))


PERMITTED = int(rights()[4], 16)
# Where an ordinary user started the sandbox there is one user, and groups can't be set.
has_users = call(libc.setgroups, 0, None)[0] == 0


def raise_ambient(*numbers):
    expect(call(libc.prctl, AMBIENT, CLEAR_ALL, 0, 0, 0), (0, 0), "PR_CAP_AMBIENT_CLEAR_ALL")
    for number in numbers:
        expect(call(libc.prctl, AMBIENT, RAISE, number, 0, 0), (0, 0), "PR_CAP_AMBIENT_RAISE")


def other():
    capset(mask(CHOWN, SETGID, SETUID), PERMITTED, 0)  # the C library changes users in all threads, or aborts
    done = 0
    seen["other"] = rights()
    while True:
        with turn:
            turn.wait_for(lambda: order["round"] != done)
        done = order["round"]
        if order["action"] == "change":
            capset(mask(KILL, SETGID, SETUID), PERMITTED, mask(KILL))
        seen["other"] = rights()
        seen["round"] = done


def ask(action):
    with turn:
        order["action"] = action
        order["round"] += 1
        turn.notify_all()
    eventually("the thread does not answer", lambda: seen.get("round") == order["round"])


def prepare():
    if has_users:
        os.setgroups([1000, 7, 3])
    threading.Thread(target=other, daemon=True).start()
    eventually("no thread", lambda: "other" in seen)
    capset(PERMITTED & ~mask(CHOWN), PERMITTED, mask(CHOWN, KILL))
    raise_ambient(KILL)
    libc.prctl(KEEPCAPS[0], 1, 0, 0, 0)
    seen["wanted"] = (rights(), seen["other"])


def change(count):
    capset(PERMITTED, PERMITTED, PERMITTED)
    raise_ambient(CHOWN)
    libc.prctl(KEEPCAPS[0], count % 2 if count > 1 else 0, 0, 0, 0)
    if has_users:
        os.setgroups([2000 + count])
        os.seteuid(1000 if count == 1 else 0)
    ask("change" if count == 1 else "look")


def verify():
    expect(rights(), seen["wanted"][0], "the main thread")
    ask("look")
    expect(seen["other"], seen["wanted"][1], "the other thread")
    expect(libc.prctl(KEEPCAPS[1], 0, 0, 0, 0), 1, "PR_GET_KEEPCAPS")


run(prepare, change, verify)
