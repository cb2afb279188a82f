"""Files that are open for writing: inode numbers stay, every way to the file shows the same, names and links return."""

import os

from guest import expect, run

fds = {}
inodes = {}


def prepare():
    os.mkdir("dir")
    for name in ("plain", "dir/deep", "linked", "big"):
        fds[name] = os.open(name, os.O_RDWR | os.O_CREAT, 0o640)
        os.write(fds[name], name.encode() * 1000)
        inodes[name] = os.fstat(fds[name]).st_ino
    os.link("linked", "dir/other name")
    os.ftruncate(fds["big"], 64 << 20)
    os.pwrite(fds["big"], b"end", (64 << 20) - 3)
    os.setxattr("plain", "user.mark", b"before")


def change(count):
    os.pwrite(fds["plain"], b"CHANGED %d" % count, 10)
    os.ftruncate(fds["dir/deep"], 5)
    os.pwrite(fds["linked"], b"changed", 0)
    if count == 1:
        os.pwrite(fds["big"], b"changed", 32 << 20)
    os.setxattr("plain", "user.mark", b"after")
    os.chmod("plain", 0o600)
    if count == 1:
        os.rename("big", "moved big")
        os.rename("dir/deep", "moved")
    elif count == 2:
        os.truncate("linked", 3)


def verify():
    for name, fd in fds.items():
        expect((os.fstat(fd).st_ino, os.stat(name).st_ino), (inodes[name], inodes[name]), name)
        wanted = name.encode() * 1000
        expect(os.pread(fd, len(wanted), 0), wanted, name)
        expect(open(name, "rb").read(len(wanted)), wanted, name)
    expect((os.stat("plain").st_mode & 0o777, os.getxattr("plain", "user.mark")), (0o640, b"before"))
    expect(os.fstat(fds["big"]).st_size, 64 << 20)
    expect(os.pread(fds["big"], 7, 32 << 20), bytes(7))
    expect(os.pread(fds["big"], 3, (64 << 20) - 3), b"end")
    expect(os.stat("big").st_blocks < 8192, True, "still sparse:")
    expect(open("dir/other name", "rb").read(6), b"linked")
    # Through one name and seen through another.
    os.pwrite(fds["plain"], b"PLAIN", 0)
    expect(open("plain", "rb").read(10), b"PLAINplain")
    with open("plain", "r+b") as file:
        file.write(b"plain")
    expect(os.pread(fds["plain"], 10, 0), b"plainplain")


run(prepare, change, verify)
