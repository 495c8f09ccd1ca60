#!/usr/bin/env python3
"""lock.py NAME COMMAND ARG... runs COMMAND while it holds the lock NAME, through
the agent beside it. It needs nothing but the standard library.

The lock is held for as long as the connection lives. The agent says how long it
is good for, counted from before the request was sent; when that is over without
another word, or when the lock is lost, COMMAND is killed and the exit code is 76.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse


class Lock:
    """A held lock: fence is its fencing token, lost is set when it is no more."""

    def __init__(self, name, ttl_ms=6000, address=None):
        address = address or os.environ.get("PEER_HTTP_ADDR") or "127.0.0.1:7980"
        self.lost = threading.Event()
        self.connection = http.client.HTTPConnection(address)
        self.sent = time.monotonic()
        self.connection.request(
            "POST", "/v1/locks/%s/hold" % urllib.parse.quote(name, safe=""),
            json.dumps({"ttl_ms": ttl_ms, "command": "lock.py", "pid": os.getpid()}),
            {"Content-Type": "application/json"})
        self.answer = self.connection.getresponse()
        if self.answer.status != 200:
            raise RuntimeError(json.load(self.answer)["detail"])
        for line in self.answer:
            event = json.loads(line)
            if event["type"] == "acquired":
                break
            if event["type"] == "failed":
                raise RuntimeError(event["problem"]["detail"])
        else:
            raise RuntimeError("the agent is gone")
        self.fence = event["fence"]
        self.good_until(event)
        threading.Thread(target=self.follow, daemon=True).start()
        threading.Thread(target=self.watch, daemon=True).start()

    def good_until(self, event):
        self.deadline = self.sent + (event["elapsed_ms"] + event.get("expires_in_ms", 0)) / 1000

    def follow(self):
        try:
            for line in self.answer:
                event = json.loads(line)
                if event["type"] != "held":
                    break
                self.good_until(event)
        except (OSError, ValueError, http.client.HTTPException):
            pass
        self.lost.set()

    def watch(self):
        while not self.lost.wait(max(self.deadline - time.monotonic(), 0)):
            if time.monotonic() >= self.deadline:
                self.lost.set()


def main():
    lock = Lock(sys.argv[1])
    work = subprocess.Popen(sys.argv[2:], env=dict(os.environ, FENCE=str(lock.fence)))
    while work.poll() is None:
        if lock.lost.wait(0.02):
            work.kill()
            work.wait()
            sys.exit(76)
    sys.exit(work.returncode)  # the end of the process ends the connection


if __name__ == "__main__":
    main()
