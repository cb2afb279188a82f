"""
Obeys requests, one line of JSON each, answered by one line of base64 of deflated JSON.

    main.py ROOT ROOT                            inside a sandbox
    main.py --replica IDS CAPABILITIES DIR       on the host: the same on plain directories below DIR, with the same ids
                                                 and capabilities; draws the operations

A request is read up to its newline and answered before the next one comes, so that a checkpoint between two requests
finds nothing on its way.
"""

import base64
import json
import os
import sys
import zlib

import libc
import operations
import snapshot
import tree


def requests():
    pending = b""
    while True:
        while b"\n" not in pending:
            more = os.read(0, 1 << 16)
            if not more:
                return
            pending += more
        line, pending = pending.split(b"\n", 1)
        yield json.loads(line)


def answer(value):
    line = base64.b64encode(zlib.compress(json.dumps(value).encode(), 1)) + b"\n"
    while line:
        line = line[os.write(1, line) :]


def start():
    os.umask(0o022)
    if sys.argv[1] != "--replica":
        tree.set_roots(sys.argv[1:])
        for root in tree.roots:
            os.makedirs(root)
        with open("/proc/self/uid_map") as map_file:
            ids = sum(int(line.split()[2]) for line in map_file)
        with open("/proc/self/status") as status:
            capabilities = next(line.split()[1] for line in status if line.startswith("CapEff"))
        answer({"ids": ids, "capabilities": capabilities})
        return None
    ids, capabilities, place = int(sys.argv[2]), int(sys.argv[3], 16), sys.argv[4]
    binds = []
    for name in ("one", "two"):
        os.mkdir(f"{place}/{name}")
        os.mkdir(f"{place}/{name}-data")
        binds.append((f"{place}/{name}-data", f"{place}/{name}"))
    libc.isolate(ids, ids, capabilities, binds)
    os.umask(0o022)
    # Two mounts, as volumes are: a rename between them is EXDEV.
    tree.set_roots([f"{place}/one", f"{place}/two"])
    answer({"ids": ids})
    return ids


def serve(ids):
    generator = None
    for request in requests():
        kind = request["kind"]
        if kind == "run":
            answer([operations.run(call) for call in request["calls"]])
        elif kind == "state":
            answer(snapshot.take(request["locks"]))
        elif kind == "switches":
            import generator as module

            generator = module.Generator(request["switches"], ids)
            answer(None)
        elif kind == "draw":
            answer(generator.batch(request["seed"], request["count"]))
        elif kind == "sealed":
            generator.sealed()
            answer(None)
        elif kind == "replay":
            # Through the generator's notes too: it has to know what the operations left.
            for step in request["steps"]:
                if step is None:
                    generator.sealed()
                else:
                    for call in step:
                        result = operations.run(call)
                        generator._note(call, result)
            answer(None)


os.chdir("/")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
serve(start())
