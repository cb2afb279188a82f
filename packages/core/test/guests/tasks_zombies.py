"""Children that had ended at the checkpoint, and were collected since, can be collected again, with their status."""

import os
import signal

from guest import eventually, expect, run

children = {}


def child(name, action):
    pid = os.fork()
    if pid == 0:
        action()
        os._exit(0)
    children[name] = pid


def state(pid):
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]


def prepare():
    child("seven", lambda: os._exit(7))
    child("killed", lambda: os.kill(os.getpid(), signal.SIGKILL))
    child("terminated", lambda: os.kill(os.getpid(), signal.SIGTERM))
    child("stays", lambda: os._exit(3))
    for pid in children.values():
        eventually("a child lives", lambda: state(pid) == "Z")


def change(count):
    if count == 1:
        for name in ("seven", "killed", "terminated"):
            os.waitpid(children[name], 0)


def verify():
    for name, (code, status) in {
        "seven": (os.CLD_EXITED, 7),
        "killed": (os.CLD_KILLED, signal.SIGKILL),
        "terminated": (os.CLD_KILLED, signal.SIGTERM),
        "stays": (os.CLD_EXITED, 3),
    }.items():
        found = os.waitid(os.P_PID, children[name], os.WEXITED | os.WNOWAIT | os.WNOHANG)
        expect((found.si_pid, found.si_code, found.si_status), (children[name], code, status), name)


run(prepare, change, verify)
