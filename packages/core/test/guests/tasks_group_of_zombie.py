"""A process whose group's leader has ended and is not collected yet comes back into that group, the leader as a zombie."""

import os
import signal

from guest import eventually, expect, run

pids = {}


def child(name, group, action):
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, group)
        action()
        os._exit(3)
    pids[name] = pid
    eventually(f"{name} is in its group", lambda: os.getpgid(pid) == (group or pid))


def state(pid):
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]


def prepare():
    child("leader", 0, signal.pause)
    child("member", pids["leader"], lambda: [signal.pause() for _ in range(1000)])
    os.kill(pids["leader"], signal.SIGKILL)
    eventually("the leader is a zombie", lambda: state(pids["leader"]) == "Z")


def change(count):
    if count > 1:
        return
    os.kill(pids["member"], signal.SIGKILL)
    for pid in pids.values():
        os.waitpid(pid, 0)


def verify():
    expect(os.getpgid(pids["member"]), pids["leader"])
    expect((state(pids["leader"]), state(pids["member"])), ("Z", "S"))
    found = os.waitid(os.P_PID, pids["leader"], os.WEXITED | os.WNOWAIT | os.WNOHANG)
    expect(found.si_status, signal.SIGKILL)
    os.killpg(pids["leader"], 0)


run(prepare, change, verify)
