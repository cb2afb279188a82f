"""A pipe with contents: the reader gets the same bytes again."""

import os

from guest import expect, run

values = {}
TEXT = b"a line in the pipe\n" * 200


def prepare():
    values["read"], values["write"] = os.pipe()
    values["empty"], values["start"] = os.pipe()
    os.write(values["write"], TEXT)
    os.read(values["read"], 2)


def change(count):
    os.read(values["read"], 1000 * count)
    os.write(values["write"], b"later")
    os.write(values["start"], b"no longer empty")


def verify():
    os.set_blocking(values["empty"], False)
    os.set_blocking(values["read"], False)
    try:
        raise AssertionError(f"the empty pipe holds {os.read(values['empty'], 100)!r}")
    except BlockingIOError:
        pass
    os.write(values["write"], b"end")
    expect(os.read(values["read"], 1 << 16), TEXT[2:] + b"end")


run(prepare, change, verify)
