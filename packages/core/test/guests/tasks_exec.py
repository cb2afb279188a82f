"""A child that executed another program since the checkpoint runs its earlier one, at the same place in it."""

import os
import subprocess

from guest import expect, run

values = {}


def ask(text, lines=1):
    values["shell"].stdin.write(text.encode() + b"\n")
    return b"".join(values["shell"].stdout.readline() for _ in range(lines))


def prepare():
    values["shell"] = subprocess.Popen(["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    expect(ask("remembered=before; echo ready"), b"ready\n")
    values["exe"] = os.readlink(f"/proc/{values['shell'].pid}/exe")
    values["cmdline"] = open(f"/proc/{values['shell'].pid}/cmdline", "rb").read()
    values["auxv"] = open(f"/proc/{values['shell'].pid}/auxv", "rb").read()


def change(count):
    if count == 1:
        values["shell"].stdin.write(b"exec cat\n")
        values["shell"].stdin.write(b"echoed\n")
        expect(values["shell"].stdout.readline(), b"echoed\n")
    else:
        expect(ask("again"), b"again\n")


def verify():
    pid = values["shell"].pid
    expect(os.readlink(f"/proc/{pid}/exe"), values["exe"])
    expect(open(f"/proc/{pid}/comm").read(), "bash\n")
    expect(open(f"/proc/{pid}/cmdline", "rb").read(), values["cmdline"])
    expect(open(f"/proc/{pid}/auxv", "rb").read(), values["auxv"])
    expect(ask("echo $remembered $$"), b"before %d\n" % pid)


run(prepare, change, verify)
