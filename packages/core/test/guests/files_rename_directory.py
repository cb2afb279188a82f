"""Directories that a checkpoint holds are renamed, by change and all the time by a thread: the pair stays a pair."""

import os
import threading
import time

from guest import expect, run

FILES = {f"{directory}file{number}": f"{directory}{number}" for directory in ("", "sub/", "sub/sub/") for number in range(4)}
TOPS = ("/workspace", "/tmp")
SWING_SECONDS = 0.01  # between two renames of the thread
places = []
found = []
standing_still = threading.Lock()


def make(path):
    os.makedirs(f"{path}/sub/sub")
    for name, text in FILES.items():
        open(f"{path}/{name}", "w").write(text)


def contents(path):
    seen = {}
    for directory, _, names in os.walk(path):
        for name in names:
            full = os.path.join(directory, name)
            seen[os.path.relpath(full, path)] = open(full).read()
    return seen


def swing(place):
    """There and back for ever; what goes wrong is kept for verify."""
    names = ["left", "right"]
    while not found:
        with standing_still:
            try:
                os.rename(f"{place}/{names[0]}", f"{place}/{names[1]}")
            except OSError as error:
                found.append(f"{place}: {error}")
        names.reverse()
        time.sleep(SWING_SECONDS)


def prepare():
    for top in TOPS:
        place = f"{top}/renames{os.getpid()}"
        places.append(place)
        make(f"{place}/before")
        make(f"{place}/left")
        threading.Thread(target=swing, args=(place,), daemon=True).start()


def change(count):
    for place in places:
        if count == 1:
            os.rename(f"{place}/before", f"{place}/after")
        os.rename(f"{place}/after/sub", f"{place}/after/sub{count}")
        os.rename(f"{place}/after/sub{count}", f"{place}/after/sub")
        open(f"{place}/after/sub/file0", "a").write("changed")


def verify():
    with standing_still:
        expect(found, [])
        for place in places:
            names = sorted(os.listdir(place))
            assert names in (["before", "left"], ["before", "right"]), names
            for name in names:
                expect(contents(f"{place}/{name}"), FILES, name)


run(prepare, change, verify)
