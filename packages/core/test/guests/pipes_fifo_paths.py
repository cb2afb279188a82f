"""FIFOs by their paths: who opens one meets those who have had it open since before, or who wait in open(2) for it."""

import fcntl
import os
import select
import struct
import termios

from guest import expect, run

values = {}
QUIET = os.O_RDONLY | os.O_NONBLOCK
FULL = bytes(range(256)) * 1200  # more than a FIFO takes unless it is told to
F_SETPIPE_SZ, F_GETPIPE_SZ = 1031, 1032


def open_both(name):
    os.mkfifo(name)
    return os.open(name, QUIET), os.open(name, os.O_WRONLY)


def serve():
    """A child that hears of each caller's end, as `cat fifo` does; between callers it waits in open(2)."""
    while True:
        with open("door", "rb") as door:
            called = door.read()
        with open("answer", "wb") as answer:
            answer.write(called + b" was heard")


def prepare():
    values["read"], values["write"] = open_both("served")
    values["copy"] = os.dup(values["write"])
    values["path"] = os.open("served", os.O_PATH)
    os.write(values["write"], b"waiting")
    values["epoll"] = select.epoll()
    values["epoll"].register(values["read"], select.EPOLLIN)
    values["full"] = os.open("/proc/self/fd/%d" % open_both("full")[0], os.O_RDWR)
    fcntl.fcntl(values["full"], F_SETPIPE_SZ, 1 << 19)
    os.write(values["full"], FULL)
    os.mkfifo("never")
    values["never"] = os.open("never", QUIET)
    values["left"], writer = open_both("left")
    os.close(writer)
    values["second"] = os.open("left", QUIET)
    os.mkfifo("closed")
    reader = os.open("closed", QUIET)
    values["closed"] = os.open("closed", os.O_WRONLY | os.O_NONBLOCK)
    os.close(reader)
    fcntl.flock(values["never"], fcntl.LOCK_EX)
    os.mkfifo("door")
    os.mkfifo("answer")
    if os.fork() == 0:
        serve()


def change(count):
    open("written", "a").write("so that the volume is sealed\n")
    os.write(values["copy"], b" more")
    os.close(os.open("never", os.O_WRONLY))
    if count == 1:
        os.read(values["full"], 100_000)
        os.close(values["left"])
        os.rename("full", "renamed")
    else:
        os.unlink("served")
        values["read"], other = open_both("served")
        os.close(other)


def hung_up(fd):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return [event for _, event in poll.poll(0)] == [select.POLLHUP]


def is_refused(function, *arguments):
    try:
        function(*arguments)
        return False
    except OSError:
        return True


def call_in(name, data):
    caller = os.open(name, os.O_WRONLY | os.O_NONBLOCK)
    os.write(caller, data)
    os.close(caller)


def verify():
    expect(values["epoll"].poll(0), [(values["read"], select.EPOLLIN)])
    call_in("served", b" by its path")
    expect(os.read(values["read"], 100), b"waiting by its path")
    expect(values["epoll"].poll(0), [])
    os.write(values["copy"], b"waiting")
    for other in ("read", "write", "copy", "path"):
        expect(os.fstat(values[other]).st_ino, os.stat("served").st_ino, other)
    os.fchmod(values["read"], 0o640)
    expect(os.stat("served").st_mode & 0o777, 0o640)
    waiting = struct.unpack("i", fcntl.ioctl(values["full"], termios.FIONREAD, b"    "))[0]
    expect(waiting, len(FULL))
    expect(fcntl.fcntl(values["full"], F_GETPIPE_SZ), 1 << 19)
    expect(os.read(values["full"], len(FULL)) == FULL, True, "what fills it")
    call_in("full", FULL[:1000])
    os.write(values["full"], FULL[1000:])
    expect([hung_up(values[name]) for name in ("never", "left", "second")], [False, True, False], "hung up")
    expect(is_refused(os.write, values["closed"], b"x"), True, "a write without a reader")
    with open(os.open("never", QUIET), "rb") as other:
        expect(is_refused(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB), True, "its lock")
    with open("door", "wb") as door:
        door.write(b"a call")
    with open("answer", "rb") as answer:
        expect(answer.read(), b"a call was heard")


run(prepare, change, verify)
