"""Threads that ended since the checkpoint live again, in the middle of what they did; those made since are gone."""

import os
import threading

from guest import eventually, expect, run

places = {}
ends = [threading.Event() for _ in range(3)]
asked = [threading.Semaphore(0) for _ in range(3)]
answers = []
local = threading.local()


def worker(index):
    local.value = index * 111  # in thread-local storage, which hangs on the thread's registers
    places[index] = threading.get_native_id()
    while not ends[index].is_set():
        if asked[index].acquire(timeout=0.05):
            answers.append((index, local.value, threading.get_native_id()))


def prepare():
    for index in range(3):
        threading.Thread(target=worker, args=(index,), daemon=True).start()
    eventually("not all threads started", lambda: len(places) == 3)


def change(count):
    others = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(2)]
    for end in ends[:2]:
        end.set()
    eventually("threads do not end", lambda: len(os.listdir("/proc/self/task")) <= 2 + 2 * (count - 1))
    for other in others:
        other.start()


def verify():
    expect(sorted(os.listdir("/proc/self/task")), sorted(str(tid) for tid in [os.getpid(), *places.values()]))
    answers.clear()
    for semaphore in asked:
        semaphore.release()
    eventually("not all threads answer", lambda: len(answers) == 3)
    expect(sorted(answers), [(index, index * 111, places[index]) for index in range(3)])


run(prepare, change, verify)
