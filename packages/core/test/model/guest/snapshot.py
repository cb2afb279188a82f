"""Everything that a program can see of the trees and of what this process holds, as plain data."""

import fcntl
import os
import stat
import struct
import zlib

import libc
import operations
from libc import to_text
from tree import roots, walk

_READ_BYTES = 1 << 20
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def _hash_file(fd, size):
    """Of the data alone: holes and zeros count as the same."""
    found = 0
    zeros = bytes(_READ_BYTES)
    offset = 0
    while offset < size:
        if size > _READ_BYTES:
            try:
                offset = os.lseek(fd, offset, os.SEEK_DATA)
            except OSError:
                break
            offset -= offset % libc.PAGE
        data = os.pread(fd, _READ_BYTES - offset % _READ_BYTES, offset)
        if not data:
            break
        if data != zeros[: len(data)]:
            for page in range(0, len(data), libc.PAGE):
                part = data[page : page + libc.PAGE].rstrip(b"\0")
                if part:
                    found = zlib.crc32(part, zlib.crc32(struct.pack("<q", offset + page), found))
        offset += len(data)
    return found


def _xattrs(path):
    return {
        to_text(os.fsencode(key)): to_text(os.getxattr(path, key, follow_symlinks=False))
        for key in sorted(os.listxattr(path, follow_symlinks=False))
    }


def _attributes(info):
    entry = {
        "kind": _KINDS[stat.S_IFMT(info.st_mode)],
        "mode": f"{stat.S_IMODE(info.st_mode):04o}",
        "owner": f"{info.st_uid}:{info.st_gid}",
        "mtime": str(info.st_mtime_ns),
        "ino": info.st_ino,
    }
    if not stat.S_ISDIR(info.st_mode):
        # Sizes and link counts of directories are the file system's own.
        entry.update(size=info.st_size, links=info.st_nlink)
    if stat.S_ISREG(info.st_mode):
        entry["allocated"] = info.st_blocks * 512
    return entry


def _tree(root, inodes):
    entries = {}
    for path, info, dir_fd in walk(root):
        text = to_text(b"/".join(path))
        entry = _attributes(info)
        own_path = b"/proc/self/fd/%d/%s" % (dir_fd, path[-1])
        if stat.S_ISREG(info.st_mode):
            fd = os.open(path[-1], os.O_RDONLY | os.O_NOFOLLOW, dir_fd=dir_fd)
            try:
                entry["data"] = _hash_file(fd, info.st_size)
            finally:
                os.close(fd)
        elif stat.S_ISLNK(info.st_mode):
            entry["target"] = to_text(os.readlink(path[-1], dir_fd=dir_fd))
        if xattrs := _xattrs(own_path):
            entry["xattrs"] = xattrs
        first = inodes.setdefault((info.st_dev, info.st_ino), _name(root, path))
        if first != _name(root, path):
            entry["same"] = first
        entries[text] = entry
    return entries


def _name(root, path):
    return f"{root}:{to_text(b'/'.join(path))}"


def _names_again(handles):
    """A merge in the background may give a file another st_ino (docs/limits.md, depth of a volume) between two looks."""
    names = {}
    for root in range(len(roots)):
        for path, info, _ in walk(root):
            names.setdefault((info.st_dev, info.st_ino), _name(root, path))
    for slot, entry in handles.items():
        info = os.fstat(operations.handles[slot])
        entry["name"] = names.get((info.st_dev, info.st_ino), "none")


def _handle(fd, inodes):
    info = os.fstat(fd)
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    entry = _attributes(info)
    entry["flags"] = flags & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_PATH)
    entry["name"] = inodes.get((info.st_dev, info.st_ino), "none")
    if flags & os.O_PATH:
        return entry
    if stat.S_ISREG(info.st_mode):
        entry["offset"] = os.lseek(fd, 0, os.SEEK_CUR)
        if flags & os.O_ACCMODE != os.O_WRONLY:
            entry["data"] = _hash_file(fd, info.st_size)
            os.lseek(fd, entry["offset"], os.SEEK_SET)
        if xattrs := _xattrs(fd_path(fd)):
            entry["xattrs"] = xattrs
    elif stat.S_ISDIR(info.st_mode):
        listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        try:
            entry["entries"] = sorted(to_text(os.fsencode(name)) for name in os.listdir(listing))
        finally:
            os.close(listing)
    return entry


def fd_path(fd):
    return f"/proc/self/fd/{fd}"


def _sharing():
    """Which slots share one description: a flag that is set through one is set for the others."""
    groups = []
    left = [slot for slot, fd in sorted(operations.handles.items()) if not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH]
    while left:
        fd = operations.handles[left[0]]
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        before = {slot: fcntl.fcntl(operations.handles[slot], fcntl.F_GETFL) for slot in left}
        fcntl.fcntl(fd, fcntl.F_SETFL, flags ^ os.O_NONBLOCK)
        group = [slot for slot in left if fcntl.fcntl(operations.handles[slot], fcntl.F_GETFL) != before[slot]]
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        if len(group) > 1:
            groups.append(group)
        left = [slot for slot in left if slot not in group]
    return groups


def _mapping(address, length):
    pages = []
    for page in range(address, address + length, libc.PAGE):
        data = libc.read_memory(page, libc.PAGE)
        pages.append(None if data is None else zlib.crc32(data))
    return pages


def _locks(paths):
    """Locks that another process meets, found by one: a POSIX lock is no obstacle to its own process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, repr({text: _probe(path) for text, path in paths.items()}).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read().decode()
    os.waitpid(child, 0)
    return {name: found for name, found in eval(text).items() if found}


def _probe(fd):
    """The first byte range that conflicts with a write lock on the whole file, and whether a flock is in the way."""
    found = []
    # For reading: an open for writing would copy the file up, and a look must not change what is looked at.
    mine = os.open(fd_path(fd), os.O_RDONLY | os.O_NONBLOCK)
    try:
        F_OFD_GETLK = 36
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(mine, F_OFD_GETLK, asked))
        if kind != fcntl.F_UNLCK:
            found.append([kind, start, length, "ofd" if pid == -1 else "posix"])
        try:
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append("flock")
    finally:
        os.close(mine)
    return found


def _cwd():
    try:
        here = os.getcwdb()
    except FileNotFoundError:
        return "deleted"
    for index, root in enumerate(roots):
        if here == root or here.startswith(root + b"/"):
            return f"{index}:{to_text(here[len(root) + 1:])}"
    return to_text(here)


def take(with_locks):
    inodes = {}
    trees = [_tree(root, inodes) for root in range(len(roots))]
    handles = {slot: _handle(fd, inodes) for slot, fd in sorted(operations.handles.items())}
    if any(entry["name"] == "none" for entry in handles.values()):
        _names_again(handles)
    state = {
        "trees": trees,
        "handles": {str(slot): entry for slot, entry in handles.items()},
        "mappings": {str(slot): _mapping(address, length) for slot, (address, length, _) in operations.mappings.items()},
        "shared descriptions": _sharing(),
        "streams": sorted(operations.streams),
        "cwd": _cwd(),
    }
    if with_locks:
        regular = {
            str(slot): fd
            for slot, fd in operations.handles.items()
            if stat.S_ISREG(os.fstat(fd).st_mode) and not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH
        }
        state["locks"] = _locks(regular)
    return state
