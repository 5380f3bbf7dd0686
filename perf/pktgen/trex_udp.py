"""TRex, stateless: UDP flows from inside, and a thin stream that measures latency.

start -f perf/pktgen/trex_udp.py -p 0 -m 10mpps -t flows=65536
"""

import argparse

from trex_stl_lib.api import (Ether, IP, STLFlowLatencyStats, STLPktBuilder, STLScVmRaw,
                              STLStream, STLTXCont, STLVmFixIpv4, STLVmFlowVar, STLVmWrFlowVar, UDP)

PORTS = 256


class Flows:
    """Flows of 10.0.1.0 and the hosts after it to 203.0.113.1."""

    def get_streams(self, direction=0, tunables=(), **_kwargs):
        parser = argparse.ArgumentParser()
        parser.add_argument("--flows", type=int, default=65536)
        flows = parser.parse_args(list(tunables)).flows
        hosts = max(flows // PORTS, 1)
        first = 0x0A000100
        packet = Ether() / IP(src="10.0.1.0", dst="203.0.113.1") / UDP(sport=1024, dport=443)
        packet = packet / (b"\0" * 18)
        vm = STLScVmRaw([
            STLVmFlowVar("host", min_value=first, max_value=first + hosts - 1, size=4, op="inc"),
            STLVmFlowVar("port", min_value=1024, max_value=1024 + PORTS, size=2, op="inc"),
            STLVmWrFlowVar("host", pkt_offset="IP.src"),
            STLVmWrFlowVar("port", pkt_offset="UDP.sport"),
            STLVmFixIpv4(offset="IP"),
        ])
        load = STLStream(packet=STLPktBuilder(pkt=packet, vm=vm), mode=STLTXCont())
        probe = STLStream(packet=STLPktBuilder(pkt=packet), mode=STLTXCont(pps=1000),
                          flow_stats=STLFlowLatencyStats(pg_id=1))
        return [load, probe]


def register():
    return Flows()
