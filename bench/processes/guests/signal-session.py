# Holds memory and changes 130 of its pages at each SIGUSR1, then writes how often that was to a file: without a pipe, since
# CRIU refuses those whose other end is elsewhere.
import os
import signal
import sys

memory = bytearray(os.urandom(1 << 20) * int(sys.argv[1]))
pages = len(memory) >> 12
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
count = 0
while True:
    with open(sys.argv[2] + '.new', 'w') as file:
        file.write(f'{count}\n')
    os.rename(file.name, sys.argv[2])
    signal.sigwait({signal.SIGUSR1})
    count += 1
    for number in range(count * 130, count * 130 + 130):
        at = number * 7919 % pages << 12
        memory[at] = (memory[at] + 1) & 255
