"""Threads made after the checkpoint end; those of before live on."""

import os
import threading

from guest import eventually, expect, run

questions, answers = [], []
wake = threading.Semaphore(0)


def worker():
    while True:
        wake.acquire()
        answers.append(questions.pop())


def prepare():
    for _ in range(3):
        threading.Thread(target=worker, daemon=True).start()


def change(count):
    for _ in range(5):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def verify():
    expect(threading.active_count(), 4)
    expect(len(os.listdir("/proc/self/task")), 4)
    questions.append("still there?")
    wake.release()
    eventually("no thread answers", lambda: answers == ["still there?"])


run(prepare, change, verify)
