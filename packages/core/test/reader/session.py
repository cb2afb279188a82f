"""A session with state of every kind that a rollback restores; `change` alters all of it, as deeply as it can.

Commands come line by line: change N [deep]. A deep change also makes threads and children. Everything waits without a time limit, so that the session stands still
between commands.
"""

import ctypes
import mmap
import os
import queue
import resource
import signal
import subprocess
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.sbrk.restype = ctypes.c_void_p
libc.sbrk.argtypes = [ctypes.c_long]
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
REGION = 64 * 4096

jobs = queue.Queue()
never = threading.Lock()
results = []
handled = []


def map_region():
    address = libc.mmap(None, REGION, 3, ANONYMOUS, -1, 0)
    ctypes.memset(address, 0x5A, REGION)
    return address


def worker():
    while True:
        results.append(jobs.get() * 2)


def waiter():
    with never:
        pass


def pipe_reader(fd):
    while True:
        results.append(os.read(fd, 1))
        never.acquire()  # the rest stays in the pipe


never.acquire()
values = {number: str(number) * 3 for number in range(20_000)}
os.umask(0o027)
os.makedirs("/workspace/place/deep", exist_ok=True)
os.makedirs("/tmp/other", exist_ok=True)
for name in ("/workspace/data", "/tmp/log", "/home/note", "/root/note", "/run/note", "/var/tmp/note", "/dev/shm/note"):
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "wb") as made:
        made.write(name.encode() * 1000)
os.symlink("/workspace/data", "/workspace/link")
reading = open("/workspace/data", "rb", buffering=0)
reading.seek(123)
writing = open("/workspace/out", "w+b", buffering=0)
writing.write(b"begun " * 100)
writing.seek(50)
appending = os.open("/tmp/log", os.O_WRONLY | os.O_APPEND)
shared = os.dup(appending)
directory = os.open("/workspace/place", os.O_RDONLY | os.O_DIRECTORY)
pipe_end, pipe_start = os.pipe()
os.write(pipe_start, b"!contents of a pipe" * 20)
os.chdir("/workspace/place/deep")
signal.signal(signal.SIGUSR1, lambda *_: handled.append("one"))
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGHUP})
os.kill(os.getpid(), signal.SIGUSR1)
resource.setrlimit(resource.RLIMIT_CORE, (4096, 8192))
regions = [map_region() for _ in range(6)]
private = mmap.mmap(reading.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
private[0:7] = b"private"
for target, args in [(worker, ()), (worker, ()), (waiter, ()), (pipe_reader, (pipe_end,))]:
    threading.Thread(target=target, args=args, daemon=True).start()


def change_once():
    """What can't be done twice."""
    os.close(shared)
    os.close(directory)
    os.set_blocking(pipe_end, False)
    while True:
        try:
            os.read(pipe_end, 100)
        except BlockingIOError:
            break
    os.write(pipe_start, b"something else")
    os.close(pipe_end)


def change(number, deep):
    global values, reading, ballast
    values = {key: number for key in range(100)}
    ballast = bytearray(os.urandom(4096) * (50 << 8))
    for index in range(number + 1):
        jobs.put(index)
    os.umask(number & 0o77)
    os.chdir("/tmp/other" if number % 2 else "/")
    subprocess.run(["rm", "-rf", "/workspace/place", "/workspace/link", "/home/note", "/dev/shm/note"], check=True)
    for name in (f"/workspace/new{number}", f"/tmp/new{number}", f"/run/new{number}", "/root/note"):
        with open(name, "ab") as made:
            made.write(os.urandom(10_000))
    os.chmod("/workspace/data", 0o600)
    writing.truncate(7)
    writing.write(b"overwritten")
    os.write(appending, b"one more line\n")
    reading.seek(1)
    extra = os.open("/workspace/data", os.O_RDWR)
    os.dup2(extra, 40 + number)
    if number == 1:
        change_once()
    signal.signal(signal.SIGUSR2, lambda *_: handled.append("two"))
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM})
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (number, 8192))
    libc.munmap(regions[0], REGION)
    libc.munmap(regions[1] + 8 * 4096, 4096)
    libc.mprotect(regions[2], 4096, 1)
    libc.mprotect(regions[3], REGION, 0)
    libc.madvise(regions[4], REGION // 2, 4)
    ctypes.memset(regions[5], number, REGION)
    map_region()
    libc.sbrk(1 << 20)
    private[0:7] = b"changed"
    if not deep:
        return
    subprocess.Popen(["sleep", "1000"])
    subprocess.Popen(["bash", "-c", "sleep 1001 & wait"])
    threading.Thread(target=threading.Event().wait, daemon=True).start()


print("READY", flush=True)
for line in sys.stdin:
    word, number, *rest = line.split()
    if word == "change":
        change(int(number), "deep" in rest)
        print("CHANGED", flush=True)
