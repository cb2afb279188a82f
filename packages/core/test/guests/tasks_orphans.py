"""Processes whose parents, group leaders or session leaders ended before the checkpoint come back as what they were."""

import os
import subprocess

from guest import eventually, expect, run

known = {}


def stat(pid):
    """Parent, group and session."""
    return tuple(int(field) for field in open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1:4])


def orphan(name, how):
    """A process whose parent has ended."""
    read, write = os.pipe()
    if os.fork() == 0:
        how()
        pid = os.fork()
        if pid == 0:
            os.execvp("sleep", ["sleep", "100000"])
        os.write(write, str(pid).encode())
        os._exit(0)
    known[name] = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    os.wait()
    eventually("init has not taken it over", lambda: stat(known[name])[0] == 1)


def prepare():
    orphan("same group", lambda: None)
    orphan("group without leader", lambda: os.setpgid(0, 0))
    orphan("session without leader", os.setsid)
    # The first of a pipeline has ended.
    pipeline = subprocess.Popen(["bash", "-ic", "true | sleep 100000 & wait"], stderr=subprocess.DEVNULL,
                                stdin=subprocess.DEVNULL, start_new_session=True)
    known["shell"] = pipeline.pid
    children = f"/proc/{pipeline.pid}/task/{pipeline.pid}/children"

    def rest():
        pids = open(children).read().split()
        try:
            return len(pids) == 1 and open(f"/proc/{pids[0]}/comm").read() == "sleep\n"
        except (FileNotFoundError, ProcessLookupError):
            return False  # the first of the pipeline, on its way out

    eventually("no rest of a pipeline", rest)
    known["rest of a pipeline"] = int(open(children).read())
    known["stats"] = {name: stat(pid) for name, pid in known.items()}


def pids():
    return {name: pid for name, pid in known.items() if name != "stats"}


def change(count):
    if count > 1:
        return
    for name, pid in pids().items():
        if name != "shell":
            expect(state(pid), "S", name)
            os.kill(pid, 9)
    for name, pid in pids().items():
        if name != "shell":
            eventually(f"{name} lives", lambda: has_ended(pid))


def state(pid):
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]


def has_ended(pid):
    try:
        return state(pid) == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True  # init has waited for it


def verify():
    for name, pid in pids().items():
        eventually(f"{name} does not sleep", lambda: state(pid) == "S")
        expect(stat(pid), known["stats"][name], name)


run(prepare, change, verify)
