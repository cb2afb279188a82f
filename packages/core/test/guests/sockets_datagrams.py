"""Datagram sockets of unix that are bound to paths on a volume: reached by them and through sockets that are connected
to them, with what waits in them."""

import os
import select
import socket
import stat
import threading

from guest import eventually, expect, run

values = {}
TIME = (1_000_000_000, 1_000_000_001)


def bind(name):
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind(name)
    return bound


def bind_quiet(name):
    bound = bind(name)
    bound.setblocking(False)
    return bound


def client_of(name):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.connect(name)
    return client


def send_to(name, data):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, name)


def receive_for_ever():
    while True:
        values["heard"].append(values["server"].recv(100))


def answer_for_ever():
    while True:
        question, caller = values["answering"].recvfrom(100)
        values["answering"].sendto(question + b" answered", caller)


def prepare():
    here = f"/workspace/{os.getpid()} datagrams"
    values["dir"] = here
    os.makedirs(f"{here}/deep", exist_ok=True)
    os.chdir(here)
    values["server"] = bind("deep/server")
    os.chmod("deep/server", 0o622)
    os.utime("deep/server", TIME)
    values["logger"] = client_of("deep/server")
    values["answering"] = bind("answering")
    values["caller"] = bind(f"{here}/caller")
    values["full"] = bind_quiet(f"{here}/full")
    os.chdir("/")
    values["caller"].connect(f"{here}/answering")
    values["heard"] = []
    for data in (b"first", b"x" * 50_000, b"last"):
        send_to(f"{here}/full", data)
    values["epoll"] = select.epoll()
    values["epoll"].register(values["full"], select.EPOLLIN)
    threading.Thread(target=receive_for_ever, daemon=True).start()
    threading.Thread(target=answer_for_ever, daemon=True).start()


def change(count):
    here = values["dir"]
    open(f"{here}/written", "a").write("so that the volume is sealed\n")
    if count == 1:
        values["full"].recv(100)
        os.rename(f"{here}/deep/server", f"{here}/deep/renamed")
        values["logger"].close()
    else:
        values["full"].close()
        os.unlink(f"{here}/full")
        values["full"] = bind_quiet(f"{here}/full")


def hears(data):
    eventually(f"to hear {data!r}", lambda: data in values["heard"])
    values["heard"].clear()


def verify():
    here = values["dir"]
    expect(values["epoll"].poll(0), [(values["full"].fileno(), select.EPOLLIN)])
    expect([values["full"].recv(100_000)[:10] for _ in range(3)], [b"first", b"x" * 10, b"last"])
    expect(values["epoll"].poll(0), [])
    send_to(f"{here}/deep/server", b"by its path")
    hears(b"by its path")
    values["logger"].send(b"connected")
    hears(b"connected")
    info = os.lstat(f"{here}/deep/server")
    expect((stat.S_ISSOCK(info.st_mode), stat.S_IMODE(info.st_mode), info.st_mtime), (True, 0o622, TIME[1]))
    expect(values["server"].getsockname(), "deep/server")
    expect(values["logger"].getpeername(), "deep/server")
    values["caller"].send(b"asked")
    expect(values["caller"].recv(100), b"asked answered")
    send_to(f"{here}/full", b"first")
    send_to(f"{here}/full", b"x" * 50_000)
    send_to(f"{here}/full", b"last")


run(prepare, change, verify)
