#!/usr/bin/env python3
"""A stand-in for the engine: detaches like it, then echoes every frame, with its descriptors, on descriptor 3.

Payload "exit" ends it; payload "garbage" makes it answer with bytes that are no frame; "report" makes it answer with
what it inherited. With "--listen DIR" it also answers one connection to DIR/engine.sock in the same way.
"""
import array, os, socket, struct, sys

def read_exactly(sock, size, fds):
    data = b""
    while len(data) < size:
        part, ancillary, _, _ = sock.recvmsg(size - len(data), socket.CMSG_SPACE(16 * 4))
        for _, _, raw in ancillary:
            fds.extend(array.array("i", raw[: len(raw) - len(raw) % 4]))
        if not part:
            sys.exit(0)
        data += part
    return data

def report():
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    return repr((descriptors, os.getcwd(), sorted(os.environ), os.getsid(0) == os.getpid())).encode()

def serve(sock):
    while True:
        fds = []
        magic, version, fd_count, size = struct.unpack("<4sHHI", read_exactly(sock, 12, fds))
        payload = read_exactly(sock, size, fds)
        assert magic == b"DBX1" and version == 1 and fd_count == len(fds)
        if payload == b"exit":
            sys.exit(0)
        if payload == b"garbage":
            sock.sendall(b"this is not a frame at all")
            continue
        if payload == b"report":
            payload = report()
        reply = struct.pack("<4sHHI", b"DBX1", 1, len(fds), len(payload)) + payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = sock.sendmsg([reply], rights)
        sock.sendall(reply[sent:])
        for fd in fds:
            os.close(fd)

listener = None
if "--listen" in sys.argv:
    listener = socket.socket(socket.AF_UNIX)
    os.chdir(sys.argv[sys.argv.index("--listen") + 1])
    listener.bind("engine.sock")
    listener.listen(1)
    os.chdir("/")
if "--fail" in sys.argv:
    sys.exit(7)
if os.fork():
    os._exit(0)
print("fake engine runs", flush=True)
if listener:
    serve(listener.accept()[0])
serve(socket.socket(fileno=3))
