"""Children that ended since the checkpoint live again, under the same parents, whole or in part: a shell with a child of
its own, a child in a session of its own, a child in a group of its own."""

import os
import signal
import subprocess

from guest import eventually, expect, run

children = {}
LOOP = "read line; while true; do echo $line $1 $PPID; read line; done"


def start(name, script, **options):
    children[name] = subprocess.Popen(
        ["bash", "-c", script, "bash", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, **options
    )


def prepare():
    start("plain", LOOP)
    start("session", LOOP, start_new_session=True)
    start("group", LOOP, process_group=0)
    # Its child reads and answers; the shell itself waits for it.
    start("parent", f"bash -c '{LOOP}' bash $1; true")
    eventually("no grandchild", lambda: children_of(children["parent"].pid))
    children["grandchild"] = children_of(children["parent"].pid)[0]


def children_of(pid):
    return [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def alive(pid):
    return os.path.exists(f"/proc/{pid}")


def change(count):
    if count > 1:
        return
    for name in ("plain", "session", "group"):
        children[name].kill()
        children[name].wait()
    # Its child goes to init, and lives on.
    children["parent"].kill()
    children["parent"].wait()
    assert alive(children["grandchild"])


def verify():
    for name in ("plain", "session", "group", "parent"):
        child = children[name]
        expect(child.returncode, None, name)
        pid = children["grandchild"] if name == "parent" else child.pid
        parent = child.pid if name == "parent" else os.getpid()
        child.stdin.write(b"hello\n")
        expect(child.stdout.readline(), b"hello %s %d\n" % (name.encode(), parent), name)
        expect(os.getsid(pid), child.pid if name == "session" else os.getsid(0), name)
        expect(os.getpgid(pid), child.pid if name in ("session", "group") else os.getpgid(0), name)
    expect(sorted(children_of(os.getpid())), sorted(children[name].pid for name in children if name != "grandchild"))
    expect(children_of(children["parent"].pid), [children["grandchild"]])
    expect(os.waitpid(-1, os.WNOHANG), (0, 0))
    expect(signal.SIGCHLD in signal.sigpending(), False)


run(prepare, change, verify)
