-- Pktgen-DPDK: ESP from a capture, whose clients have been paired before: start the tunnels first.
-- pktgen -l 0-4 -n 4 -- -P -m "[1:2].0,[3:4].1" -s 0:esp.pcap -f perf/pktgen/esp.lua
package.path = package.path .. ";?.lua;test/?.lua;app/?.lua;"
require "Pktgen"

pktgen.pcap("0", "on")
for _, percent in ipairs({10, 25, 50, 75, 100}) do
  pktgen.set("0", "rate", percent)
  pktgen.clr()
  pktgen.start("0")
  pktgen.delay(10 * 1000)
  pktgen.stop("0")
  pktgen.delay(2000)
  local sent = pktgen.portStats("0", "port")[0].opackets
  local got = pktgen.portStats("1", "port")[1].ipackets
  printf("%d %%: sent %d, received %d\n", percent, sent, got)
end
pktgen.quit()
