"""The stack of the main thread, deep at the checkpoint and deeper afterwards."""

import os
import sys

import guest
from guest import expect

sys.setrecursionlimit(20_000)
frames = []


def dive(depth, bottom):
    """Through C code at every level, so that the C stack grows."""
    mine = f"frame {depth}"
    if depth == 0:
        return bottom()
    result = list(map(lambda level: dive(level, bottom), [depth - 1]))[0]
    frames.append(mine)
    return result


def change(count):
    frames.append("changed")
    dive(1000 * count, lambda: None)


def verify():
    expect(frames, [])
    dive(1000, lambda: None)
    expect(frames, [f"frame {depth}" for depth in range(1, 1001)])


place = f"/workspace/memory_stack-{os.getpid()}"
os.makedirs(place)
os.chdir(place)
dive(500, lambda: guest.serve(change, verify))
