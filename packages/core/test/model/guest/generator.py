"""Draws the next operation from a seed and from the state of the trees and slots of this process."""

import fcntl
import os
import random
import stat
import struct

import libc
import operations
from libc import to_text
from operations import handles, mappings, streams
from tree import Place, roots, walk

MAX_ENTRIES = 110
_LONG_PATH = 3500  # inside it gets some 20 bytes longer
HANDLE_SLOTS, MAPPING_SLOTS, STREAM_SLOTS = 10, 4, 2
_NAMES = ["a", "b", "c", "d", "e", "with space", "new\nline", ".hidden", "dir", "file"]
_SIZES = [0, 1, 100, 511, 4096, 5000, 12288, 40000, 70000]
_FALLOCATE = [0, libc.FALLOC_KEEP_SIZE, libc.FALLOC_PUNCH_HOLE | libc.FALLOC_KEEP_SIZE, libc.FALLOC_ZERO_RANGE]
_PAST_SECONDS = 946_684_800  # 2000: times that an operation sets lie before all that a clock sets
_ACL_ACCESS, _ACL_DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


class Generator:
    def __init__(self, switches, ids):
        self.switches = switches
        self.ids = ids
        self.born = set()  # inodes of directories made since the last seal
        self.private = set()  # inodes of files that are or were mapped privately
        self.mapped = {}  # slot of a mapping: inode

    @property
    def frozen(self):
        """Inodes that nothing may change: directories that are being read, and privately mapped files."""
        return self.private | {self._key(os.fstat(fd)) for fd, _ in streams.values()}

    def sealed(self):
        """A checkpoint or a rollback: what exists lies in lower layers from now on."""
        self.born.clear()

    def batch(self, seed, count):
        self.random = random.Random(seed)
        calls = []
        while len(calls) < count:
            self._look()
            for _ in range(4):
                call = self._next()
                if call is None:
                    continue
                result = operations.run(call)
                self._note(call, result)
                calls.append([call, result])
        return calls

    # The state

    def _look(self):
        self.entries = []
        for root in range(len(roots)):
            for path, info, _ in walk(root):
                self.entries.append((root, path, info))
        self.loose = [entry for entry in self.entries if not any(part.startswith(b"stream-") for part in entry[1])]
        self.files = [entry for entry in self.loose if stat.S_ISREG(entry[2].st_mode)]
        self.directories = [entry for entry in self.loose if stat.S_ISDIR(entry[2].st_mode)]

    @staticmethod
    def _key(info):
        return info.st_dev, info.st_ino

    def _note(self, call, result):
        if "error" in result:
            return
        name = call[0]
        if name == "mkdir":
            self.born.add(self._key(self._stat(call[1])))
        elif name == "map_handle":
            self.mapped[call[1]] = self._key(os.fstat(handles[call[2]]))
        elif name == "map_file":
            with Place(call[2]) as (dir_fd, last):
                self.mapped[call[1]] = self._key(os.stat(last, dir_fd=dir_fd))
            if call[4] == "private":
                self.private.add(self.mapped[call[1]])
        elif name == "unmap":
            self.mapped.pop(call[1], None)

    def _stat(self, path):
        try:
            with Place(path) as (dir_fd, name):
                return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        except OSError:
            return None

    def _has_xattr(self, path, key):
        try:
            with Place(path) as (dir_fd, name):
                return key in os.listxattr(b"/proc/self/fd/%d/%s" % (dir_fd, name), follow_symlinks=False)
        except OSError:
            return False

    def _is_free(self, path):
        """Whether what lies there, followed, may change."""
        try:
            with Place(path) as (dir_fd, name):
                return self._key(os.stat(name, dir_fd=dir_fd)) not in self.frozen
        except OSError:
            return True

    def _may_go(self, path):
        """Whether the name may be taken from what has it."""
        info = self._stat(path)
        if info is None:
            return True
        key = self._key(info)
        if stat.S_ISDIR(info.st_mode):
            if key in self.frozen:
                return False
            if not self.switches["deletedDirectories"] and key in self._held_inodes():
                return False
            return True
        return self.switches["deletedOpenFiles"] or key not in self._held_inodes()

    def _may_hold(self, path):
        return self.switches["longPathsHeld"] or len(path[1]) < _LONG_PATH

    def _longest_below(self, path):
        start = path[1] + "/"
        inside = (to_text(b"/".join(entry[1])) for entry in self.entries if entry[0] == path[0])
        return max((text[len(start) - 1 :] for text in inside if text.startswith(start)), key=len, default="")

    def _held_inodes(self):
        held = {self._key(os.fstat(fd)) for fd in handles.values()}
        try:
            held.add(self._key(os.stat(".")))
        except OSError:
            pass
        return held | self.frozen | set(self.mapped.values())

    # Choices

    def _chance(self, percent):
        return self.random.random() * 100 < percent

    def _name(self):
        if self._chance(88):
            return self.random.choice(_NAMES)
        length = self.random.choice([1, 3, 20, 255])
        raw = bytes(self.random.choice([byte for byte in range(1, 256) if byte != 47]) for _ in range(length))
        return to_text(raw if raw not in (b".", b"..") else b"dots")

    def _entry_path(self, entry):
        return [entry[0], to_text(b"/".join(entry[1]))]

    def _new_path(self, root=None):
        """A name in some directory; often one that exists already."""
        parents = [entry for entry in self.directories if root is None or entry[0] == root]
        if not parents or self._chance(25):
            return [self.random.randrange(len(roots)) if root is None else root, self._name()]
        parent = self.random.choice(parents)
        return [parent[0], f"{to_text(b'/'.join(parent[1]))}/{self._name()}"]

    def _old_path(self, among=None):
        among = self.loose if among is None else among
        return self._entry_path(self.random.choice(among)) if among else self._new_path()

    def _slot(self):
        return self.random.choice(list(handles)) if handles else None

    def _free_slot(self, predicate=lambda fd: True):
        slots = [slot for slot, fd in handles.items() if self._key(os.fstat(fd)) not in self.frozen and predicate(fd)]
        return self.random.choice(slots) if slots else None

    def _is_regular(self, fd):
        return stat.S_ISREG(os.fstat(fd).st_mode)

    def _size(self):
        return self.random.choice(_SIZES)

    def _offset(self):
        return self.random.choice([0, 1, 4095, 4096, 10000, 65536, 300_000, 60_000_000])

    def _mode(self):
        return self.random.choice([0o644, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o000, 0o222, 0o6711, 0o640])

    def _seed(self):
        return self.random.randrange(1 << 31)

    def _times(self):
        return [_PAST_SECONDS - self.random.randrange(1 << 20), self.random.randrange(10**9)]

    def _owner(self):
        return self.random.choice([-1, 0, 1, 1000, 65534 if self.ids > 1 else 0, 70000])

    def _xattr(self):
        if self._chance(20):
            return self._acl()
        key = f"user.{self.random.choice(['one', 'two', 'three'])}"
        return key, "".join(chr(self.random.randrange(256)) for _ in range(self.random.choice([0, 1, 30, 200])))

    def _acl(self):
        # Version 2: owner, a named user, the owning group, the mask, others.
        entries = [(1, 7, 0xFFFFFFFF), (2, self.random.randrange(8), 0), (4, 5, 0xFFFFFFFF)]
        entries += [(0x10, self.random.randrange(8), 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF)]
        value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
        return (_ACL_DEFAULT if self._chance(30) else _ACL_ACCESS), to_text(value)

    def _next(self):
        if len(self.entries) > MAX_ENTRIES and self._chance(60):
            return self._draw_remove()
        return self.random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0](self)

    # One drawing of each kind

    def _draw_mkdir(self):
        return ["mkdir", self._new_path(), self.random.choice([0o755, 0o700, 0o1777, 0o2775])]

    def _draw_deep(self):
        if len(self.entries) > MAX_ENTRIES // 2 or not self.directories:
            return None
        return ["make_deep", self._old_path(self.directories), self.random.choice([2, 20]), "d" * 230]

    def _draw_write_file(self):
        flags = self.random.choice([os.O_WRONLY, os.O_RDWR]) | os.O_NONBLOCK
        for flag in (os.O_CREAT, os.O_CREAT, os.O_CREAT, os.O_TRUNC, os.O_EXCL, os.O_APPEND):
            if self._chance(45):
                flags |= flag
        path = self._new_path() if self._chance(70) else self._old_path(self.files)
        if not self._is_free(path):
            return None
        return ["write_file", path, flags, self._mode(), self._seed(), self._size()]

    def _draw_remove(self):
        path = self._old_path()
        info = self._stat(path)
        if info is None or not self._may_go(path):
            return None
        if not stat.S_ISDIR(info.st_mode):
            return ["unlink", path]
        if self._chance(60):
            return ["rmdir", path]
        inside = [entry for entry in self.entries if entry[0] == path[0] and to_text(b"/".join(entry[1])).startswith(path[1] + "/")]
        if all(self._may_go(self._entry_path(entry)) for entry in inside):
            return ["remove_tree", path]
        return None

    def _draw_wrong_remove(self):
        path = self._old_path()
        info = self._stat(path)
        return [("unlink" if info is not None and stat.S_ISDIR(info.st_mode) else "rmdir"), path]

    def _draw_rename(self):
        old = self._old_path()
        new = self._new_path() if self._chance(70) else self._old_path()
        flags = self.random.choice([0, 0, 0, libc.RENAME_NOREPLACE, libc.RENAME_EXCHANGE])
        for path in (old, new):
            info = self._stat(path)
            if info is not None and stat.S_ISDIR(info.st_mode):
                if self._key(info) in self.frozen:
                    return None
                # Such directories are never exchanged.
                may_be_lower = self.switches["renameLowerDirectory"] and flags != libc.RENAME_EXCHANGE
                if not may_be_lower and self._key(info) not in self.born:
                    return None
        if flags != libc.RENAME_EXCHANGE and not self._may_go(new):
            return None
        if not self._may_hold([new[0], new[1] + self._longest_below(old)]) or not self._may_hold([old[0], old[1] + self._longest_below(new)]):
            return None
        return ["rename", old, new, flags]

    def _draw_link(self):
        if not self.switches["hardLinks"]:
            return None
        others = [entry for entry in self.loose if not stat.S_ISDIR(entry[2].st_mode)]
        return ["link", self._old_path(others), self._new_path(), self._chance(20)]

    def _draw_symlink(self):
        target = self.random.choice([self._name(), f"{self._name()}/{self._name()}", "x/" * 1000 + "x", "dangling"])
        if target.startswith(("/", "..")) or "/.." in target:
            return None
        return ["symlink", target, self._new_path()]

    def _draw_mknod(self):
        kind = self.random.choice([stat.S_IFIFO, stat.S_IFIFO, stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
        numbers = (1, 3) if kind in (stat.S_IFCHR, stat.S_IFBLK) else (0, 0)
        return ["mknod", self._new_path(), kind | 0o644, *numbers]

    def _draw_socket(self):
        path = self._new_path()
        return ["bind_socket", path]

    def _draw_chmod(self):
        path = self._old_path()
        return ["chmod", path, self._mode()] if self._is_free(path) else None

    def _draw_chown(self):
        return ["chown", self._old_path(), self._owner(), self._owner()]

    def _draw_times(self):
        return ["set_times", self._old_path(), *self._times()]

    def _draw_xattr(self):
        key, value = self._xattr()
        if self._chance(70):
            return ["set_xattr", self._old_path(), key, value, self.random.choice([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])]
        path = self._old_path()
        # overlayfs answers ENODATA where another file system answers nothing: a file that has no such list.
        if key.startswith("system.") and not self._has_xattr(path, key):
            return None
        return ["remove_xattr", path, key]

    def _draw_truncate(self):
        path = self._old_path(self.files)
        return ["truncate", path, self.random.choice([*_SIZES, 2_000_000])] if self._is_free(path) else None

    def _draw_copy_range(self):
        target = self._new_path() if self._chance(50) else self._old_path(self.files)
        if not self._is_free(target):
            return None
        source = self._old_path(self.files)
        return ["copy_range", source, target, self._offset() % 9000, self._offset(), self._size()]

    def _draw_temporary(self):
        return ["temporary_file", self._new_path(), self._seed(), self._size(), self._chance(60)]

    def _draw_open(self):
        access = self.random.choice([os.O_RDONLY, os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
        flags = access
        if access == os.O_RDONLY and self._chance(25):
            flags |= self.random.choice([os.O_PATH, os.O_PATH | os.O_NOFOLLOW, os.O_DIRECTORY])
        elif access != os.O_RDONLY:
            for flag in (os.O_CREAT, os.O_APPEND, os.O_TRUNC, os.O_EXCL):
                if self._chance(25):
                    flags |= flag
        path = self._new_path() if self._chance(40) else self._old_path(self.files + self.directories)
        if access != os.O_RDONLY and not self._is_free(path) or not self._may_hold(path):
            return None
        info = self._stat(path)
        # FIFOs and sockets stay unopened: an open FIFO is a kernel object of another kind.
        if info is not None and not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
            return None
        return ["open_handle", self.random.randrange(HANDLE_SLOTS), path, flags, 0o644]

    def _draw_duplicate(self):
        slot = self._slot()
        return None if slot is None else ["duplicate_handle", slot, self.random.randrange(HANDLE_SLOTS)]

    def _draw_close(self):
        slot = self._slot()
        return None if slot is None else ["close_handle", slot]

    def _draw_read(self):
        slot = self._slot()
        return None if slot is None else ["read_handle", slot, self._size()]

    def _draw_write(self):
        slot = self._free_slot()
        if slot is None:
            return None
        if self._chance(50):
            return ["write_handle", slot, self._seed(), self._size()]
        return ["pwrite_handle", slot, self._seed(), self._size(), self._offset()]

    def _draw_seek(self):
        slot = self._slot()
        if slot is None or not self._is_regular(handles[slot]):
            return None
        return ["seek_handle", slot, self._offset(), self.random.choice([os.SEEK_SET, os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])]

    def _draw_change_handle(self):
        slot = self._free_slot()
        if slot is None:
            return None
        if not self.switches["deletedDirectories"] and os.fstat(handles[slot]).st_nlink == 0:
            return None
        kind = self.random.randrange(7)
        if kind == 0:
            return ["truncate_handle", slot, self.random.choice([*_SIZES, 500_000])]
        if kind == 1:
            return ["allocate_handle", slot, self.random.choice(_FALLOCATE), self._offset(), self.random.choice([4096, 9000, 50_000])]
        if kind == 2:
            return ["chmod_handle", slot, self._mode()]
        if kind == 3:
            return ["chown_handle", slot, self._owner(), self._owner()]
        if kind == 4:
            return ["set_times_handle", slot, *self._times()]
        if kind == 5:
            return ["set_xattr_handle", slot, *self._xattr()]
        return ["sync_handle", slot]

    def _draw_copy_handle(self):
        source, target = self._slot(), self._free_slot(self._is_regular)
        if source is None or target is None or not self._is_regular(handles[source]):
            return None
        return ["copy_handle", source, target, self._size()]

    def _draw_make_in_handle(self):
        slot = self._free_slot(lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode))
        return None if slot is None else ["make_in_handle", slot, self._name(), self._seed(), self._size()]

    def _draw_cwd(self):
        if self._chance(50) and self.directories:
            path = self._old_path(self.directories)
            return ["change_dir", path] if self._may_hold(path) else None
        if self._chance(20):
            return ["leave_dir"]
        try:
            here = os.getcwdb()
        except OSError:
            return None
        inside = any(here == root or here.startswith(root + b"/") for root in roots)
        if not inside or self._key(os.stat(".")) in self.frozen:
            return None
        return ["make_in_cwd", self._name(), self._seed(), self._size()]

    def _draw_lock(self):
        slot = self._free_slot(self._is_regular)
        if slot is None or not self.switches["locks"]:
            return None
        if fcntl.fcntl(handles[slot], fcntl.F_GETFL) & os.O_PATH:
            return None
        kind = self.random.randrange(3)
        if kind == 0:
            return ["flock_handle", slot, self.random.choice([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN])]
        how = [fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN] if kind == 1 else [fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK]
        name = "posix_lock" if kind == 1 else "ofd_lock"
        return [name, slot, self.random.choice(how), self.random.choice([0, 10, 100]), self.random.choice([0, 5, 50])]

    def _draw_map(self):
        place, pages = self.random.randrange(MAPPING_SLOTS), self.random.choice([1, 3, 8])
        if self.switches["sharedMappings"] and self._chance(70):
            if self.switches["readonlyMappings"] and self._chance(30):
                path = self._old_path(self.files)
                return ["map_file", place, path, pages, "readonly"] if self._may_hold(path) else None
            slot = self._free_slot(lambda fd: self._is_regular(fd) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR)
            return None if slot is None else ["map_handle", place, slot, pages, self.random.choice([0, 0, 1])]
        # The file of a private mapping is left alone from then on: what becomes visible of its changes is unspecified.
        path = self._old_path(self.files)
        info = self._stat(path)
        if not self._may_hold(path):
            return None
        if info is None or info.st_size < pages * libc.PAGE or len(self.private) > 8:
            return None
        held = [fd for fd in handles.values() if self._key(os.fstat(fd)) == self._key(info)]
        if any(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY for fd in held):
            return None
        return ["map_file", place, path, pages, "private"]

    def _draw_store(self):
        if not mappings:
            return None
        slot = self.random.choice(list(mappings))
        return ["store", slot, self.random.randrange(32768), self._seed(), self.random.choice([1, 100, 5000])]

    def _draw_unmap(self):
        return ["unmap", self.random.choice(list(mappings))] if mappings else None

    def _draw_stream(self):
        slot = self.random.randrange(STREAM_SLOTS)
        if slot in streams:
            return ["finish_stream", slot]
        if len(self.entries) > MAX_ENTRIES or not self.switches["directoryStreams"]:
            return None
        root, name = self._new_path()
        # A name of its own, which no other operation and no symbolic link leads to.
        path = [root, "/".join([*name.split("/")[:-1], f"stream-{self._seed()}"])]
        if not self._may_hold(path):
            return None
        return ["open_stream", slot, path, self.random.choice([3, 30]), self.random.choice([100, 400])]


_WEIGHTS = {
    Generator._draw_mkdir: 8,
    Generator._draw_deep: 0.5,
    Generator._draw_write_file: 14,
    Generator._draw_remove: 8,
    Generator._draw_wrong_remove: 1,
    Generator._draw_rename: 9,
    Generator._draw_link: 5,
    Generator._draw_symlink: 3,
    Generator._draw_mknod: 2,
    Generator._draw_socket: 1,
    Generator._draw_chmod: 4,
    Generator._draw_chown: 3,
    Generator._draw_times: 3,
    Generator._draw_xattr: 5,
    Generator._draw_truncate: 4,
    Generator._draw_copy_range: 3,
    Generator._draw_temporary: 2,
    Generator._draw_open: 9,
    Generator._draw_duplicate: 2,
    Generator._draw_close: 4,
    Generator._draw_read: 4,
    Generator._draw_write: 6,
    Generator._draw_seek: 3,
    Generator._draw_change_handle: 6,
    Generator._draw_copy_handle: 1,
    Generator._draw_make_in_handle: 2,
    Generator._draw_cwd: 3,
    Generator._draw_lock: 4,
    Generator._draw_map: 3,
    Generator._draw_store: 4,
    Generator._draw_unmap: 1,
    Generator._draw_stream: 1,
}
