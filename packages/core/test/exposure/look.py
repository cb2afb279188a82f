"""Looks, from inside, for what belongs to the host: look.py PLAN, where PLAN is JSON.

PLAN: marker (a word that only the host knows), hostPids (of the host, which have no namesake inside), shmKey, ports,
addresses, proxy (true: there is one). Prints {what: [findings]} as JSON; nothing may be found.
"""

import ctypes
import json
import os
import socket
import stat
import sys

plan = json.loads(sys.argv[1])
marker = plan["marker"].encode()
libc = ctypes.CDLL(None, use_errno=True)
OWN_DIRS = ("/workspace", "/tmp", "/home", "/root", "/run", "/var", "/dev/shm")
MAX_SCANNED_BYTES = 4 << 20


def read(path, size=MAX_SCANNED_BYTES):
    # Not blocking: a pipe or a log that waits for its writer says nothing about the host.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return b""
    finally:
        os.close(fd)


def tree(root):
    for top, names, files in os.walk(root):
        names[:] = [name for name in names if not os.path.islink(os.path.join(top, name)) and os.path.join(top, name) != "/proc"]
        for name in names + files:
            yield os.path.join(top, name)


def files_that_forbid_others():
    """What the host shows, if its mode forbids others to read it, must not open. Own files are not the host's."""
    found = []
    count = 0
    for path in tree("/"):
        # In /var the host's package database is shown where root started the sandbox.
        if path.startswith(tuple(top for top in OWN_DIRS if top != "/var")) or path.startswith("/dev/pts"):
            continue
        count += 1
        mode = os.lstat(path).st_mode
        if mode & stat.S_IROTH or stat.S_ISLNK(mode):
            continue
        try:
            os.listdir(path) if stat.S_ISDIR(mode) else read(path, 1)
        except OSError:
            continue
        # The sandbox's own empty places are directories that nobody else has.
        if not (stat.S_ISDIR(mode) and path.startswith("/.deltabox")):
            found.append(f"{path} {mode:o}")
    assert count > 1000, f"only {count} files were looked at"
    return found


def the_marker_in_any_file():
    """In names everywhere; in contents where the host's and the sandbox's own small files are."""
    found = []
    for path in tree("/"):
        if marker in os.fsencode(os.path.basename(path)):
            found.append(path)
        elif path.startswith(("/etc", "/.deltabox", *OWN_DIRS)) and path != sys.argv[0] and stat.S_ISREG(os.lstat(path).st_mode):
            try:
                if marker in read(path):
                    found.append(f"in {path}")
            except OSError:
                pass
    return found


def the_marker_in_proc():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) in (os.getpid(), os.getppid()):
            continue
        for name in ("environ", "cmdline", "comm", "maps", "mountinfo"):
            try:
                if marker in read(f"/proc/{pid}/{name}"):
                    found.append(f"/proc/{pid}/{name}")
            except OSError:
                pass
    for name in ("keys", "key-users", "locks", "net/unix", "net/netlink", "self/environ", "sysvipc/shm", "mounts", "1/mountinfo"):
        try:
            if marker in read(f"/proc/{name}"):
                found.append(f"/proc/{name}")
        except OSError:
            pass
    return found


def processes_of_the_host():
    found = [pid for pid in plan["hostPids"] if os.path.exists(f"/proc/{pid}")]
    for pid in plan["hostPids"]:
        try:
            os.kill(pid, 0)
            found.append(f"kill {pid}")
        except OSError:
            pass
    # Only init, this and its shell.
    found += [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (1, os.getpid(), os.getppid())]
    return found


def shared_memory_of_the_host():
    return ["shm"] if libc.shmget(plan["shmKey"], 0, 0) != -1 else []


def keys_of_the_host():
    found = []
    # add_key, request_key and keyctl(GET_KEYRING_ID) are refused, so that no keyring can even be asked for.
    for number, arguments in ((249, (b"user", marker, None, 0)), (250, (0, ctypes.c_int(-3), 0))):
        ctypes.set_errno(0)
        if libc.syscall(number, *arguments) != -1:
            found.append(f"system call {number}")
    return found


def environment():
    return [name for name, value in os.environ.items() if plan["marker"] in name + value]


def connected(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(3)
        try:
            client.connect(address)
            return True
        except OSError:
            return False


def sockets_of_the_host():
    found = []
    # Some servers, Node's among them, fill the name up with NULs.
    abstract = "\0" + plan["marker"]
    if connected(socket.AF_UNIX, abstract) or connected(socket.AF_UNIX, abstract.ljust(108, "\0")):
        found.append("abstract")
    for address in plan["addresses"]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        found += [f"{address} {port}" for port in plan["ports"] if connected(family, (address, port))]
    # The proxy's own socket, and those of the one plain name that is allowed (addresses are little-endian numbers).
    own = {"0100007F:0C38", "0100407F:0050", "0100407F:01BB"} if plan["proxy"] else set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in read(f"/proc/net/{name}").decode().splitlines()[1:]:
            place = line.split()[1]
            if place not in own:
                found.append(f"/proc/net/{name} {place}")
    return found


def interfaces_of_the_host():
    return [name for _, name in socket.if_nameindex() if name != "lo"]


def the_host_through_the_proxy():
    found = []
    for address in plan["addresses"] + ["localhost", "127.1", "0", "2130706433", "::ffff:127.0.0.1"] if plan["proxy"] else []:
        target = f"[{address}]" if ":" in address else address
        for port in plan["ports"]:
            with socket.create_connection(("127.0.0.1", 3128), timeout=20) as client:
                client.sendall(f"CONNECT {target}:{port} HTTP/1.1\r\n\r\n".encode())
                answer = client.recv(200)
            if not answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 502", b"HTTP/1.1 400")):
                found.append(f"{target}:{port} {answer[:40]}")
    return found


looks = [files_that_forbid_others, the_marker_in_any_file, the_marker_in_proc, processes_of_the_host, shared_memory_of_the_host]
looks += [keys_of_the_host, environment, sockets_of_the_host, interfaces_of_the_host, the_host_through_the_proxy]
print(json.dumps({look.__name__.replace("_", " "): look() for look in looks}))
