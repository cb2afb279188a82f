"""Pipes: the borders between packets (O_DIRECT), and how much one takes."""

import fcntl
import os

from guest import expect, run

values = {}
F_SETPIPE_SZ, F_GETPIPE_SZ = 1031, 1032


def write_packets(pipe, packets):
    fcntl.fcntl(pipe[1], fcntl.F_SETFL, os.O_DIRECT | os.O_NONBLOCK)
    for packet in packets:
        os.write(pipe[1], packet)


def write_stream(pipe, data):
    fcntl.fcntl(pipe[1], fcntl.F_SETFL, os.O_NONBLOCK)
    os.write(pipe[1], data)


def prepare():
    for name in ("packets", "alone", "many", "small", "large"):
        values[name] = os.pipe2(os.O_NONBLOCK)
    os.mkfifo("fifo")
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    values["fifo"] = reader, os.open("fifo", os.O_WRONLY)
    fcntl.fcntl(values["small"][0], F_SETPIPE_SZ, 4096)
    fcntl.fcntl(values["large"][0], F_SETPIPE_SZ, 1 << 18)
    fill()


def fill():
    write_packets(values["packets"], [b"one", b"two", b"x" * 4096])
    write_stream(values["packets"], b"no packet")
    write_packets(values["alone"], [b"alone"])
    write_packets(values["many"], [b"%d" % number for number in range(16)])
    write_packets(values["fifo"], [b"first", b"second"])


def change(count):
    open("written", "a").write("so that the volume is sealed\n")
    for name in ("packets", "alone", "many", "fifo"):
        is_empty(values[name])
    for name, size in (("small", 1 << 16), ("large", 4096)):
        fcntl.fcntl(values[name][0], F_SETPIPE_SZ, size)


def is_empty(pipe):
    try:
        return not os.read(pipe[0], 1)
    except BlockingIOError:
        return True


def verify():
    expect([os.read(values["packets"][0], size) for size in (100, 1, 5000, 2, 100)],
           [b"one", b"t", b"x" * 4096, b"no", b" packet"])
    expect(os.read(values["alone"][0], 2), b"al")
    expect([os.read(values["many"][0], 100) for _ in range(16)], [b"%d" % number for number in range(16)])
    expect([os.read(values["fifo"][0], 4) for _ in range(2)], [b"firs", b"seco"])
    expect([is_empty(values[name]) for name in ("packets", "alone", "many", "fifo")], [True] * 4)
    expect([fcntl.fcntl(values[name][0], F_GETPIPE_SZ) for name in ("small", "large")], [4096, 1 << 18])
    fill()


run(prepare, change, verify)
