-- Pktgen-DPDK: every packet begins a flow. The rate grows until Spillway loses some; between the
-- steps, `spillway clear ip nat translation *` on the appliance makes room.
package.path = package.path .. ";?.lua;test/?.lua;app/?.lua;"
require "Pktgen"

local FROM, TO = "0", "1"
local STEP_MS = 1000
local SETTLE_MS = 2000

pktgen.range.dst_mac(FROM, "start", os.getenv("SPILLWAY_MAC") or "02:00:00:00:00:01")
pktgen.range.ip_proto(FROM, "udp")
pktgen.range.pkt_size(FROM, "start", 64)
pktgen.range.pkt_size(FROM, "inc", 0)
pktgen.range.src_ip(FROM, "start", "10.0.1.0")
pktgen.range.src_ip(FROM, "min", "10.0.1.0")
pktgen.range.src_ip(FROM, "max", "10.63.255.255")
pktgen.range.src_ip(FROM, "inc", "0.0.0.1")
pktgen.range.dst_ip(FROM, "start", "203.0.113.1")
pktgen.range.dst_ip(FROM, "min", "203.0.113.1")
pktgen.range.dst_ip(FROM, "max", "203.0.113.64")
pktgen.range.dst_ip(FROM, "inc", "0.0.0.1")
pktgen.set_range(FROM, "on")

for _, percent in ipairs({1, 2, 5, 10, 15, 20, 30}) do
  pktgen.set(FROM, "rate", percent)
  pktgen.clr()
  pktgen.start(FROM)
  pktgen.delay(STEP_MS)
  pktgen.stop(FROM)
  pktgen.delay(SETTLE_MS)
  local sent = pktgen.portStats(FROM, "port")[tonumber(FROM)].opackets
  local got = pktgen.portStats(TO, "port")[tonumber(TO)].ipackets
  printf("%d new flows a second: %d lost of %d\n", sent * 1000 / STEP_MS, sent - got, sent)
  io.write("clear the translations, then press Enter\n")
  io.read()
end
pktgen.quit()
