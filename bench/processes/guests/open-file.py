"""Holds a file of argv[1] MiB open, and changes one page of it for each line."""

import os
import sys

MIB = 1 << 20
held = os.open("/root/held", os.O_RDWR | os.O_CREAT)
size = int(sys.argv[1]) * MIB
for start in range(0, size, MIB):
    os.pwrite(held, os.urandom(MIB), start)
for count, _ in enumerate(sys.stdin):
    os.pwrite(held, os.urandom(4096), count * 7919 * 4096 % size)
    print("changed", flush=True)
