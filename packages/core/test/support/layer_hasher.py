"""
Hashes sealed layers, and hashes them again: layer_hasher.py LAYERS_DIR. One line of JSON is answered by one:

    {"sealed": [...]}   numbers of the layers that lie below a live overlay
    {"verify": true}    hashes all again

Answered is how many layers are known as sealed and where one differs from its first hash. A layer counts as sealed once it
lies below a live overlay: one that a rollback left may belong to no checkpoint, and may then be taken apart. Counted are names, kinds, modes, owners, sizes,
contents, link targets, device numbers, extended attributes and modification times; not access and change times. An
ordinary user runs this as root of a user namespace, as its own files may forbid it to read them.
"""

import hashlib
import json
import os
import stat
import sys
import time

REMOVAL_S = 5
layers_dir = sys.argv[1]
hashes = {}


def digest_entry(name, dir_fd, info):
    """What an entry is, by parts, so that a difference can be named."""
    # A directory's size is its file system's affair.
    size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
    attributes = (info.st_mode, info.st_uid, info.st_gid, info.st_rdev)
    contents = hashlib.blake2b(digest_size=16)
    if stat.S_ISREG(info.st_mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME, dir_fd=dir_fd)
        try:
            digest_contents(contents, fd, info.st_size)
        finally:
            os.close(fd)
    elif stat.S_ISLNK(info.st_mode):
        contents.update(os.readlink(name, dir_fd=dir_fd))
    path = b"/proc/self/fd/%d/%s" % (dir_fd, name)
    keys = sorted(os.listxattr(path, follow_symlinks=False))
    xattrs = hashlib.blake2b(
        repr([(key, os.getxattr(path, key, follow_symlinks=False)) for key in keys]).encode(), digest_size=16
    )
    return {
        "attributes": attributes,
        "size": size,
        "modification time": info.st_mtime_ns,
        "contents": contents.hexdigest(),
        "extended attributes": xattrs.hexdigest(),
    }


def digest_contents(digest, fd, size):
    """Data with its offsets; holes cost nothing."""
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:
            return
        data = os.pread(fd, 1 << 20, offset)
        if not data:
            return
        # Zeros count as holes: whether they have blocks is no change.
        if data.count(0) != len(data):
            for at in range(0, len(data), 4096):
                page = data[at : at + 4096]
                if page.count(0) != len(page):
                    digest.update(b"%d" % (offset + at))
                    digest.update(page)
        offset += len(data)


def hash_layer(number):
    """A hash for each path of a layer; None when the layer is gone."""
    try:
        top = os.open(f"{layers_dir}/{number}/upper", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    found = {".": digest_entry(b".", top, os.stat(top))}
    pending = [(top, b"")]
    while pending:
        fd, path = pending.pop()
        for name in sorted(os.listdir(f"/proc/self/fd/{fd}".encode())):
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            own = path + b"/" + name
            found[os.fsdecode(own)] = digest_entry(name, fd, info)
            if stat.S_ISDIR(info.st_mode):
                pending.append((os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd), own))
        os.close(fd)
    return found


def observe(sealed):
    for number in sorted(set(sealed) - hashes.keys()):
        found = hash_layer(number)
        if found is not None:
            hashes[number] = found


def verify():
    problems = []
    for number, first in sorted(hashes.items()):
        again = hash_unless_removed(number, first)
        if again is None:  # merged or no longer needed
            continue
        for path in sorted(first.keys() | again.keys()):
            if first.get(path) != again.get(path):
                problems.append(f"layer {number}: {path} {describe(first.get(path), again.get(path))}")
    return problems


def hash_unless_removed(number, first):
    """One that is not what it was may be on its way out: then it is gone soon."""
    end = time.monotonic() + REMOVAL_S
    while True:
        try:
            again = hash_layer(number)
        except FileNotFoundError:
            again = {}
        if again is None or again == first or time.monotonic() > end:
            return again
        time.sleep(0.05)


def describe(first, again):
    if first is None or again is None:
        return "is new" if first is None else "is gone"
    return "changed: " + ", ".join(part for part in first if first[part] != again[part])


for line in sys.stdin:
    request = json.loads(line)
    if "sealed" in request:
        observe(request["sealed"])
    problems = verify() if "verify" in request else []
    print(json.dumps({"count": len(hashes), "problems": problems}), flush=True)
