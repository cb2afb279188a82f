"""A sleep that is interrupted by checkpoints ends when it should; `change` waits until it has ended once."""

import struct
import threading
import time

from guest import call, eventually, expect, libc, run

SECONDS = 2
results = []


def body():
    begun = time.monotonic()
    result = call(libc.nanosleep, struct.pack("qq", SECONDS, 0), None)
    results.append((*result, time.monotonic() - begun >= SECONDS))
    libc.poll(None, 0, 1_000_000)  # another wait with a time limit, and another restart block


def prepare():
    threading.Thread(target=body, daemon=True).start()


def change(count):
    eventually("the sleep does not end", lambda: len(results) == 1)


def verify():
    eventually("the sleep does not end", lambda: len(results) == 1)
    expect(results, [(0, 0, True)])


run(prepare, change, verify)
