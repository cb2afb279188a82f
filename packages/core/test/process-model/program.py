"""A process that changes itself at random: memory, threads, descriptors, children, signals, attributes, files.

    program.py DIRECTORY

Lines on standard input, each answered by a line and "<end>":

    step SEED COUNT   draws and carries out COUNT operations from SEED; each child then does a part of its own
    look              what only the process itself can see (what waits in its sockets and terminals), and its children
Between two lines all stand still: every thread waits without a time limit that could pass. Children obey lines on pipes,
and those whose parent is gone wait for ever.
"""

import array
import ctypes
import fcntl
import hashlib
import mmap
import os
import random
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import tty

PAGE = mmap.PAGESIZE
MAX_PROCESSES = 10
MAX_THREADS = 4
MAX_DESCRIPTORS = 40
MAX_REGIONS = 14
READ, WRITE = mmap.PROT_READ, mmap.PROT_WRITE
MREMAP_MAYMOVE, MADV_DONTNEED = 1, 4
FOREVER_S = 10_000_000
END = b"<end>\n"

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mremap.restype = ctypes.c_void_p
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
for function in (libc.munmap, libc.mprotect, libc.madvise):
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * (function is not libc.munmap)
libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]


def checked(result):
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Region:
    """Pages mapped by one call, or what is left of them: one protection, one kind."""

    def __init__(self, start, pages, protection, kind):
        self.start, self.pages, self.protection, self.kind = start, pages, protection, kind

    def part(self, first, pages):
        return Region(self.start + first * PAGE, pages, self.protection, self.kind)


class Child:
    def __init__(self, pid, requests, answers):
        self.pid, self.requests, self.answers = pid, requests, answers
        self.stopped = False


class Program:
    def __init__(self, directory):
        self.directory = directory
        self.random = random.Random(0)
        self.made = 0
        self.regions = []
        self.descriptors = []  # numbers
        self.pairs = []  # (end to read, end to write)
        self.sockets = []
        self.terminals = []  # (master, slave)
        self.threads = []  # ways to end them, or None
        self.children = []
        self.others = []  # pids of programs, of children that left zombies
        self.handled = []
        self.operations = [
            name for name, weight in self.WEIGHTS.items() for _ in range(weight)
        ]

    WEIGHTS = {
        "map_anonymous": 4, "map_large": 1, "map_shared": 2, "map_file": 3, "write_memory": 14, "clear_memory": 3,
        "unmap": 3, "protect": 4, "drop": 4, "remap": 2, "grow_heap": 1,
        "start_thread": 3, "end_thread": 2,
        "open_file": 6, "write_file": 6, "truncate_file": 2, "seek": 3, "change_names": 4, "make_directory": 2,
        "lock_file": 2, "duplicate": 3, "close": 6, "set_flags": 2,
        "make_pipe": 3, "fill": 5, "drain": 4, "make_sockets": 3, "make_connection": 1, "make_eventfd": 1,
        "make_epoll": 2, "make_memfd": 1, "make_timerfd": 1, "make_signalfd": 1, "make_terminal": 1,
        "fork": 4, "kill_child": 3, "leave_zombie": 1, "stop_child": 1, "start_program": 1,
        "set_handler": 4, "set_mask": 3, "send_signal": 4, "set_timer": 1,
        "set_attributes": 4, "change_directory": 2,
    }  # fmt: skip

    # --- memory ---

    def room(self):
        return len(self.regions) < MAX_REGIONS

    def map(self, pages, protection, flags, fd=-1, kind="anonymous"):
        region = Region(checked(libc.mmap(None, pages * PAGE, protection, flags, fd, 0)), pages, protection, kind)
        self.regions.append(region)
        return region

    def map_anonymous(self):
        if self.room():
            self.write(self.map(self.random.randint(1, 64), READ | WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def map_large(self):
        if self.room():
            region = self.map(5000, READ | WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            ctypes.memmove(region.start, self.random.randbytes(region.pages * PAGE), region.pages * PAGE)

    def map_shared(self):
        if self.room():
            pages = self.random.randint(1, 16)
            self.write(self.map(pages, READ | WRITE, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS, kind="shared"))

    def map_file(self):
        """Of a file of its own, which keeps its size and its name."""
        if not self.room():
            return
        pages = self.random.randint(1, 8)
        path = self.new_path("mapped")
        with open(path, "wb") as file:
            file.write(self.random.randbytes(pages * PAGE))
        fd = os.open(path, os.O_RDWR)
        shared = self.random.random() < 0.5
        self.map(pages, READ | WRITE, mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE, fd, "file")
        os.close(fd)

    def write(self, region):
        for _ in range(self.random.randint(1, 6)):
            size = min(self.random.choice([1, 8, 100, PAGE, 3 * PAGE]), region.pages * PAGE)
            offset = self.random.randint(0, region.pages * PAGE - size)
            ctypes.memmove(region.start + offset, self.random.randbytes(size), size)

    def some_region(self, condition=lambda region: True):
        return self.random.choice([region for region in self.regions if condition(region)])

    def write_memory(self):
        self.write(self.some_region(lambda region: region.protection & WRITE))

    def clear_memory(self):
        region = self.some_region(lambda region: region.protection & WRITE)
        page = self.random.randrange(region.pages)
        ctypes.memset(region.start + page * PAGE, 0, PAGE)

    def some_part(self, region):
        """A part of a region, which is a region of its own from now on."""
        first = self.random.randrange(region.pages)
        pages = self.random.randint(1, region.pages - first)
        self.regions.remove(region)
        rest = [region.part(0, first), region.part(first + pages, region.pages - first - pages)]
        part = region.part(first, pages)
        self.regions += [other for other in rest if other.pages > 0] + [part]
        return part

    def unmap(self):
        part = self.some_part(self.some_region())
        checked(libc.munmap(part.start, part.pages * PAGE))
        self.regions.remove(part)

    def protect(self):
        part = self.some_part(self.some_region())
        part.protection = self.random.choice([0, READ, READ | WRITE, READ | WRITE])
        checked(libc.mprotect(part.start, part.pages * PAGE, part.protection))

    def drop(self):
        part = self.some_part(self.some_region())
        checked(libc.madvise(part.start, part.pages * PAGE, MADV_DONTNEED))

    def remap(self):
        region = self.some_region(lambda region: region.kind == "anonymous")
        pages = self.random.randint(1, region.pages + 8)
        moved = checked(libc.mremap(region.start, region.pages * PAGE, pages * PAGE, MREMAP_MAYMOVE))
        region.start, region.pages = moved, pages

    def grow_heap(self):
        self.kept = bytearray(self.random.randbytes(self.random.randint(1, 300_000)))

    # --- threads ---

    def start_thread(self):
        if len(self.threads) >= MAX_THREADS:
            return
        kind = self.random.choice(["lock", "pipe", "poll", "sleep"])
        if kind == "lock":
            lock = threading.Lock()
            lock.acquire()
            target, end = lock.acquire, lock.release
        elif kind == "sleep":
            target, end = (lambda: time.sleep(FOREVER_S)), None
        else:
            source, sink = os.pipe()
            wait = (lambda: os.read(source, 1)) if kind == "pipe" else (lambda: self.poll(source))

            def target():
                wait()
                os.close(source)

            def end():
                os.write(sink, b"x")
                os.close(sink)

        begun = threading.Event()

        def body():
            begun.set()
            target()

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        begun.wait()
        self.threads.append((thread, end))

    @staticmethod
    def poll(source):
        poll = select.poll()
        poll.register(source, select.POLLIN)
        poll.poll()

    def end_thread(self):
        entry = self.random.choice([entry for entry in self.threads if entry[1] is not None])
        self.threads.remove(entry)
        entry[1]()
        entry[0].join()

    # --- files and descriptors ---

    def new_path(self, kind):
        self.made += 1
        return f"{self.directory}/{kind}-{os.getpid()}-{self.made}"

    def some_path(self, kind="file"):
        names = sorted(name for name in os.listdir(self.directory) if name.startswith(kind))
        return f"{self.directory}/{self.random.choice(names)}"

    def keep(self, *fds):
        self.descriptors += fds

    def is_full(self):
        return len(self.descriptors) >= MAX_DESCRIPTORS

    def some_descriptor(self, is_file=False):
        fds = [fd for fd in self.descriptors if not is_file or os.fstat(fd).st_mode & 0o170000 == 0o100000]
        return self.random.choice(fds)

    def open_file(self):
        if self.is_full():
            return
        flags = self.random.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND])
        is_new = self.random.random() < 0.5
        self.keep(os.open(self.new_path("file") if is_new else self.some_path(), flags | (os.O_CREAT if is_new else 0)))

    def write_file(self):
        os.write(self.some_descriptor(True), self.random.randbytes(self.random.choice([1, 100, 5000, 70_000])))

    def truncate_file(self):
        os.ftruncate(self.some_descriptor(True), self.random.randint(0, 10_000))

    def seek(self):
        os.lseek(self.some_descriptor(True), self.random.randint(0, 10_000), os.SEEK_SET)

    def change_names(self):
        path = self.some_path()
        change = self.random.choice(["rename", "replace", "unlink", "link", "chmod", "times"])
        if change == "rename":
            os.rename(path, self.new_path("file"))
        elif change == "replace":
            os.rename(path, self.some_path())
        elif change == "unlink":
            os.unlink(path)
        elif change == "link":
            os.symlink(path, self.new_path("link"))
        elif change == "chmod":
            os.chmod(path, self.random.choice([0o600, 0o644, 0o444]))
        else:
            os.utime(path, ns=(self.random.randrange(10**15), self.random.randrange(10**15)))

    def make_directory(self):
        path = self.new_path("directory")
        os.mkdir(path)
        if self.random.random() < 0.5 and not self.is_full():
            self.keep(os.open(path, os.O_RDONLY | os.O_DIRECTORY))

    def lock_file(self):
        fd = self.some_descriptor(True)
        fcntl.flock(fd, self.random.choice([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN]) | fcntl.LOCK_NB)

    def duplicate(self):
        if self.is_full():
            return
        fd = self.some_descriptor()
        if self.random.random() < 0.5:
            self.keep(os.dup(fd))
        else:
            self.keep(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self.random.randint(50, 500)))

    def close(self):
        fd = self.some_descriptor()
        self.descriptors.remove(fd)
        self.pairs = [pair for pair in self.pairs if fd not in pair]
        self.terminals = [pair for pair in self.terminals if fd not in pair]
        self.sockets = [entry for entry in self.sockets if entry != fd]
        os.close(fd)

    def set_flags(self):
        fd = self.some_descriptor()
        flag = self.random.choice([os.O_NONBLOCK, os.O_APPEND])
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) ^ flag)
        os.set_inheritable(fd, self.random.random() < 0.5)

    def make_pipe(self):
        if not self.is_full():
            ends = os.pipe2(os.O_NONBLOCK)
            self.keep(*ends)
            self.pairs.append(ends)

    def fill(self):
        """Some bytes into a pipe, a socket or a terminal that has room for them."""
        ends = [end for _, end in self.pairs] + self.sockets + [end for pair in self.terminals for end in pair]
        fd = self.random.choice(ends)
        if select.select([], [fd], [], 0)[1]:
            os.set_blocking(fd, False)
            os.write(fd, self.random.randbytes(self.random.choice([1, 10, 3000])))

    def drain(self):
        ends = [end for end, _ in self.pairs] + self.sockets + [end for pair in self.terminals for end in pair]
        fd = self.random.choice(ends)
        if select.select([fd], [], [], 0)[0]:
            os.read(fd, self.random.choice([1, 100, 10_000]))

    def make_sockets(self):
        if not self.is_full():
            # Not datagrams: an end of which nobody holds the other one is kept, not restored (docs/limits.md).
            kind = self.random.choice([socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
            ends = [end.detach() for end in socket.socketpair(socket.AF_UNIX, kind)]
            self.keep(*ends)
            self.sockets += ends

    def make_connection(self):
        if self.is_full():
            return
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
            ends = [client.detach(), server.detach()]
            if self.random.random() < 0.5:
                self.keep(listener.detach())
        self.keep(*ends)
        self.sockets += ends

    def make_eventfd(self):
        if not self.is_full():
            self.keep(os.eventfd(self.random.randint(0, 1000), os.EFD_NONBLOCK))

    def make_epoll(self):
        if self.is_full():
            return
        watched = {end for end, _ in self.pairs} | set(self.sockets)
        poll = select.epoll()
        fd = os.dup(poll.fileno())
        for number in sorted(watched)[:3]:
            poll.register(number, select.EPOLLIN)
        poll.close()
        self.keep(fd)

    def make_memfd(self):
        if not self.is_full():
            fd = os.memfd_create("drawn")
            os.write(fd, self.random.randbytes(self.random.randint(1, 20_000)))
            self.keep(fd)

    def make_timerfd(self):
        if not self.is_full():
            fd = checked(libc.timerfd_create(1, os.O_CLOEXEC))
            spec = struct.pack("qqqq", 0, 0, FOREVER_S, 0)
            checked(libc.timerfd_settime(fd, 0, spec, None))
            self.keep(fd)

    def make_signalfd(self):
        if not self.is_full():
            mask = (ctypes.c_ulong * 16)(1 << self.random.randint(33, 40))
            self.keep(checked(libc.signalfd(-1, mask, os.O_CLOEXEC)))

    def make_terminal(self):
        if not self.is_full():
            ends = os.openpty()
            tty.setraw(ends[1])
            self.keep(*ends)
            self.terminals.append(ends)

    # --- processes ---

    @staticmethod
    def is_crowded():
        return sum(name.isdigit() for name in os.listdir("/proc")) > MAX_PROCESSES

    def fork(self):
        if self.is_crowded():
            return
        request_end, requests = os.pipe()
        answers, answer_end = os.pipe()
        seed = self.random.randrange(1 << 30)
        pid = os.fork()
        if pid > 0:
            os.close(request_end)
            os.close(answer_end)
            self.children.append(Child(pid, requests, answers))
            return
        try:
            os.close(requests)
            os.close(answers)
            for child in self.children:
                os.close(child.requests)
                os.close(child.answers)
            self.children, self.others, self.threads = [], [], []
            self.made = 0
            self.random.seed(seed)
            if self.random.random() < 0.3:
                os.setpgid(0, 0)
            elif self.random.random() < 0.2:
                os.setsid()
            serve(self, request_end, answer_end)
        finally:
            os._exit(0)

    def forget(self, child):
        self.children.remove(child)
        os.close(child.requests)
        os.close(child.answers)

    def kill_child(self):
        if self.others and self.random.random() < 0.5:
            pid = self.others.pop(self.random.randrange(len(self.others)))
        else:
            child = self.random.choice(self.children)
            self.forget(child)
            pid = child.pid
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def leave_zombie(self):
        child = self.random.choice(self.children)
        self.forget(child)
        self.others.append(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    def stop_child(self):
        child = self.random.choice(self.children)
        os.kill(child.pid, signal.SIGCONT if child.stopped else signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WCONTINUED if child.stopped else os.WSTOPPED)
        child.stopped = not child.stopped

    def start_program(self):
        if not self.is_crowded():
            # It holds the other end itself, and waits for ever. (sleep(1) writes down what is left at each stop.)
            source, sink = os.pipe()
            is_leader = self.random.random() < 0.3
            process = subprocess.Popen(["cat"], stdin=source, pass_fds=[sink], start_new_session=is_leader)
            os.close(source)
            os.close(sink)
            process.returncode = 0  # nobody else shall wait for it
            self.others.append(process.pid)

    # --- signals, attributes ---

    SIGNALS = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGURG, signal.SIGRTMIN + 2, signal.SIGRTMIN + 3]

    def set_handler(self):
        handlers = [signal.SIG_IGN, lambda number, _: self.handled.append(number)]
        signal.signal(self.random.choice(self.SIGNALS), self.random.choice(handlers))

    def set_mask(self):
        some = self.random.sample(self.SIGNALS, self.random.randint(0, 4))
        # What comes through by that must have a handler.
        for number in self.SIGNALS:
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, some)

    def send_signal(self):
        number = self.random.choice(self.SIGNALS)
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)
        if self.random.random() < 0.5:
            os.kill(os.getpid(), number)
        else:
            checked(libc.sigqueue(os.getpid(), number, self.random.randrange(1 << 40)))

    def set_timer(self):
        signal.setitimer(signal.ITIMER_REAL, self.random.choice([0, FOREVER_S]))

    def set_attributes(self):
        what = self.random.choice(["umask", "limit", "nice", "name"])
        if what == "umask":
            os.umask(self.random.choice([0o22, 0o27, 0o77]))
        elif what == "limit":
            resource.setrlimit(resource.RLIMIT_STACK, (self.random.randint(1 << 23, 1 << 24), resource.RLIM_INFINITY))
        elif what == "nice":
            os.setpriority(os.PRIO_PROCESS, 0, self.random.randint(os.getpriority(os.PRIO_PROCESS, 0), 19))
        else:
            libc.prctl(15, b"drawn-%d" % self.random.randrange(100), 0, 0, 0)

    def change_directory(self):
        os.chdir(self.random.choice([self.directory, "/", "/tmp", self.some_path("directory")]))

    # --- what the runner asks ---

    def step(self, seed, count):
        """How many operations there were in all, and how many of them found nothing to do or were refused."""
        self.random.seed(seed)
        done, refused = count, 0
        for _ in range(count):
            try:
                getattr(self, self.random.choice(self.operations))()
            except (OSError, IndexError, ValueError):
                refused += 1
        for child in self.children:
            if child.stopped:
                continue
            answer = ask(child, f"step {self.random.randrange(1 << 30)} {count // 2}")
            done, refused = done + int(answer.split()[0]), refused + int(answer.split()[1])
        return f"{done} {refused}"

    def look(self):
        seen = []
        for fd in self.sockets:
            end = socket.socket(fileno=os.dup(fd))
            # That its peer reset it is told once, and no image has it.
            end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            try:
                seen.append((fd, end.family, end.type, end.getsockname(), self.peer(end), self.waiting(fd)))
                seen.append(end.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT))
            except OSError as error:
                seen.append(error.errno)
            end.close()
        seen += [(fd, termios.tcgetattr(fd), self.waiting(fd)) for pair in self.terminals for fd in pair]
        seen.append(sorted(self.handled[-20:]))
        texts = [repr(shortened(seen))]
        for child in self.children:
            texts.append("stopped" if child.stopped else ask(child, "look"))
        return f"[{' '.join(texts)}]"

    @staticmethod
    def peer(end):
        try:
            return end.getpeername()
        except OSError as error:
            return error.errno

    @staticmethod
    def waiting(fd):
        count = array.array("i", [0])
        fcntl.ioctl(fd, termios.FIONREAD, count)
        return count[0]


def shortened(value):
    """With digests of long bytes."""
    if isinstance(value, (list, tuple)):
        return [shortened(part) for part in value]
    is_long = isinstance(value, bytes) and len(value) > 16
    return f"{len(value)} bytes {hashlib.sha256(value).hexdigest()[:8]}" if is_long else value


def ask(child, line):
    os.write(child.requests, line.encode() + b"\n")
    return read_line(child.answers)


def read_line(fd):
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(fd, 4096)
        if not more:
            while True:  # its parent is gone
                signal.pause()
        line += more
    return line.decode().strip()


def serve(program, requests, answers):
    while True:
        word, *numbers = read_line(requests).split()
        answer = program.step(*map(int, numbers)) if word == "step" else program.look()
        os.write(answers, answer.encode() + b"\n" + (END if answers == 1 else b""))


os.makedirs(sys.argv[1], exist_ok=True)
program = Program(sys.argv[1])
serve(program, 0, 1)
