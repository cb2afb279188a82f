"""A thread that had no rseq area at the checkpoint has none after the rollback: it can register one, as at its start."""

import ctypes
import errno

from guest import expect, run

SYS_RSEQ = 334
SIGNATURE = 0x53053053
UNREGISTER = 1
libc = ctypes.CDLL(None, use_errno=True)
values = {}


def thread_pointer():
    """ARCH_GET_FS; glibc keeps its rseq area at __rseq_offset from there (rseq(2), glibc 2.35)."""
    base = ctypes.c_ulong()
    libc.syscall(158, 0x1003, ctypes.byref(base))
    return base.value


def rseq(flags):
    size = ctypes.c_uint.in_dll(libc, "__rseq_size").value
    result = libc.syscall(SYS_RSEQ, ctypes.c_void_p(values["area"]), max(size, 32), flags, SIGNATURE)
    return 0 if result == 0 else ctypes.get_errno()


def prepare():
    offset = ctypes.c_ssize_t.in_dll(libc, "__rseq_offset").value
    values["area"] = thread_pointer() + offset
    expect(rseq(UNREGISTER), 0, "unregistering glibc's area")


def change(count):
    expect(rseq(0) in (0, errno.EBUSY), True, "registering it again")


def verify():
    expect(rseq(0), 0, "registering it after the rollback")
    expect(rseq(UNREGISTER), 0)


run(prepare, change, verify)
