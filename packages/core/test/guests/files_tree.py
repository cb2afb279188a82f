"""Files by name: contents, modes, times, owners, links, renamed and removed directories, on several volumes."""

import os
import shutil

from guest import expect, run

places = []
values = {}


def picture():
    seen = []
    for place in places:
        for path, _, files in sorted(os.walk(place)):
            for name in [".", *sorted(files)]:
                full = os.path.join(path, name)
                info = os.lstat(full)
                text = os.readlink(full) if os.path.islink(full) else open(full).read() if name != "." else ""
                seen.append((full, oct(info.st_mode), info.st_uid, info.st_mtime_ns, text))
    return seen


def prepare():
    places.extend(f"{top}/tree{os.getpid()}" for top in ("/workspace", "/tmp", "/home", "/root", "/run", "/var/tmp", "/dev/shm"))
    for place in places:
        os.makedirs(f"{place}/a/b/c")
        for name in ("one", "a/two", "a/b/c/three"):
            open(f"{place}/{name}", "w").write(name)
        os.symlink("one", f"{place}/link")
        os.chmod(f"{place}/one", 0o640)
        os.utime(f"{place}/a/two", ns=(10**18, 10**18 + 5))
    values["picture"] = picture()


def change(count):
    for place in places:
        open(f"{place}/one", "a").write("more")
        os.chmod(f"{place}/one", 0o600)
        os.makedirs(f"{place}/new{count}/x")
        open(f"{place}/new{count}/x/y", "w").write("new")
        if os.path.exists(f"{place}/a"):
            shutil.rmtree(f"{place}/a")
        if count == 1:
            os.unlink(f"{place}/link")
        os.makedirs(f"{place}/a", exist_ok=True)
        open(f"{place}/a/other", "w").write("in the place of a removed directory")
        os.utime(place, ns=(1, count))


def verify():
    expect(picture(), values["picture"])


run(prepare, change, verify)
