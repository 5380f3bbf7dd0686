"""Runs in the guest, as its first process: does what the host asks for, a JSON object a line over a virtio port.

    {"id": 1, "do": "run", "words": [...], "timeout": 60, "env": {}}   -> {"id": 1, "status": 0, "out": "", "err": ""}
    {"id": 2, "do": "start", "words": [...], "log": "/tmp/x"}          -> {"id": 2, "pid": 9}
    {"id": 3, "do": "signal", "pid": 9, "number": 15}                  -> {"id": 3}
    {"id": 4, "do": "wait", "pid": 9, "timeout": 10}                   -> {"id": 4, "status": 0} (null: it runs)
    {"id": 5, "do": "write", "path": "/tmp/x", "text": "..."}          -> {"id": 5}
    {"id": 6, "do": "read", "path": "/tmp/x"}                          -> {"id": 6, "text": "..."}
    {"id": 7, "do": "call", "module": "x", "about": {}}                -> {"id": 7, "answer": ...}: what `x.answer(about)` of `x.py` here returns
What went wrong comes as {"id": ..., "error": "..."}.
"""

import glob
import importlib
import json
import os
import signal
import subprocess
import threading
import time

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Agent:
    def __init__(self, port):
        self.port, self.lock, self.started = port, threading.Lock(), {}

    def say(self, answer):
        data = json.dumps(answer).encode() + b"\n"
        with self.lock:
            while data:
                data = data[os.write(self.port, data):]

    def run(self, r):
        try:
            done = subprocess.run(r["words"], capture_output=True, text=True, errors="replace", timeout=r["timeout"], stdin=subprocess.DEVNULL,
                                  env={**os.environ, **r.get("env", {})})
            return {"status": done.returncode, "out": done.stdout, "err": done.stderr}
        except subprocess.TimeoutExpired:
            return {"status": 124, "out": "", "err": f"not done within {r['timeout']} s"}

    def start(self, r):
        with open(r["log"], "ab") as log:
            process = subprocess.Popen(r["words"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started[process.pid] = process
        return {"pid": process.pid}

    def signal(self, r):
        self.started[r["pid"]].send_signal(r["number"])
        return {}

    def wait(self, r):
        try:
            return {"status": self.started[r["pid"]].wait(r["timeout"])}
        except subprocess.TimeoutExpired:
            return {"status": None}

    def write(self, r):
        os.makedirs(os.path.dirname(r["path"]), exist_ok=True)
        with open(r["path"], "w") as f:
            f.write(r["text"])
        return {}

    def read(self, r):
        with open(r["path"], errors="replace") as f:
            return {"text": f.read()}

    def call(self, r):
        # In this process: a Python of its own takes seconds to start here.
        return {"answer": importlib.import_module(r["module"]).answer(r["about"])}

    def serve(self, request):
        try:
            act = {"run": self.run, "start": self.start, "signal": self.signal, "wait": self.wait, "write": self.write, "read": self.read, "call": self.call}
            answer = act[request["do"]](request)
        except Exception as e:  # the host's to judge
            answer = {"error": f"{type(e).__name__}: {e}"}
        self.say({"id": request["id"], **answer})


def port():
    """The virtio port, once the kernel has it."""
    while True:
        for name in glob.glob("/sys/class/virtio-ports/*/name"):
            with open(name) as f:
                if f.read().strip() == "agent":
                    return os.open("/dev/" + name.split("/")[-2], os.O_RDWR)
        time.sleep(0.05)


def main():
    os.environ["PATH"] = PATH
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    subprocess.run(["modprobe", "virtio_console"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    descriptor = port()
    agent = Agent(descriptor)
    agent.say({"id": 0, "ready": os.uname().release})
    waiting = b""
    while True:
        data = os.read(descriptor, 65536)
        if not data:  # nobody is at the other end yet, or any more
            time.sleep(0.05)
            continue
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            threading.Thread(target=agent.serve, args=(json.loads(line),), daemon=True).start()


main()
