"""Inotifys: watches with their numbers and masks, on what is at their paths; closed ones; epolls that watch one."""

import os
import select
import struct

from guest import expect, libc, run

MODIFY, CREATE, DELETE = 0x2, 0x100, 0x200
values = {}


def watch(name, path, mask):
    descriptor = libc.inotify_add_watch(values[name], path.encode(), mask)
    assert descriptor > 0, f"{name} {path}"
    return descriptor


def events(name):
    found = []
    while True:
        try:
            data = os.read(values[name], 65536)
        except BlockingIOError:
            return found
        while data:
            descriptor, mask, _, size = struct.unpack_from("iIII", data)
            found.append((descriptor, mask, data[16 : 16 + size].rstrip(b"\0").decode()))
            data = data[16 + size :]


def watches(name):
    lines = [line.split() for line in open(f"/proc/self/fdinfo/{values[name]}") if line.startswith("inotify")]
    return sorted((line[1], line[4]) for line in lines)


def prepare():
    for directory in ("a", "a/b", "c", "gone"):
        os.mkdir(directory)
    for name in ("file", "a/b/below"):
        open(name, "w").close()
    for name in ("kept", "closed"):
        values[name] = libc.inotify_init1(os.O_NONBLOCK)
    values["a"] = watch("kept", "a", CREATE | DELETE)
    for _ in range(5):
        libc.inotify_rm_watch(values["kept"], watch("kept", "gone", CREATE))
    values["b"] = watch("kept", "a/b", MODIFY)
    values["file"] = watch("kept", "file", MODIFY)
    values["place"] = f"/tmp/watched-{os.getpid()}"
    os.mkdir(values["place"])
    values["there"] = watch("closed", values["place"], CREATE)
    expect(values["b"], values["a"] + 6)
    events("kept")
    values["epoll"] = select.epoll()
    values["epoll"].register(values["kept"], select.EPOLLIN)
    values["epoll"].register(values["closed"], select.EPOLLIN)
    values["watches"] = {name: watches(name) for name in ("kept", "closed")}


def change(count):
    watch("kept", "c", CREATE)
    open(f"a/later-{count}", "w").close()
    if count == 1:
        libc.inotify_rm_watch(values["kept"], values["b"])
        os.close(values["closed"])
        os.rename("a", "moved")
        os.mkdir("a")


def write(path):
    with open(path, "a") as file:
        file.write("x")


def verify():
    expect({name: watches(name) for name in values["watches"]}, values["watches"])
    expect(events("kept"), [])
    expect(values["epoll"].poll(0), [])
    there = values["place"] + "/new"
    for path in ("a/new", "a/b/below", "file", there):
        write(path)
    expect(sorted(fd for fd, _ in values["epoll"].poll(0)), sorted([values["kept"], values["closed"]]))
    os.remove("a/new")
    os.remove(there)
    wanted = [
        (values["a"], CREATE, "new"),
        (values["b"], MODIFY, "below"),
        (values["file"], MODIFY, ""),
        (values["a"], DELETE, "new"),
    ]
    expect(events("kept"), wanted)
    expect(events("closed"), [(values["there"], CREATE, "new")])


run(prepare, change, verify)
