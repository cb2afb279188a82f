"""Each operation by its name: acts on the trees of tree.py and on what this process holds, returns what a program sees."""

import errno
import fcntl
import os
import socket
import struct
import zlib

import libc
from libc import to_bytes, to_text
from tree import Place, open_dir, walk

handles = {}  # slot: descriptor
mappings = {}  # slot: (address, length, "shared" or "private")
streams = {}  # slot: (descriptor of a directory, names read so far)
operations = {}


def operation(function):
    operations[function.__name__] = function
    return function


def run(call):
    """What a call returned, or the name of its error."""
    name, *arguments = call
    try:
        return {"value": operations[name](*arguments)}
    except OSError as error:
        return {"error": errno.errorcode.get(error.errno, str(error.errno))}


def pattern(seed, length):
    """Bytes that differ from page to page and from seed to seed."""
    unit = struct.pack("<IH", seed & 0xFFFFFFFF, 0xDB07)
    data = bytearray((unit * (length // 6 + 1))[:length])
    for offset in range(0, length, 512):
        data[offset] = (seed + offset // 512) & 0xFF
    return bytes(data)


def summary(data):
    return [len(data), zlib.crc32(data)]


def descriptor(slot):
    if slot not in handles:
        raise OSError(errno.EBADF, "no such slot")
    return handles[slot]


# Names and directories


@operation
def mkdir(path, mode):
    with Place(path) as (dir_fd, name):
        os.mkdir(name, mode, dir_fd=dir_fd)


@operation
def make_deep(path, levels, name):
    """Directories one in the other, beyond what one path can name."""
    root, text = path
    fd = open_dir(root, to_bytes(text).split(b"/"))
    try:
        for _ in range(levels):
            os.mkdir(to_bytes(name), 0o755, dir_fd=fd)
            next_fd = os.open(to_bytes(name), os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = next_fd
    finally:
        os.close(fd)


@operation
def rmdir(path):
    with Place(path) as (dir_fd, name):
        os.rmdir(name, dir_fd=dir_fd)


@operation
def unlink(path):
    with Place(path) as (dir_fd, name):
        os.unlink(name, dir_fd=dir_fd)


@operation
def remove_tree(path):
    root, text = path
    top = tuple(to_bytes(text).split(b"/"))
    inside = [(entry, info.st_mode) for entry, info, _ in walk(root) if entry[: len(top)] == top]
    for entry, mode in sorted(inside, reverse=True):
        fd = open_dir(root, entry[:-1])
        try:
            remove = os.rmdir if mode & 0o170000 == 0o040000 else os.unlink
            remove(entry[-1], dir_fd=fd)
        finally:
            os.close(fd)
    return len(inside)


@operation
def rename(old, new, flags):
    with Place(old) as (old_dir, old_name), Place(new) as (new_dir, new_name):
        libc.renameat2(old_dir, old_name, new_dir, new_name, flags)


@operation
def link(old, new, follow):
    with Place(old) as (old_dir, old_name), Place(new) as (new_dir, new_name):
        os.link(old_name, new_name, src_dir_fd=old_dir, dst_dir_fd=new_dir, follow_symlinks=follow)


@operation
def symlink(target, path):
    with Place(path) as (dir_fd, name):
        os.symlink(to_bytes(target), name, dir_fd=dir_fd)


@operation
def mknod(path, mode, major, minor):
    with Place(path) as (dir_fd, name):
        os.mknod(name, mode, os.makedev(major, minor), dir_fd=dir_fd)


@operation
def bind_socket(path):
    root, text = path
    *parents, name = to_bytes(text).split(b"/")
    if len(name) > 70:
        raise OSError(errno.ENAMETOOLONG, "sun_path holds 108 bytes")
    fd = open_dir(root, parents)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            try:
                made.bind(b"/proc/self/fd/%d/%s" % (fd, name))
            except OSError as error:
                # Which of the two depends on the file system.
                raise OSError(errno.EEXIST if error.errno == errno.EADDRINUSE else error.errno, "bind") from None
    finally:
        os.close(fd)


# Attributes


@operation
def chmod(path, mode):
    with Place(path) as (dir_fd, name):
        os.chmod(name, mode, dir_fd=dir_fd)


@operation
def chown(path, uid, gid):
    with Place(path) as (dir_fd, name):
        os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)


@operation
def set_times(path, seconds, nanoseconds):
    # Of JSON's numbers, those beyond 2^53 are not exact.
    mtime = seconds * 1_000_000_000 + nanoseconds
    with Place(path) as (dir_fd, name):
        os.utime(name, ns=(mtime, mtime), dir_fd=dir_fd, follow_symlinks=False)


@operation
def set_xattr(path, key, value, flags):
    with Place(path) as (dir_fd, name):
        os.setxattr(b"/proc/self/fd/%d/%s" % (dir_fd, name), to_bytes(key), to_bytes(value), flags, follow_symlinks=False)


@operation
def remove_xattr(path, key):
    with Place(path) as (dir_fd, name):
        os.removexattr(b"/proc/self/fd/%d/%s" % (dir_fd, name), to_bytes(key), follow_symlinks=False)


# Whole files by name


@operation
def write_file(path, flags, mode, seed, length):
    """open, write and close, as most programs do."""
    with Place(path) as (dir_fd, name):
        fd = os.open(name, flags, mode, dir_fd=dir_fd)
    try:
        return os.write(fd, pattern(seed, length))
    finally:
        os.close(fd)


@operation
def truncate(path, length):
    with Place(path) as (dir_fd, name):
        os.truncate(b"/proc/self/fd/%d/%s" % (dir_fd, name), length)


@operation
def copy_range(source, target, source_offset, target_offset, length):
    with Place(source) as (dir_fd, name):
        source_fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        with Place(target) as (dir_fd, name):
            target_fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644, dir_fd=dir_fd)
        try:
            return os.copy_file_range(source_fd, target_fd, length, source_offset, target_offset)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


@operation
def temporary_file(path, seed, length, linked):
    """O_TMPFILE in the parent directory, given its name at the end or never."""
    with Place(path) as (dir_fd, name):
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640, dir_fd=dir_fd)
        try:
            os.write(fd, pattern(seed, length))
            if linked:
                os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=dir_fd, follow_symlinks=True)
        finally:
            os.close(fd)


# Descriptors


@operation
def open_handle(slot, path, flags, mode):
    if slot in handles:
        os.close(handles.pop(slot))
    with Place(path) as (dir_fd, name):
        handles[slot] = os.open(name, flags | os.O_NONBLOCK, mode, dir_fd=dir_fd)


@operation
def duplicate_handle(slot, new_slot):
    fd = os.dup(descriptor(slot))
    if new_slot in handles:
        os.close(handles.pop(new_slot))
    handles[new_slot] = fd


@operation
def close_handle(slot):
    os.close(descriptor(slot))
    del handles[slot]


@operation
def read_handle(slot, length):
    return summary(os.read(descriptor(slot), length))


@operation
def write_handle(slot, seed, length):
    return os.write(descriptor(slot), pattern(seed, length))


@operation
def pwrite_handle(slot, seed, length, offset):
    return os.pwrite(descriptor(slot), pattern(seed, length), offset)


@operation
def seek_handle(slot, offset, whence):
    return os.lseek(descriptor(slot), offset, whence)


@operation
def truncate_handle(slot, length):
    os.ftruncate(descriptor(slot), length)


@operation
def allocate_handle(slot, mode, offset, length):
    libc.fallocate(descriptor(slot), mode, offset, length)


@operation
def copy_handle(source, target, length):
    return os.copy_file_range(descriptor(source), descriptor(target), length)


@operation
def chmod_handle(slot, mode):
    os.fchmod(descriptor(slot), mode)


@operation
def chown_handle(slot, uid, gid):
    os.fchown(descriptor(slot), uid, gid)


@operation
def set_times_handle(slot, seconds, nanoseconds):
    mtime = seconds * 1_000_000_000 + nanoseconds
    os.utime(descriptor(slot), ns=(mtime, mtime))


@operation
def set_xattr_handle(slot, key, value):
    os.setxattr(descriptor(slot), to_bytes(key), to_bytes(value))


@operation
def sync_handle(slot):
    os.fsync(descriptor(slot))


@operation
def make_in_handle(slot, name, seed, length):
    """A file made through a directory's descriptor."""
    fd = os.open(to_bytes(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=descriptor(slot))
    try:
        return os.write(fd, pattern(seed, length))
    finally:
        os.close(fd)


# The working directory


@operation
def change_dir(path):
    root, text = path
    fd = open_dir(root, to_bytes(text).split(b"/"))
    try:
        os.fchdir(fd)
    finally:
        os.close(fd)


@operation
def leave_dir():
    os.chdir("/")


@operation
def make_in_cwd(name, seed, length):
    fd = os.open(to_bytes(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        return os.write(fd, pattern(seed, length))
    finally:
        os.close(fd)


# Locks


@operation
def flock_handle(slot, kind):
    fcntl.flock(descriptor(slot), kind if kind == fcntl.LOCK_UN else kind | fcntl.LOCK_NB)


@operation
def posix_lock(slot, kind, start, length):
    fcntl.lockf(descriptor(slot), kind if kind == fcntl.LOCK_UN else kind | fcntl.LOCK_NB, length, start)


@operation
def ofd_lock(slot, kind, start, length):
    F_OFD_SETLK = 37
    fcntl.fcntl(descriptor(slot), F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))


# Mappings


@operation
def map_handle(slot, handle, pages, offset_pages):
    """Shared, for reading and writing."""
    if slot in mappings:
        unmap(slot)
    length = pages * libc.PAGE
    protection = libc.PROT_READ | libc.PROT_WRITE
    address = libc.map_file(descriptor(handle), length, protection, libc.MAP_SHARED, offset_pages * libc.PAGE)
    mappings[slot] = (address, length, "shared")


@operation
def map_file(slot, path, pages, kind):
    """
    Of a file by name: shared for reading, or private. A descriptor that was opened for reading before overlayfs copied its
    file up would map what the file was then.
    """
    if slot in mappings:
        unmap(slot)
    length = pages * libc.PAGE
    with Place(path) as (dir_fd, name):
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        if kind == "readonly":
            address = libc.map_file(fd, length, libc.PROT_READ, libc.MAP_SHARED, 0)
        else:
            address = libc.map_file(fd, length, libc.PROT_READ | libc.PROT_WRITE, libc.MAP_PRIVATE, 0)
    finally:
        os.close(fd)
    mappings[slot] = (address, length, kind)
    if kind == "private":
        # What a private mapping shows of pages that it did not write is unspecified (mmap(2)).
        for page in range(address, address + length, libc.PAGE):
            found = libc.read_memory(page, 1)
            if found is not None:
                libc.write_memory(page, found)


@operation
def store(slot, offset, seed, length):
    if slot not in mappings or mappings[slot][2] == "readonly":
        return None
    address, mapped, _ = mappings[slot]
    offset %= mapped
    return libc.write_memory(address + offset, pattern(seed, min(length, mapped - offset)))


@operation
def unmap(slot):
    if slot not in mappings:
        return None
    address, length, _ = mappings.pop(slot)
    libc.unmap(address, length)


# Streams of directories


@operation
def open_stream(slot, path, count, read_bytes):
    """A directory with `count` entries of which a first part is read; nothing else acts on it until it is read to its end."""
    with Place(path) as (dir_fd, name):
        os.mkdir(name, 0o755, dir_fd=dir_fd)
    root, text = path
    fd = open_dir(root, to_bytes(text).split(b"/"))
    try:
        for index in range(count):
            os.close(os.open(f"entry-{index:04}", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
        stream = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    finally:
        os.close(fd)
    if slot in streams:
        os.close(streams.pop(slot)[0])
    streams[slot] = (stream, libc.getdents(stream, read_bytes))


@operation
def finish_stream(slot):
    """All names that the stream gave, from its begin to its end."""
    if slot not in streams:
        return None
    fd, seen = streams.pop(slot)
    try:
        while more := libc.getdents(fd, 4096):
            seen += more
    finally:
        os.close(fd)
    return [to_text(name) for name in sorted(seen)]
