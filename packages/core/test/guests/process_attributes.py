"""umask, limits, working directory (also one that was removed meanwhile) and names of threads."""

import ctypes
import os
import resource

from guest import expect, libc, run

values = {}


def prepare():
    os.umask(0o027)
    os.makedirs("deep/place")
    os.chdir("deep/place")
    values["cwd"] = os.getcwd()
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, 900))
    resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    libc.prctl(15, b"named", 0, 0, 0)


def change(count):
    os.umask(0o777)
    os.chdir("/tmp")
    if os.path.exists(values["cwd"]):
        os.rmdir(values["cwd"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (300 + count, 900))
    libc.prctl(15, b"renamed", 0, 0, 0)


def verify():
    expect(os.umask(0o027), 0o027)
    expect(os.getcwd(), values["cwd"])
    expect(os.path.samestat(os.stat("."), os.stat(values["cwd"])), True)
    open("made", "w").close()
    expect(os.listdir(values["cwd"]), ["made"])
    expect(resource.getrlimit(resource.RLIMIT_NOFILE), (500, 900))
    name = ctypes.create_string_buffer(16)
    libc.prctl(16, name, 0, 0, 0)
    expect(name.value, b"named")


run(prepare, change, verify)
