//! What workers note for the log: a sentence each, in the words of routers where they have one.

use spillway_dataplane::journal::Notice;
use spillway_dataplane::stats::DropReason;
use tracing::warn;

use super::appliance::Appliance;

/// Logs what the workers have noted since the last call.
pub fn log_notices(appliance: &Appliance) {
    for worker in appliance.workers() {
        while let Some(notice) = worker.stats.journal.take_notice() {
            warn!("{}", sentence(appliance, &notice));
        }
    }
}

fn sentence(appliance: &Appliance, notice: &Notice) -> String {
    match notice {
        Notice::AuthenticationHeader {
            source,
            destination,
        } => format!(
            "AH from {source} to {destination} dropped: AH protects the addresses that NAT changes and cannot pass; \
             use ESP (counted as ah_not_translatable)"
        ),
        Notice::SpiCollision { peer, global, spi } => format!(
            "two clients of {peer} behind {global} expect SPI {spi:X}: the first keeps it, packets of the second are \
             dropped (counted as esp_spi_collision)"
        ),
        Notice::AllocationFailed {
            source,
            reason,
            rule,
        } => {
            let rule = appliance.parts.description.rule(*rule);
            let of = match (reason, rule.and_then(|rule| rule.pool)) {
                (DropReason::PoolExhausted | DropReason::PortsExhausted, Some(pool)) => {
                    format!("pool {}", pool.name)
                }
                _ => "the interface's ports".to_owned(),
            };
            format!(
                "%IPNAT-4-ADDR_ALLOC_FAILURE: Address allocation failed for {source}, {of} might be exhausted"
            )
        }
    }
}
