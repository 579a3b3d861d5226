"""Between the server and a connector's program: nothing of a run outlives it, however the server ends.

    python _guard.py LIFELINE GRACE PROGRAM ARGUMENT…

Runs the program in a process group of its own, with the standard streams as they are. The server holds the other end of
the pipe LIFELINE. When that is closed, by the server or by its death, the group gets SIGTERM, and GRACE seconds later
SIGKILL. When the program ends, what it left in its group is killed. What is to stay must leave the group (`setsid`).

Exits as the program does, with 128 + N for signal N, and 126 when it cannot be started.
"""

import os
import signal
import subprocess
import sys
import threading
import time


def main(lifeline: int, grace: float, command: list[str]) -> int:
    try:
        program = subprocess.Popen(command, process_group=0)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 126
    for number in (0, 1, 2):
        os.close(number)  # the program's alone: who reads them learns when it has ended
    threading.Thread(target=end, args=(lifeline, grace, program.pid), daemon=True).start()
    code = program.wait()
    kill(program.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def end(lifeline: int, grace: float, group: int) -> None:
    os.read(lifeline, 1)
    kill(group, signal.SIGTERM)
    time.sleep(grace)
    kill(group, signal.SIGKILL)


def kill(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
        pass


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
