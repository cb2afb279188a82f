"""Attributes that prctl(2) and /proc set: the signal at a parent's death, dumpable, subreaper, huge pages, personality, and
the score of the out-of-memory killer."""

import ctypes

from guest import call, expect, libc, run

PDEATHSIG, DUMPABLE, SUBREAPER, HUGE_PAGES_OFF = (1, 2), (4, 3), (36, 37), (41, 42)
NO_RANDOMIZE, SHORT_INODE = 0x0040000, 0x1000000
SCORE = "/proc/self/oom_score_adj"


def put(pair, value):
    expect(call(libc.prctl, pair[0], value, 0, 0, 0), (0, 0), f"prctl {pair[0]}")


def by_pointer(pair):
    value = ctypes.c_int(-1)
    libc.prctl(pair[1], ctypes.byref(value), 0, 0, 0)
    return value.value


def set_state(death_signal, dumpable, subreaper, huge_pages_off, persona, score):
    put(PDEATHSIG, death_signal)
    put(SUBREAPER, subreaper)
    put(HUGE_PAGES_OFF, huge_pages_off)
    libc.personality(persona)
    with open(SCORE, "w") as file:
        file.write(str(score))
    put(DUMPABLE, dumpable)


def state():
    return (
        by_pointer(PDEATHSIG),
        libc.prctl(DUMPABLE[1], 0, 0, 0, 0),
        by_pointer(SUBREAPER),
        libc.prctl(HUGE_PAGES_OFF[1], 0, 0, 0, 0),
        libc.personality(0xFFFFFFFF),
        int(open(SCORE).read()),
    )


def prepare():
    set_state(10, 1, 1, 1, NO_RANDOMIZE, 200)


def change(count):
    if count == 1:
        set_state(12, 0, 0, 0, SHORT_INODE, 300)
    put(PDEATHSIG, 12 + count % 2)


def verify():
    expect(state(), (10, 1, 1, 1, NO_RANDOMIZE, 200))


run(prepare, change, verify)
