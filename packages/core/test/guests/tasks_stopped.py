"""Children that are stopped and children that run: each is again what it was, and the parent is told of nothing."""

import os
import signal
import subprocess
import sys

from guest import eventually, expect, run

values = {"chld": 0}
COUNTER = """
import itertools, threading
def count():
    for n in itertools.count():
        print(n, flush=True)
threading.Thread(target=count).start()
for n in itertools.count():
    print(n, flush=True)
"""


def state_of(child):
    return open(f"/proc/{child.pid}/stat").read().rsplit(")", 1)[1].split()[0]


def task_states(child):
    tasks = f"/proc/{child.pid}/task"
    return {open(f"{tasks}/{task}/stat").read().rsplit(")", 1)[1].split()[0] for task in os.listdir(tasks)}


def stop(child):
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)


def count_chld(*_):
    values["chld"] += 1


def prepare():
    values["stopped"] = subprocess.Popen([sys.executable, "-c", COUNTER], stdout=subprocess.PIPE)
    values["running"] = subprocess.Popen(["sleep", "1000"])
    for _ in range(10):
        values["stopped"].stdout.readline()
    stop(values["stopped"])
    # The other thread, too.
    eventually("all threads stand", lambda: task_states(values["stopped"]) == {"T"})
    signal.signal(signal.SIGCHLD, count_chld)


def change(count):
    if count % 2:
        values["stopped"].send_signal(signal.SIGCONT)
        eventually("it goes on", lambda: "T" not in task_states(values["stopped"]))
        stop(values["running"])
    else:
        values["stopped"].kill()
        values["stopped"].wait()
        values["stopped"] = subprocess.Popen(["sleep", "1001"])
        stop(values["stopped"])
        values["running"].send_signal(signal.SIGCONT)
    eventually("it is heard of", lambda: values["chld"] > 0)


def verify():
    expect(values["chld"], 0, "SIGCHLD")
    expect(task_states(values["stopped"]), {"T"})
    expect(state_of(values["running"]), "S")
    expect(os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED), (0, 0))
    values["stopped"].send_signal(signal.SIGCONT)
    expect(os.waitpid(values["stopped"].pid, os.WCONTINUED)[0], values["stopped"].pid)
    eventually("it goes on", lambda: "T" not in task_states(values["stopped"]))
    before = values["stopped"].stdout.readline()
    assert before.strip().isdigit(), before
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stop(values["stopped"])
    values["chld"] = 0
    signal.signal(signal.SIGCHLD, count_chld)


run(prepare, change, verify)
