"""Children made after the checkpoint end without a trace: no SIGCHLD, no zombie; a child of before lives on."""

import os
import signal
import subprocess

from guest import expect, run

values = {"chld": 0}


def prepare():
    values["child"] = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    signal.signal(signal.SIGCHLD, lambda *_: values.update(chld=values["chld"] + 1))


def change(count):
    values["new"] = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
    values["grandchildren"] = subprocess.Popen(["sh", "-c", "sleep 1000 & sleep 1001 & wait"])
    values["zombie"] = subprocess.Popen(["true"])
    os.waitid(os.P_PID, values["zombie"].pid, os.WEXITED | os.WNOWAIT)


def verify():
    expect(values["chld"], 0, "SIGCHLD")
    children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    expect(children, [str(values["child"].pid)])
    values["child"].stdin.write(b"hello")
    expect(values["child"].stdout.read(5), b"hello")
    expect(os.waitpid(-1, os.WNOHANG), (0, 0))


run(prepare, change, verify)
