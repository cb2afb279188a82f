"""Terminals that a program opens itself: settings, size, waiting bytes, the session that has one, and the end of one."""

import errno
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import tty

from guest import eventually, expect, run

values = {}
OUTPUT = b"printed\r\nand not read"
INPUT = b"first line\nsecond line\n"
TIOCGPTN = 0x80045430


def size_of(fd):
    return struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))[:2]


def set_size(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def waiting(fd):
    return select.select([fd], [], [], 0)[0] != []


def leader():
    """Leads a session on its terminal, with a job in the foreground; answers there."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        while True:
            signal.pause()
    os.setpgid(job, job)
    os.tcsetpgrp(0, job)
    own = os.open("/dev/tty", os.O_RDWR)
    modes = termios.tcgetattr(0)
    modes[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(0, termios.TCSANOW, modes)
    os.write(own, b"up\n")
    # From a pipe: who is not the foreground job can't read the terminal.
    while os.read(values["ask"][0], 1):
        other = os.open("/dev/tty", os.O_RDWR)
        facts = [os.ttyname(0), os.tcgetpgrp(own) == job, os.getsid(job) == os.getpid(), os.isatty(other)]
        os.close(other)
        os.write(own, repr(facts).encode() + b"\n")
    os._exit(0)


def read_line(fd):
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([fd], [], [], 20)[0], f"only {line!r}"
        line += os.read(fd, 1)
    return line.strip()


def prepare():
    values["ask"] = os.pipe()
    child, values["master"] = pty.fork()
    if child == 0:
        try:
            leader()
        finally:
            os._exit(1)
    values["leader"] = child
    expect(read_line(values["master"]), b"up")
    values["plain"] = pty.openpty()
    master, slave = values["plain"]
    values["name"] = os.ttyname(slave)
    set_size(master, 33, 99)
    modes = termios.tcgetattr(slave)
    modes[3] &= ~termios.ECHO
    modes[6][termios.VINTR] = b"\x07"
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    values["modes"] = termios.tcgetattr(slave)
    os.write(slave, OUTPUT.replace(b"\r\n", b"\n"))
    os.write(master, INPUT)
    values["again"] = os.open(values["name"], os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    gone, values["hung up"] = pty.openpty()
    os.close(gone)
    # A line that is not ended, and a terminal of which nobody has the inner end later on.
    values["typed"], values["quiet"] = pty.openpty(), pty.openpty()
    for _, inner in (values["typed"], values["quiet"]):
        modes = termios.tcgetattr(inner)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(inner, termios.TCSANOW, modes)
    tty.setraw(values["quiet"][1])
    os.write(values["typed"][0], b"half a li")
    # Not all of the lower numbers are taken.
    below = pty.openpty()
    values["to close"] = pty.openpty()
    for fd in below:
        os.close(fd)


def change(count):
    master, slave = values["plain"]
    if count % 2:
        for fd in (master, slave):
            if waiting(fd):
                os.read(fd, 100)
        set_size(master, 5, 6)
        modes = termios.tcgetattr(slave)
        modes[3] |= termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        os.write(master, b"typed since\n")
        os.write(values["typed"][0], b"\x15another line\nand more")
        outer, inner = values["quiet"]
        if inner is not None:
            os.write(outer, b"late")
            os.close(inner)
            values["quiet"] = outer, None
    else:
        ends = [end for name in ("to close", "typed", "quiet") for end in values[name] if end is not None]
        for fd in (master, slave, values["again"], values["hung up"], *ends):
            os.close(fd)
        for name in ("plain", "to close", "typed", "quiet"):
            values[name] = pty.openpty()
        values["again"], values["hung up"] = pty.openpty()
    if values["leader"] is not None:
        # Its terminal hangs up.
        os.close(values["master"])
        os.kill(values["leader"], signal.SIGKILL)
        os.waitpid(values["leader"], 0)
        values["leader"] = None


def check_end(slave):
    expect(os.read(slave, 1), b"", "at the end of a terminal")
    try:
        raise AssertionError(f"{os.write(slave, b'x')} bytes went to a terminal that nobody has")
    except OSError as error:
        expect(error.errno, errno.EIO)


def verify():
    master, slave = values["plain"]
    expect(os.ttyname(slave), values["name"], "name")
    expect(os.ttyname(values["again"]), values["name"], "name")
    expect(size_of(slave), (33, 99), "size")
    expect(termios.tcgetattr(slave), values["modes"], "modes")
    eventually("output", lambda: waiting(master))
    expect(os.read(master, 100), OUTPUT, "output")
    expect(os.read(slave, 100), b"first line\n", "input")
    expect(os.read(values["again"], 100), b"second line\n", "input")
    expect(waiting(slave), False, "more input")
    os.write(master, b"more\n")
    expect(os.read(slave, 100), b"more\n", "input typed now")
    outer, inner = values["typed"]
    expect(waiting(inner), False, "a line that is not ended")
    os.write(outer, b"ne\n")
    expect(os.read(inner, 100), b"half a line\n", "a line that was not ended")
    expect(waiting(values["quiet"][1]), False, "what was typed since")
    check_end(values["hung up"])
    closing, left = values["to close"]
    os.close(closing)
    check_end(left)
    os.write(values["ask"][1], b"?")
    (number,) = struct.unpack("i", fcntl.ioctl(values["master"], TIOCGPTN, bytes(4)))
    expect(eval(read_line(values["master"])), [f"/dev/pts/{number}", True, True, True])


run(prepare, change, verify)
