"""Interval timers: set ones that were cancelled run again, new ones are gone."""

import signal

from guest import expect, run


def prepare():
    signal.setitimer(signal.ITIMER_REAL, 5000, 70)
    signal.setitimer(signal.ITIMER_VIRTUAL, 3000)


def change(count):
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.setitimer(signal.ITIMER_VIRTUAL, 90_000, count)
    signal.setitimer(signal.ITIMER_PROF, 1000)


def verify():
    rest, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 4000 < rest <= 5000.1 and interval == 70, (rest, interval)
    rest, interval = signal.getitimer(signal.ITIMER_VIRTUAL)
    assert 2000 < rest <= 3000.1 and interval == 0, (rest, interval)
    expect(signal.getitimer(signal.ITIMER_PROF), (0, 0))


run(prepare, change, verify)
