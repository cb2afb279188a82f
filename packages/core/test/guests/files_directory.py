"""A directory's descriptor: it names the directory of now, and a half-read listing goes on."""

import os

from guest import expect, run

values = {}


def prepare():
    os.mkdir("place")
    for number in range(5):
        open(f"place/{number}", "w").close()
    values["fd"] = os.open("place", os.O_RDONLY | os.O_DIRECTORY)
    values["path"] = os.open("place", os.O_PATH | os.O_DIRECTORY)


def change(count):
    for name in os.listdir("place"):
        os.unlink(f"place/{name}")
    open(f"place/new{count}", "w").close()
    if count == 1:
        os.close(values["path"])


def verify():
    expect(sorted(os.listdir(values["fd"])), ["0", "1", "2", "3", "4"])
    os.close(os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=values["path"]))
    expect(sorted(os.listdir("place")), ["0", "1", "2", "3", "4", "made"])
    expect(os.path.samestat(os.fstat(values["fd"]), os.stat("place")), True)


run(prepare, change, verify)
