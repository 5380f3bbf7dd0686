//! Flow rules on a device that takes none. Those of one that does: `tests/metal`.
mod common;

use spillway_dpdk::{FlowMatch, FlowTraffic, FlowWay, Port, PortConfig};
use std::net::Ipv4Addr;

#[test]
fn a_device_without_flow_rules_says_so() {
    let eal = common::eal();
    let pool = common::pool(&eal, 4095);
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 2,
        ..PortConfig::new(pool)
    };
    let port = Port::open(&eal, "net_null0", &config).unwrap_or_else(|error| panic!("{error}"));
    for traffic in [FlowTraffic::Esp, FlowTraffic::Udp(500)] {
        let packets = FlowMatch {
            host: Ipv4Addr::new(192, 0, 2, 1),
            way: FlowWay::From,
            traffic,
        };
        let refusals = [
            port.would_bring(&packets, 1).err(),
            port.bring(&packets, 1).err(),
        ];
        for refusal in refusals {
            let said = refusal.expect("it has none").to_string();
            assert_eq!(
                said,
                "net_null0 refused to take a flow rule: Function not implemented"
            );
        }
    }
    // Nothing keeps the port open.
    assert!(port.close().is_ok());
}
