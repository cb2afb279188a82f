"""What a process can't take back: dropped capabilities and groups, locked securebits, users left behind, a raised nice value,
SCHED_IDLE. Children that did so are made again as they were; so is a parent that did so before its child died."""

import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

from guest import call, expect, libc, run

CAPSET = 126
AMBIENT, RAISE = 47, 2
CAPBSET_DROP, SET_SECUREBITS, GET_SECUREBITS, KEEPCAPS, DUMPABLE = 24, 28, 27, 8, 4
SET_MDWE, GET_MDWE = 65, 66
NOROOT, NOROOT_LOCKED = 1, 2
CHOWN, KILL, SETGID, SETUID, SETPCAP, NET_RAW = 0, 5, 6, 7, 8, 13
libc.syscall.restype = ctypes.c_long


# --- What each child does at its start, and what it does for good later ---


def mask(*numbers):
    return sum(1 << number for number in numbers)


def capset(effective, permitted, inheritable=0):
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    data = ctypes.create_string_buffer(struct.pack("=6I", effective, permitted, inheritable, 0, 0, 0), 24)
    expect(call(libc.syscall, CAPSET, header, data), (0, 0), "capset")


def prctl(*arguments):
    expect(call(libc.prctl, *arguments, *[0] * (5 - len(arguments))), (0, 0), f"prctl {arguments[0]}")


def state():
    names = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    lines = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/thread-self/status") if ":\t" in line)
    return {
        **{name: lines[name].strip() for name in names},
        "securebits": libc.prctl(GET_SECUREBITS, 0, 0, 0, 0),
        "dumpable": libc.prctl(3, 0, 0, 0, 0),
        "policy": os.sched_getscheduler(0),
        "nice": os.nice(0),
    }


class Capabilities:
    def start(self):
        prctl(CAPBSET_DROP, NET_RAW)
        capset(mask(CHOWN, SETPCAP), mask(CHOWN, KILL, SETPCAP), mask(KILL))
        prctl(AMBIENT, RAISE, KILL)

    def leave(self):
        prctl(CAPBSET_DROP, CHOWN)
        capset(0, 0)


class Securebits:
    def start(self):
        prctl(SET_SECUREBITS, NOROOT)

    def leave(self):
        prctl(SET_SECUREBITS, NOROOT | NOROOT_LOCKED)


class Nice:
    def start(self):
        os.nice(3)

    def leave(self):
        os.nice(9)


class Idle:
    def start(self):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    def leave(self):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class Groups:
    needs_users = True

    def start(self):
        os.setgroups([700, 5])
        os.setresgid(1000, 1000, 1000)

    def leave(self):
        os.setgroups([])
        capset(0, 0)


class Server:
    """Takes a low port, then leaves root for good; what its sockets tell of it is the user that it was by then."""

    needs_users = True

    def start(self):
        self.listener = next(filter(None, map(self.listen, range(81, 1000))))
        os.setgroups([])
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        self.pair = socket.socketpair()

    def leave(self):
        self.listener.close()
        os.kill(os.getpid(), signal.SIGKILL)

    def listen(self, port):
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            return None

    def state(self):
        peer = self.pair[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        with socket.create_connection(self.listener.getsockname()):
            self.listener.accept()[0].close()
        return {"peer": struct.unpack("=3i", peer)}


class User:
    """Keeps two capabilities as another user."""

    needs_users = True

    def start(self):
        os.setgroups([5])
        prctl(KEEPCAPS, 1)
        os.setresuid(1000, 1000, 1001)
        capset(0, mask(CHOWN, SETUID))
        prctl(DUMPABLE, 1)

    def leave(self):
        capset(mask(SETUID), mask(SETUID))
        os.setresuid(1002, 1002, 1002)


class Parent:
    """Its child has all rights, itself none any more; the child dies."""

    def start(self):
        self.child = spawn("Plain")
        ask(self.child, "state")
        capset(0, 0)
        os.nice(5)

    def leave(self):
        self.child.kill()
        self.child.wait()

    def state(self):
        return {"child": ask(self.child, "state"), "returncode": self.child.returncode, "pid": self.child.pid}


class DenyExecutable:
    """May have no memory that can be written and executed, and so may nobody that it starts."""

    def start(self):
        self.child = spawn("Plain")
        ask(self.child, "state")

    def leave(self):
        prctl(SET_MDWE, 1)
        self.child.kill()
        self.child.wait()

    def state(self):
        denies = libc.prctl(GET_MDWE, 0, 0, 0, 0)
        return {"denies": denies, "returncode": self.child.returncode, "child": ask(self.child, "state")}


class Thread:
    """Its other thread has the higher priority and the rights that the main one gave up."""

    def start(self):
        self.asked, self.answer = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self.serve, daemon=True).start()
        self.ask("state")
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 6)
        capset(0, mask(CHOWN))

    def serve(self):
        while True:
            self.asked.acquire()
            self.result = state()
            if self.action == "end":
                self.answer.release()
                return
            self.answer.release()

    def ask(self, action):
        self.action = action
        self.asked.release()
        self.answer.acquire()
        return self.result

    def leave(self):
        self.ask("end")

    def state(self):
        return {"other": self.ask("state")}


class Plain:
    def start(self):
        pass


KINDS = [Capabilities, Securebits, Nice, Idle, Groups, Server, User, Parent, DenyExecutable, Thread]


def serve(kind):
    kind.start()
    for line in sys.stdin:
        if line.strip() == "leave":
            kind.leave()
        more = kind.state() if hasattr(kind, "state") and line.strip() == "state" else {}
        print(json.dumps({**state(), **more}), flush=True)


# --- The guest ---

children = {}
wanted = {}


def spawn(name):
    command = [sys.executable, "-u", os.path.abspath(__file__), "child", name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def ask(child, what):
    child.stdin.write(what.encode() + b"\n")
    return json.loads(child.stdout.readline() or "null")  # of one that ended


def prepare():
    has_users = call(libc.setgroups, 0, None)[0] == 0
    for kind in KINDS:
        if hasattr(kind, "needs_users") and not has_users:
            continue
        children[kind.__name__] = spawn(kind.__name__)
        wanted[kind.__name__] = ask(children[kind.__name__], "state")


def change(count):
    if count == 1:
        for child in children.values():
            ask(child, "leave")


def verify():
    for name, child in children.items():
        expect(ask(child, "state"), wanted[name], name)


if sys.argv[1:2] == ["child"]:
    serve(globals()[sys.argv[2]]())
else:
    run(prepare, change, verify)
