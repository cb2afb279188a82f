#!/usr/bin/env python3
"""Reads the whole state of a sandbox through /proc and ptrace, and prints it as canonical JSON.

    reader.py INIT_PID [ROOT...]

It shares nothing with the engine: no code, no format, no description of a kernel object. It runs on the host as the
user who made the sandbox, whom the kernel lets do all this because that user owns the tasks' user namespace. All tasks
stand still (PTRACE_INTERRUPT) while they are read, and go on afterwards.

What legitimately differs between two readings of one state is normalised, and nothing else:
  - a thread in a system call: rax is the kernel's restart code (-512, -513, -514, -516; -4 for the epoll family and
    rt_sigtimedwait, which end with EINTR at every stop): "blocked". A timed call that was interrupted once is continued as
    restart_syscall (219): the timed calls and 219 count as one number. One that a rollback began anew (-514) and whose
    thread has not run since, because its process is stopped, is among them.
  - xstate_bv: it says which components are in their initial state, which the processor decides anew at each save. The
    contents of all components are compared.
  - the rseq area: cpu_id_start, cpu_id, node_id and mm_cid say where the kernel last ran the thread.
  - an anonymous page that is not there reads as zeros: zero pages are left out.
  - [vdso], [vvar] and [vvar_vclock] belong to the kernel. The engine's own page run (anonymous, rwx, at a multiple of
    0x1000000000 from 0x300000000000 on) is no state of the program.
  - st_dev, st_ino and mount ids: a switch gives the volume another overlay, in which directories and files that are
    copied up have other numbers. Compared is whether a descriptor's file is the one that is found at its path.
  - O_LARGEFILE means nothing on a 64-bit kernel; a pipe's end that was opened again has it.
  - neighbouring mappings that differ in nothing are one.
  - a private mapping of a volume's file stays on the overlay where it was made, whose path is gone after a switch: of
    the name only the last part counts (and its contents).
  - a deleted file's name: it may be made anew, without one. Its contents are compared.
  - anonymous shared memory that was made anew shows as a memfd called "shared".
  - pipes are numbered in the order in which they are met; atime, ctime and st_nlink are left out.
"""

import ctypes
import hashlib
import json
import os
import re
import struct
import sys

PTRACE_GETREGS, PTRACE_DETACH = 12, 17
PTRACE_GETREGSET, PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4204, 0x4206, 0x4207
PTRACE_PEEKSIGINFO, PTRACE_GETSIGMASK, PTRACE_GET_RSEQ_CONFIGURATION = 0x4209, 0x420A, 0x420F
NT_X86_XSTATE = 0x202
SYS_ptrace, SYS_kcmp, SYS_tee = 101, 312, 276
WALL = 0x40000000
EVENT_STOP = 128
O_LARGEFILE = 0o100000
PAGE = 4096
CHUNK = 1 << 20
SHARED_MEMORY = ("/dev/zero (deleted)", "/memfd:shared (deleted)")
MAX_SHARED_READ = 16 << 20
REGISTERS = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs"
).split()
RESTART_CODES = {-512, -513, -514, -516}
ENDS_WITH_EINTR = {128, 232, 281, 441}
TIMED_CALLS = {7, 35, 202, 219, 230}  # poll, nanosleep, futex, restart_syscall, clock_nanosleep
ROOTS = ["/workspace", "/tmp", "/home", "/root", "/run", "/var", "/dev/shm"]
STATUS_FIELDS = ["Name", "Umask", "State", "Tgid", "Uid", "Gid", "NSpgid", "NSsid", "SigQ", "ShdPnd", "SigIgn", "SigCgt",
                 "CapPrm", "CapEff", "NoNewPrivs", "Seccomp"]  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)


def syscall(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_void_p(argument) for argument in arguments])
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), f"syscall {number} {arguments[:2]}")
    return result


def ptrace(request, tid, address=0, data=0):
    return syscall(SYS_ptrace, request, tid, address, data)


def read_text(path):
    with open(path) as file:
        return file.read()


def status_of(path):
    return dict(line.split(":\t", 1) for line in read_text(path + "/status").splitlines() if ":\t" in line)


class Thread:
    """One stopped thread."""

    def __init__(self, tid):
        self.tid = tid
        self.signal = 0
        ptrace(PTRACE_SEIZE, tid)
        ptrace(PTRACE_INTERRUPT, tid)

    def wait(self):
        _, status = os.waitpid(self.tid, WALL)
        if not os.WIFSTOPPED(status):
            raise RuntimeError(f"tid {self.tid} ended while it was read")
        if status >> 16 != EVENT_STOP:
            self.signal = os.WSTOPSIG(status)

    def detach(self):
        ptrace(PTRACE_DETACH, self.tid, 0, self.signal)

    def registers(self):
        buffer = (ctypes.c_ulonglong * len(REGISTERS))()
        ptrace(PTRACE_GETREGS, self.tid, 0, ctypes.addressof(buffer))
        registers = dict(zip(REGISTERS, buffer))
        call = ctypes.c_longlong(registers["orig_rax"]).value
        result = ctypes.c_longlong(registers["rax"]).value
        if call >= 0 and (result in RESTART_CODES or (result == -4 and call in ENDS_WITH_EINTR)):
            registers["rax"] = "blocked"
            if call in TIMED_CALLS:
                registers["orig_rax"] = "timed" if result in (-514, -516) or call == 219 else call
        return {name: value if isinstance(value, str) else hex(value) for name, value in registers.items()}

    def extended_state(self):
        buffer = ctypes.create_string_buffer(16384)
        vector = struct.pack("QQ", ctypes.addressof(buffer), len(buffer))
        holder = ctypes.create_string_buffer(vector, len(vector))
        ptrace(PTRACE_GETREGSET, self.tid, NT_X86_XSTATE, ctypes.addressof(holder))
        size = struct.unpack("QQ", holder.raw)[1]
        return hashlib.sha256(buffer.raw[:512] + buffer.raw[520:size]).hexdigest()

    def signal_mask(self):
        mask = ctypes.c_ulonglong()
        ptrace(PTRACE_GETSIGMASK, self.tid, 8, ctypes.addressof(mask))
        return hex(mask.value)

    def pending(self, shared):
        """Queued signals as [number, code, value]."""
        infos = ctypes.create_string_buffer(128 * 64)
        request = ctypes.create_string_buffer(struct.pack("QIi", 0, 1 if shared else 0, 64), 16)
        count = ptrace(PTRACE_PEEKSIGINFO, self.tid, ctypes.addressof(request), ctypes.addressof(infos))
        signals = []
        for index in range(count):
            raw = infos.raw[index * 128 : index * 128 + 32]
            signal, _, code = struct.unpack("iii", raw[:12])
            signals.append([signal, code, raw[16:32].hex()])
        return signals

    def rseq_address(self):
        buffer = ctypes.create_string_buffer(24)
        try:
            ptrace(PTRACE_GET_RSEQ_CONFIGURATION, self.tid, len(buffer), ctypes.addressof(buffer))
        except OSError:
            return 0
        return struct.unpack("Q", buffer.raw[:8])[0]

    def describe(self, path):
        status = status_of(path)
        return {
            "name": status["Name"],
            "registers": self.registers(),
            "xstate": self.extended_state(),
            "mask": self.signal_mask(),
            "blocked": status["SigBlk"],
            "pending": self.pending(False),
            "pendingSet": status["SigPnd"],
        }


class Reader:
    def __init__(self, init, roots):
        self.init = init
        self.roots = roots
        self.processes = {}  # host pid → threads
        self.zombies = []
        self.inside = {}
        self.pipes = {}
        self.slots = []  # (host pid, fd, (type, inode), entry): to find shared descriptions

    # --- stop and go ---

    def children(self, pid):
        for tid in os.listdir(f"/proc/{pid}/task"):
            yield from map(int, read_text(f"/proc/{pid}/task/{tid}/children").split())

    def freeze(self):
        """Until a look over the tree finds nothing that is not stopped yet."""
        found = True
        while found:
            found = False
            queue = list(self.children(self.init))
            for pid in queue:
                status = status_of(f"/proc/{pid}")
                self.inside[pid] = int(status["NSpid"].split()[-1])
                if status["State"].startswith("Z"):
                    self.zombies.append(pid)
                    continue
                threads = self.processes.setdefault(pid, [])
                known = {thread.tid for thread in threads}
                fresh = [Thread(tid) for tid in sorted(map(int, os.listdir(f"/proc/{pid}/task"))) if tid not in known]
                for thread in fresh:
                    threads.append(thread)
                    thread.wait()
                found = found or len(fresh) > 0
                queue.extend(self.children(pid))

    def thaw(self):
        for threads in self.processes.values():
            for thread in threads:
                try:
                    thread.detach()
                except OSError:
                    pass

    # --- memory ---

    def mappings(self, pid):
        """Neighbours that differ in nothing are joined: the kernel can't always join again what was once apart."""
        joined = []
        for start, end, permissions, offset, inode, name in self.listed_mappings(pid):
            last = joined[-1] if joined else None
            goes_on = last and last[1] == start and self.file_of(*last[2:]) == self.file_of(
                permissions, offset, inode, name
            )
            if goes_on and (not inode or last[3] + start - last[0] == offset):
                joined[-1] = (last[0], end, *last[2:])
            else:
                joined.append((start, end, permissions, offset, inode, name))
        return joined

    @staticmethod
    def file_of(permissions, _offset, inode, name):
        """A part that was mapped anew is on another overlay than the rest, whose file has another number there."""
        is_private = permissions[3] == "p" and inode
        return permissions, bool(inode) if is_private else inode, os.path.basename(name) if is_private else name

    def listed_mappings(self, pid):
        for line in read_text(f"/proc/{pid}/maps").splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) (\S+) \S+ (\d+) *(.*)", line)
            start, end = int(match[1], 16), int(match[2], 16)
            permissions, offset, inode, name = match[3], int(match[4], 16), int(match[5]), match[6]
            if name.startswith(("[vdso]", "[vvar", "[vsyscall]")):
                continue
            engine_owned = permissions == "rwxp" and inode == 0 and start >> 44 == 3 and start % (1 << 36) == 0
            if not engine_owned:
                yield start, end, permissions, offset, inode, name

    def present(self, pagemap, start, end):
        """Runs of pages that are in memory or swapped out."""
        run = None
        for first in range(start // PAGE, end // PAGE, CHUNK // 8):
            count = min(CHUNK // 8, end // PAGE - first)
            entries = os.pread(pagemap, count * 8, first * 8)
            if not any(entries):
                if run is not None:
                    yield run, first * PAGE
                    run = None
                continue
            for index, (entry,) in enumerate(struct.iter_unpack("Q", entries)):
                address = (first + index) * PAGE
                if entry >> 62:
                    run = address if run is None else run
                elif run is not None:
                    yield run, address
                    run = None
        if run is not None:
            yield run, end

    def hash_pages(self, memory, runs, rseq_areas):
        digest = hashlib.sha256()
        zeros = bytes(PAGE)
        pages = 0
        for start, end in runs:
            for address in range(start, end, CHUNK):
                try:
                    data = bytearray(os.pread(memory, min(CHUNK, end - address), address))
                except OSError:
                    digest.update(b"unreadable %d" % address)  # beyond the end of a file
                    continue
                for area in rseq_areas:
                    for offset in (0, 4, 20, 24):
                        position = area + offset - address
                        if 0 <= position <= len(data) - 4:
                            data[position : position + 4] = bytes(4)
                if data.count(0) == len(data):
                    continue
                for offset in range(0, len(data), PAGE):
                    page = data[offset : offset + PAGE]
                    if page != zeros:
                        digest.update(b"%x" % (address + offset))
                        digest.update(page)
                        pages += 1
        return {"pages": pages, "sha256": digest.hexdigest()}

    def memory(self, pid):
        rseq_areas = [address for address in (thread.rseq_address() for thread in self.processes[pid]) if address]
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
        try:
            result = {}
            for start, end, permissions, offset, inode, name in self.mappings(pid):
                entry = {"permissions": permissions, "name": os.path.basename(name)}
                if inode:
                    entry["offset"] = offset
                if permissions[3] == "p":
                    # A file's pages are read whole: those not there yet come from the file.
                    runs = [(start, end)] if inode else self.present(pagemap, start, end)
                    entry.update(self.hash_pages(memory, runs, rseq_areas))
                elif name in SHARED_MEMORY and end - start <= MAX_SHARED_READ:
                    entry["name"] = "shared memory"
                    entry.update(self.hash_pages(memory, [(start, end)], ()))
                result[f"{start:x}-{end:x}"] = entry
            return result
        finally:
            os.close(memory)
            os.close(pagemap)

    # --- descriptors ---

    def pipe_contents(self, path):
        """What a pipe holds, copied without taking: a read end of our own, tee, and gone again."""
        try:
            source = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            return f"errno {error.errno}"
        read_end, write_end = os.pipe2(os.O_NONBLOCK)
        try:
            libc.fcntl(write_end, 1031, 1 << 20)  # F_SETPIPE_SZ
            copied = libc.syscall(SYS_tee, source, write_end, ctypes.c_size_t(1 << 20), 2)
            return os.read(read_end, 1 << 20).hex() if copied > 0 else ""
        finally:
            for fd in (source, read_end, write_end):
                os.close(fd)

    def contents(self, path):
        try:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"errno {error.errno}"

    def same_file(self, descriptor, path):
        try:
            return os.path.samestat(os.stat(descriptor), os.lstat(f"/proc/{self.init}/root{path}"))
        except OSError:
            return False

    def descriptors(self, pid):
        result = {}
        for fd in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
            path = f"/proc/{pid}/fd/{fd}"
            link = os.readlink(path)
            lines = read_text(f"/proc/{pid}/fdinfo/{fd}").splitlines()
            info = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            entry = {"flags": oct(int(info["flags"], 8) & ~O_LARGEFILE), "offset": info["pos"].strip()}
            entry.update({name: info[name] for name in ("eventfd-count", "sigmask") if name in info})
            watched = [line.split()[1:6:2] for line in lines if line.startswith("tfd:")]  # number, events, data
            locks = [line.split()[2:5:2] for line in lines if line.startswith("lock:")]  # type, mode
            entry.update({name: sorted(found) for name, found in (("watched", watched), ("locks", locks)) if found})
            if link.startswith("pipe:"):
                number = self.pipes.setdefault(link, len(self.pipes))
                entry.update(kind="pipe", pipe=number)
                if (int(info["flags"], 8) & 3) == 0:
                    entry["contents"] = self.pipe_contents(path)
            else:
                entry.update(kind="path", path=re.sub(r"\[\d+\]", "[]", link))
                if link.endswith(" (deleted)") and not link.startswith("/memfd:"):
                    entry.update(path="(deleted)", contents=self.contents(path))
                if link.startswith("/") and not link.startswith("/dev/"):
                    entry["isFileAtPath"] = self.same_file(path, link)
            self.slots.append((pid, fd, link, entry))
            result[fd] = entry
        return result

    def number_descriptions(self):
        """Slots that share one open file description get one number."""
        known = []
        for pid, fd, link, entry in self.slots:
            for number, (other_pid, other_fd, other_link) in enumerate(known):
                if link == other_link and syscall(SYS_kcmp, pid, other_pid, 0, fd, other_fd) == 0:
                    entry["description"] = number
                    break
            else:
                entry["description"] = len(known)
                known.append((pid, fd, link))

    # --- a process, the tree, the files ---

    def process(self, pid):
        path = f"/proc/{pid}"
        status = status_of(path)
        stat = read_text(path + "/stat").rsplit(")", 1)[1].split()
        threads = {}
        for thread in self.processes[pid]:
            task = f"{path}/task/{thread.tid}"
            threads[status_of(task)["NSpid"].split()[-1]] = thread.describe(task)
        fields = {name: status[name] for name in STATUS_FIELDS if name in status}
        fields["State"] = "stopped"  # by us
        fields["Tgid"] = ""
        # The groups and sessions are inside numbers; SigQ is shared by all processes of the user.
        fields["NSpgid"], fields["NSsid"] = status["NSpgid"].split()[-1], status["NSsid"].split()[-1]
        fields.pop("SigQ", None)
        return {
            "parent": self.inside.get(int(stat[1]), 1),
            "startTime": stat[19],
            "command": read_text(path + "/cmdline"),
            "status": fields,
            "cwd": os.readlink(path + "/cwd"),
            "exe": os.readlink(path + "/exe"),
            "limits": read_text(path + "/limits").splitlines(),
            "pending": self.processes[pid][0].pending(True),
            "threads": threads,
            "descriptors": self.descriptors(pid),
            "memory": self.memory(pid),
        }

    def file(self, path):
        info = os.lstat(path)
        kind = {0o100000: "file", 0o040000: "directory", 0o120000: "link", 0o010000: "fifo", 0o140000: "socket"}
        entry = {
            "type": kind.get(info.st_mode & 0o170000, "device"),
            "mode": oct(info.st_mode & 0o7777),
            "uid": info.st_uid,
            "gid": info.st_gid,
            "mtime": info.st_mtime_ns,
        }
        if entry["type"] == "link":
            entry["target"] = os.readlink(path)
        if entry["type"] == "file":
            entry["size"] = info.st_size
            entry["sha256"] = self.contents(path)
        return entry

    def files(self):
        base = f"/proc/{self.init}/root"
        result = {}
        for root in self.roots:
            if not os.path.lexists(base + root):
                continue
            pending = [root]
            while pending:
                path = pending.pop()
                result[path] = self.file(base + path)
                if result[path]["type"] == "directory":
                    try:
                        pending.extend(f"{path}/{name}" for name in os.listdir(base + path))
                    except OSError as error:
                        result[path]["names"] = f"errno {error.errno}"
        return result

    def read(self):
        try:
            self.freeze()
            ordered = sorted(self.processes, key=lambda pid: self.inside[pid])
            state = {
                "processes": {self.inside[pid]: self.process(pid) for pid in ordered},
                "zombies": sorted(self.inside[pid] for pid in self.zombies),
                "files": self.files(),
            }
            self.number_descriptions()
            return state
        finally:
            self.thaw()


if __name__ == "__main__":
    print(json.dumps(Reader(int(sys.argv[1]), sys.argv[2:] or ROOTS).read(), sort_keys=True))
