"""Epolls: what they watch, under which number, with which events and data; nested, closed and shared ones."""

import asyncio
import ctypes
import os
import select
import struct
import threading

from guest import call, eventually, expect, libc, run

IN = select.EPOLLIN
values = {}


class Loop(asyncio.SelectorEventLoop):
    """Without the sockets by which other threads wake a loop: this guest is about epolls alone."""

    def _make_self_pipe(self):
        self._internal_fds = 0

    def _close_self_pipe(self):
        pass


loop = Loop()


def control(operation, name, fd, events, data):
    event = struct.pack("=IQ", events, data)
    expect(call(libc.epoll_ctl, values[name].fileno(), operation, fd, event), (0, 0), f"{name} {fd}")


def ready(name):
    """Pairs of data and events of what is ready now."""
    buffer = ctypes.create_string_buffer(12 * 64)
    count, _ = call(libc.epoll_wait, values[name].fileno(), buffer, 64, 0)
    found = [struct.unpack_from("=IQ", buffer.raw, 12 * index) for index in range(count)]
    return sorted((data, events) for events, data in found)


def entries(name):
    lines = [line.split() for line in open(f"/proc/self/fdinfo/{values[name].fileno()}") if line.startswith("tfd:")]
    return sorted((int(line[1]), line[3], line[5]) for line in lines)


def prepare():
    for name in ("many", "inner", "outer", "closed", "waited", "emptied"):
        values[name] = select.epoll()
    for name in ("full", "gone", "moved", "edge", "once", "spare"):
        values[name] = os.eventfd(0, os.EFD_NONBLOCK)
    os.eventfd_write(values["full"], 1)
    os.eventfd_write(values["edge"], 1)
    control(1, "many", values["full"], IN, 1 << 40)
    control(1, "many", values["gone"], IN, 2)
    control(1, "many", values["edge"], IN | select.EPOLLET, 3)
    control(1, "many", values["once"], IN | select.EPOLLONESHOT, 4)
    # Registered under a number that leads nowhere afterwards, and under one that leads to something else.
    values["number"] = os.dup(values["moved"])
    first = os.dup(values["moved"])
    control(1, "many", first, IN, 5)
    os.close(first)
    control(1, "many", values["number"], IN, 6)
    os.dup2(values["spare"], values["number"])
    # Under a number that the epoll itself has by now.
    number = os.dup(values["moved"])
    with select.epoll() as own:
        own.register(number, IN)
        os.dup2(own.fileno(), number)
    values["own"] = select.epoll.fromfd(number)
    control(1, "inner", values["full"], IN, 7)
    control(1, "outer", values["inner"].fileno(), IN, 8)
    control(1, "closed", values["full"], IN, 9)
    control(1, "emptied", values["full"], IN, 10)
    values["entries"] = {name: entries(name) for name in ("many", "own", "inner", "outer", "closed", "emptied")}
    values["pipe"] = os.pipe()
    control(1, "waited", values["pipe"][0], IN, 11)
    values["woken"] = []
    threading.Thread(target=lambda: values["woken"].append(values["waited"].poll()), daemon=True).start()
    prepare_loop()


def prepare_loop():
    """A loop of asyncio, in a thread of its own: it answers what comes in a pipe."""
    values["ask"], values["answer"] = os.pipe(), os.pipe()

    def answer():
        asked = os.read(values["ask"][0], 100)
        if asked == b"leave":
            loop.remove_reader(values["ask"][0])
        else:
            os.write(values["answer"][1], asked.upper())

    loop.add_reader(values["ask"][0], answer)
    threading.Thread(target=loop.run_forever, daemon=True).start()


def change(count):
    if count == 1:
        os.close(values["gone"])
        control(2, "many", values["edge"], 0, 0)
        os.eventfd_read(values["full"])
        values["inner"].close()
        values["closed"].close()
        values["own"].close()
        control(2, "emptied", values["full"], 0, 0)
        control(1, "waited", values["spare"], IN, 12)
        os.write(values["ask"][1], b"leave")
        eventually("the loop watches on", lambda: not is_watched_by_loop())
    control(3, "many", values["once"], IN | select.EPOLLOUT, 400 + count)


def is_watched_by_loop():
    info = open(f"/proc/self/fdinfo/{loop._selector.fileno()}").read()
    return f"tfd: {values['ask'][0]:8d} " in info


def verify():
    found = {name: entries(name) for name in values["entries"]}
    expect(found, values["entries"])
    expect(values["woken"], [])
    full = (1 << 40, IN)
    expect([one for one in ready("many") if one[0] != 3], [full])
    for name in ("gone", "moved", "once"):
        os.eventfd_write(values[name], 1)
    expect([one for one in ready("many") if one[0] != 3], [(2, IN), (4, IN), (5, IN), (6, IN), full])
    expect([events for _, events in ready("own")], [IN])
    for name in ("gone", "moved", "once"):
        os.eventfd_read(values[name])
    control(3, "many", values["once"], IN | select.EPOLLONESHOT, 4)
    os.eventfd_write(values["edge"], 1)
    expect((3, IN) in ready("many"), True, "an event of an edge")
    expect(ready("inner"), [(7, IN)])
    expect(ready("outer"), [(8, IN)])
    expect(ready("closed"), [(9, IN)])
    expect(ready("emptied"), [(10, IN)])
    os.write(values["ask"][1], b"hello")
    expect(os.read(values["answer"][0], 100), b"HELLO")


run(prepare, change, verify)
