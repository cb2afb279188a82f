"""Groups come back with all that were in them, also those whose number is a process that has left them."""

import os
import signal

from guest import eventually, expect, run

pids = {}


def child(name, group):
    """One that joins its parent's group at SIGUSR1: after a process was made again, its parent can't do it (EACCES)."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGUSR1, lambda *_: os.setpgid(0, os.getpgid(os.getppid())))
        os.setpgid(0, group)
        while True:
            signal.pause()
    pids[name] = pid
    eventually(f"{name} is in its group", lambda: os.getpgid(pid) == (group or pid))


def leave(name):
    os.kill(pids[name], signal.SIGUSR1)
    eventually(f"{name} is in its parent's group", lambda: os.getpgid(pids[name]) == os.getpgid(0))


def state(pid):
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]


def prepare():
    for name in "stays", "left", "ended":
        child(name, 0)
        child(f"in {name}", pids[name])
    # They leave the groups that have their numbers.
    for name in "left", "ended":
        leave(name)
    os.kill(pids["ended"], signal.SIGKILL)
    eventually("it is a zombie", lambda: state(pids["ended"]) == "Z")


def change(count):
    if count > 1:
        return
    for name in "in stays", "in left", "in ended":
        os.kill(pids[name], signal.SIGKILL)
        os.waitpid(pids[name], 0)
    os.waitpid(pids["ended"], 0)
    leave("stays")


def verify():
    own = os.getpgid(0)
    groups = {name: os.getpgid(pid) for name, pid in pids.items()}
    expect(groups["stays"], pids["stays"], "stays")
    expect((groups["left"], groups["ended"]), (own, own))
    for name in "stays", "left", "ended":
        expect(groups[f"in {name}"], pids[name], f"in {name}")
        os.killpg(pids[name], 0)
    expect(state(pids["ended"]), "Z")
    alive = [pid for name, pid in pids.items() if name != "ended"]
    eventually("the others sleep", lambda: {state(pid) for pid in alive} == {"S"})


run(prepare, change, verify)
