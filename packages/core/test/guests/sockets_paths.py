"""Listeners of unix that are bound to paths on a volume: reached by them after checkpoints, rollbacks and in forks."""

import os
import select
import socket
import stat
import threading

from guest import eventually, expect, run

values = {}
TIME = (1_000_000_000, 1_000_000_001)


def listen(name, backlog=7):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen(backlog)
    return listener


def accept_for_ever():
    while True:
        connection, _ = values["served"].accept()
        connection.sendall(b"served")
        connection.close()


def answer_of(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(path)
        return client.recv(100)


def facts(path):
    info = os.lstat(path)
    return stat.S_ISSOCK(info.st_mode), stat.S_IMODE(info.st_mode), info.st_mtime


def prepare():
    here = f"/workspace/{os.getpid()} sockets"
    values["dir"] = here
    os.makedirs(f"{here}/deep", exist_ok=True)
    os.chdir(here)
    values["served"] = listen("deep/served")
    os.chmod("deep/served", 0o600)
    os.utime("deep/served", TIME)
    os.utime("deep", TIME)
    values["polled"] = listen(f"{here}/polled")
    os.chdir("/")
    values["epoll"] = select.epoll()
    values["epoll"].register(values["polled"], select.EPOLLIN)
    # A connection outlives its listener, which was removed.
    gone = listen(f"{here}/gone")
    values["client"] = socket.socket(socket.AF_UNIX)
    values["client"].connect(f"{here}/gone")
    values["server"], _ = gone.accept()
    gone.close()
    os.unlink(f"{here}/gone")
    threading.Thread(target=accept_for_ever, daemon=True).start()


def change(count):
    here = values["dir"]
    open(f"{here}/written", "a").write("so that the volume is sealed\n")
    if count % 2:
        values["polled"].close()
        os.unlink(f"{here}/polled")
        values["polled"] = listen(f"{here}/polled", 3)
        os.rename(f"{here}/deep/served", f"{here}/deep/renamed")
    else:
        os.unlink(f"{here}/polled")
        open(f"{here}/deep/served", "w").close()
        values["polled"].close()
        values["polled"] = listen(f"{here}/polled")


def verify():
    here = values["dir"]
    for _ in range(3):
        expect(answer_of(f"{here}/deep/served"), b"served")
    expect(facts(f"{here}/deep/served"), (True, 0o600, TIME[1]))
    expect(os.stat(f"{here}/deep").st_mtime, TIME[1])
    expect(values["served"].getsockname(), "deep/served")
    expect(values["polled"].getsockname(), f"{here}/polled")
    expect(values["epoll"].poll(0), [])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{here}/polled")
        expect(values["epoll"].poll(20), [(values["polled"].fileno(), select.EPOLLIN)])
        server, _ = values["polled"].accept()
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        expect(int.from_bytes(credentials[:4], "little"), os.getpid(), "who listens")
        server.close()
    values["client"].sendall(b"still")
    expect(values["server"].recv(10), b"still")
    expect(os.path.exists(f"{here}/gone"), False)


run(prepare, change, verify)
