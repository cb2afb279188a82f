"""What a thread registered with the kernel beside its rseq area: its robust list, and the address of its number."""

import ctypes
import queue
import threading

from guest import call, expect, libc, run

SYS_SET_ROBUST_LIST, SYS_GET_ROBUST_LIST, SYS_SET_TID_ADDRESS = 273, 274, 218
PR_GET_TID_ADDRESS = 40
HEAD_BYTES = 24
asked, told = queue.Queue(), queue.Queue()
values = {}


def robust_list():
    head, size = ctypes.c_ulong(), ctypes.c_size_t()
    expect(libc.syscall(SYS_GET_ROBUST_LIST, 0, ctypes.byref(head), ctypes.byref(size)), 0)
    return head.value, size.value


def tid_address():
    address = ctypes.c_ulong()
    expect(call(libc.prctl, PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0), (0, 0))
    return address.value


def registered():
    return robust_list(), tid_address()


def register_others():
    # An empty list leads to itself.
    head = (ctypes.c_ulong * 3)()
    head[0] = ctypes.addressof(head)
    values["others"] = values.get("others", []) + [head]
    expect(libc.syscall(SYS_SET_ROBUST_LIST, head, HEAD_BYTES), 0)
    libc.syscall(SYS_SET_TID_ADDRESS, ctypes.byref(head, 16))


def obey():
    while True:
        told.put(asked.get()())


def in_thread(function):
    asked.put(function)
    return told.get()


def prepare():
    threading.Thread(target=obey, daemon=True).start()
    values["before"] = registered(), in_thread(registered)


def change(count):
    register_others()
    in_thread(register_others)


def verify():
    expect((registered(), in_thread(registered)), values["before"])


run(prepare, change, verify)
