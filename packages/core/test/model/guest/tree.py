"""The two directory trees that operations act on, addressed by dirfds so that no path is too long."""

import os

from libc import to_bytes

_MAX_STEP_BYTES = 3000  # of one openat(2); PATH_MAX is 4096
roots = []


def set_roots(paths):
    """Opened by path each time: a descriptor of a root would be one more thing that a checkpoint has to carry."""
    roots[:] = [os.fsencode(path) for path in paths]


def open_dir(root, components):
    """A new descriptor of a directory below a root."""
    fd = os.open(roots[root], os.O_PATH | os.O_DIRECTORY)
    try:
        step = []
        for index, component in enumerate(components):
            step.append(component)
            if index + 1 == len(components) or sum(map(len, step)) + len(step) > _MAX_STEP_BYTES - 256:
                # "." makes a link at the end lead on, as it does in the middle of a path.
                next_fd = os.open(b"/".join(step) + b"/.", os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = next_fd
                step = []
        return fd
    except BaseException:
        os.close(fd)
        raise


class Place:
    """The parent directory of a path, open, and the last name: `with Place([0, "a/b"]) as (dir_fd, name)`."""

    def __init__(self, path):
        root, text = path
        *parents, self.name = to_bytes(text).split(b"/")
        self.fd = open_dir(root, parents)

    def __enter__(self):
        return self.fd, self.name

    def __exit__(self, *_):
        os.close(self.fd)


def walk(root):
    """All paths below a root as tuples of components, parents first, in the order of their names."""
    pending = [()]
    while pending:
        parent = pending.pop()
        fd = open_dir(root, parent)
        try:
            listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            try:
                names = sorted(os.fsencode(name) for name in os.listdir(listing))
            finally:
                os.close(listing)
            directories = []
            for name in names:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                path = (*parent, name)
                yield path, info, fd
                if info.st_mode & 0o170000 == 0o040000:
                    directories.append(path)
            pending.extend(reversed(directories))
        finally:
            os.close(fd)
