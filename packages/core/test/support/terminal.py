"""Runs a program on a real terminal and plays the person in front of it.

Reads one JSON object from stdin: argv, and steps, each one of
  {"expect": regex}   waits until the output since the last expect matches
  {"send": text}      types
  {"resize": [rows, columns]}
  {"signal": number}  to the program itself
Prints one JSON object: output, status (as of waitpid), and whether the terminal's modes are again what they were.
"""

import fcntl, json, os, re, select, struct, sys, termios, time

LIMIT_S = 40


def resize(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main():
    task = json.load(sys.stdin)
    master, slave = os.openpty()
    resize(slave, 24, 80)
    modes = termios.tcgetattr(slave)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in range(3):
            os.dup2(slave, fd)
        os.closerange(3, 256)
        os.execvp(task["argv"][0], task["argv"])
    seen = b""
    looked = 0
    end = time.monotonic() + LIMIT_S
    status = None

    def read(timeout):
        nonlocal seen
        if select.select([master], [], [], timeout)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                pass

    for step in task["steps"]:
        if "send" in step:
            os.write(master, step["send"].encode())
        elif "resize" in step:
            resize(master, *step["resize"])
        elif "signal" in step:
            os.kill(pid, step["signal"])
        else:
            while True:
                found = re.search(step["expect"].encode(), seen[looked:], re.S)
                if found:
                    looked += found.end()
                    break
                if time.monotonic() > end:
                    os.kill(pid, 9)
                    os.waitpid(pid, 0)
                    print(json.dumps({"missing": step["expect"], "output": seen.decode(errors="replace")}))
                    return
                read(0.05)
    while status is None:
        read(0.05)
        done, raw = os.waitpid(pid, os.WNOHANG)
        if done:
            status = raw
        elif time.monotonic() > end:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            print(json.dumps({"missing": "the program's end", "output": seen.decode(errors="replace")}))
            return
    read(0.05)
    print(
        json.dumps(
            {
                "output": seen.decode(errors="replace"),
                "status": os.waitstatus_to_exitcode(status),
                "modesRestored": termios.tcgetattr(slave) == modes,
            }
        )
    )


main()
