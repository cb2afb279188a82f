"""The system calls that Python's os module lacks, and bytes as JSON text."""

import ctypes
import errno
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
_libc.syscall.restype = ctypes.c_long

PAGE = 4096
AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16
MAP_SHARED, MAP_PRIVATE = 1, 2
PROT_READ, PROT_WRITE = 1, 2
SYS_GETDENTS64, SYS_RENAMEAT2 = 217, 316
_FAILED = ctypes.c_void_p(-1).value


def _checked(result):
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(old_dir, old_name, new_dir, new_name, flags):
    _checked(_libc.syscall(SYS_RENAMEAT2, old_dir, old_name, new_dir, new_name, flags))


def fallocate(fd, mode, offset, length):
    _checked(_libc.fallocate(fd, mode, offset, length))


def getdents(fd, size):
    """Names of the next entries of a directory's stream; none at its end."""
    buffer = ctypes.create_string_buffer(size)
    left = _checked(_libc.syscall(SYS_GETDENTS64, fd, buffer, size))
    names, at = [], 0
    while at < left:
        length = int.from_bytes(buffer.raw[at + 16 : at + 18], "little")
        names.append(buffer.raw[at + 19 : at + length].split(b"\0", 1)[0])
        at += length
    return names


def map_file(fd, length, protection, flags, offset):
    address = _libc.mmap(None, length, protection, flags, fd, offset)
    if address == _FAILED:
        _checked(-1)
    return address


def unmap(address, length):
    _checked(_libc.munmap(address, length))


def read_memory(address, length):
    """Bytes at an address; None where an access would be a SIGBUS."""
    fd = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        data = os.pread(fd, length, address)
        return data if len(data) == length else None
    except OSError as error:
        if error.errno in (errno.EIO, errno.EFAULT):
            return None
        raise
    finally:
        os.close(fd)


def write_memory(address, data):
    """Stores as a program does; False where that would be a SIGBUS."""
    first = address - address % PAGE
    for page in range(first, address + len(data), PAGE):
        if read_memory(page, 1) is None:
            return False
    ctypes.memmove(address, data, len(data))
    return True


def isolate(uids, gids, bounding_set, binds):
    """
    Makes this process what a task of a sandbox is: root in a user namespace with the same ids and capabilities, with
    `binds` (source, target) as mounts of their own.
    """
    CLONE_NEWNS, CLONE_NEWUSER, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 0x1000, 0x4000, 1 << 18
    outer_uid, outer_gid = os.getuid(), os.getgid()
    ready, mapped = os.pipe(), os.pipe()
    pid = os.getpid()
    helper = os.fork()
    if helper == 0:
        # Ids beyond one's own take privileges in the namespace above, which this process is about to leave.
        os.read(ready[0], 1)
        try:
            if uids == 1:
                open(f"/proc/{pid}/setgroups", "w").write("deny")
            open(f"/proc/{pid}/uid_map", "w").write(f"0 {outer_uid} {uids}")
            open(f"/proc/{pid}/gid_map", "w").write(f"0 {outer_gid} {gids}")
        finally:
            os.write(mapped[1], b"x")
            os._exit(0)
    _checked(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    os.write(ready[1], b"x")
    os.read(mapped[0], 1)
    os.waitpid(helper, 0)
    for fd in (*ready, *mapped):
        os.close(fd)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    if uids > 1:
        os.setgroups([])
    _checked(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    for source, target in binds:
        _checked(_libc.mount(os.fsencode(source), os.fsencode(target), None, MS_BIND, None))
    PR_CAPBSET_DROP = 24
    for capability in range(41):
        if not bounding_set >> capability & 1:
            _checked(_libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low, high = bounding_set & 0xFFFFFFFF, bounding_set >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _checked(_libc.capset(header, data))


def to_text(raw):
    return raw.decode("latin-1")


def to_bytes(text):
    return text.encode("latin-1")
