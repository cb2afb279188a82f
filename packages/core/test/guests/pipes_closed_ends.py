"""Pipe ends closed after the checkpoint are open again, to the same pipe; ends that were closed before stay so."""

import os

from guest import expect, run

values = {}


def prepare():
    values["read"], values["write"] = os.pipe()
    values["gone"], values["source"] = os.pipe()
    values["left"], values["closed"] = os.pipe()
    os.write(values["write"], b"kept")
    os.write(values["closed"], b"rest")
    os.close(values["closed"])


def change(count):
    if count == 1:
        os.close(values["write"])
        os.close(values["gone"])
        os.close(values["source"])
        os.read(values["left"], 10)
    os.pipe()


def verify():
    os.write(values["write"], b" and new")
    expect(os.read(values["read"], 100), b"kept and new")
    os.write(values["source"], b"through")
    expect(os.read(values["gone"], 100), b"through")
    expect(os.read(values["left"], 100), b"rest")
    expect(os.read(values["left"], 100), b"", "the end:")
    os.close(values["write"])
    expect(os.read(values["read"], 100), b"", "the end:")


run(prepare, change, verify)
