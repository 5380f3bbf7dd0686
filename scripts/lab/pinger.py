#!/usr/bin/env python3
"""Pings and counts, for a host of the lab: `pinger.py ADDRESS COUNT INTERVAL_S SIZE [--source A] [--dont-fragment] [--flows N]`.

Unlike ping(8), which gives its last requests only twice the longest time that an answer has taken, it waits
for each answer for two seconds: on a busy machine a late answer is no lost one. Prints one JSON object.
"""

import argparse
import json
import select
import socket
import struct
import time

PATIENCE_S = 2.0
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2


def flow(a):
    """A socket of its own: the kernel gives it an identifier of its own."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    if a.source:
        s.bind((a.source, 0))
    if a.dont_fragment:
        s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    s.connect((a.address, 0))
    s.setblocking(False)
    return s


def main():
    p = argparse.ArgumentParser()
    p.add_argument("address")
    p.add_argument("count", type=int)
    p.add_argument("interval_s", type=float)
    p.add_argument("size", type=int)
    p.add_argument("--source")
    p.add_argument("--dont-fragment", action="store_true")
    p.add_argument("--flows", type=int, default=1, help="each request goes out once from each of so many identifiers")
    a = p.parse_args()
    flows = [flow(a) for _ in range(a.flows)]
    payload = bytes(i % 251 for i in range(a.size))
    sent, took, last, errors, twice, wrong = 0, {}, 0.0, [], 0, 0
    sent_at = {}
    begin = time.monotonic()
    while True:
        now = time.monotonic()
        due = min(a.count, int((now - begin) / a.interval_s) + 1) if a.interval_s > 0 else a.count
        while sent < due:
            for n, s in enumerate(flows):
                sent_at[n, sent] = last = time.monotonic()
                try:
                    s.send(struct.pack("!BBHHH", 8, 0, 0, 0, sent) + payload)
                except OSError as error:  # an ICMP error about an earlier one, or no room
                    errors.append(error.strerror)
            sent += 1
        if len(took) == a.count * a.flows or (sent == a.count and now > last + PATIENCE_S):
            break
        wait = PATIENCE_S / 10 if sent == a.count else begin + sent * a.interval_s - now
        for s in select.select(flows, [], [], max(wait, 0))[0]:
            try:
                answer = s.recv(65536)
            except OSError as error:
                errors.append(error.strerror)
                continue
            which = flows.index(s), struct.unpack("!H", answer[6:8])[0]
            twice += which in took
            wrong += answer[8:] != payload
            took.setdefault(which, time.monotonic() - sent_at.get(which, begin))
    average = 1000 * sum(took.values()) / len(took) if took else None
    print(json.dumps({"sent": len(sent_at), "received": len(took), "average_ms": average, "twice": twice, "wrong": wrong, "errors": sorted(set(errors))}))


main()
