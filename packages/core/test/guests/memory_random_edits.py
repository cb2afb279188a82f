"""A thousand random edits of a structure of a thousand tuples; the seed is printed with a failure."""

import hashlib
import os
import random

from guest import expect, run

SEED = int.from_bytes(os.urandom(4), "little")
values = {}


def digest():
    return hashlib.sha256(repr(values["items"]).encode()).hexdigest()


def prepare():
    values["random"] = random.Random(SEED)
    values["items"] = [tuple(values["random"].random() for _ in range(4)) for _ in range(1000)]
    values["digest"] = digest()


def change(count):
    source = values["random"]
    for _ in range(1000):
        index = source.randrange(len(values["items"]))
        items = values["items"]
        edit = source.randrange(3)
        if edit == 0:
            items[index] = tuple(source.random() for _ in range(source.randrange(40)))
        elif edit == 1:
            items.insert(index, (count,))
        else:
            del items[index]


def verify():
    expect(digest(), values["digest"], f"seed {SEED}:")


run(prepare, change, verify)
