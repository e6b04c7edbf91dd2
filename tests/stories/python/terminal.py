"""Runs a command on a terminal of its own, waits for a text on it, sends a signal, and tells what was shown.

python3 terminal.py SIGNAL TEXT COMMAND...      one JSON document: {"shown": ..., "status": ...}
"""

import json
import os
import pty
import signal
import sys


def main():
    name, awaited, command = sys.argv[1], sys.argv[2].encode(), sys.argv[3:]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    signal.alarm(30)
    shown, sent = b"", False
    while True:
        try:
            some = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            some = b""
        if not some:
            break
        shown += some
        if awaited in shown and not sent:
            os.kill(child, getattr(signal, name))
            sent = True
    _, status = os.waitpid(child, 0)
    print(json.dumps({"shown": shown.decode(), "status": os.waitstatus_to_exitcode(status)}))


main()
