-- Pktgen-DPDK: the highest rate without loss, by halving (RFC 2544 section 26.1).
-- Load a .pkt file first; then: pktgen ... -f perf/pktgen/range-64k.pkt -f perf/pktgen/rfc2544.lua
package.path = package.path .. ";?.lua;test/?.lua;app/?.lua;"
require "Pktgen"

local FROM, TO = "0", "1"
local TRIAL_MS = 60 * 1000 -- as RFC 2544 section 24 wants it
local SETTLE_MS = 2000
local STEP_PERCENT = 0.1

local function packets(port, field)
  return pktgen.portStats(port, "port")[tonumber(port)][field]
end

local function trial(percent)
  pktgen.set(FROM, "rate", percent)
  pktgen.clr()
  pktgen.start(FROM)
  pktgen.delay(TRIAL_MS)
  pktgen.stop(FROM)
  pktgen.delay(SETTLE_MS)
  local sent, got = packets(FROM, "opackets"), packets(TO, "ipackets")
  printf("rate %.2f %%: sent %d, received %d, lost %d\n", percent, sent, got, sent - got)
  return sent > 0 and got >= sent
end

-- Entries exist before anything counts.
pktgen.set(FROM, "rate", 1)
pktgen.start(FROM)
pktgen.delay(10 * 1000)
pktgen.stop(FROM)
pktgen.delay(SETTLE_MS)

local good, bad = 0, 100
if trial(100) then
  good = 100
else
  while bad - good > STEP_PERCENT do
    local middle = (good + bad) / 2
    if trial(middle) then good = middle else bad = middle end
  end
end
printf("without loss: %.2f %% of line rate\n", good)
pktgen.quit()
