//! What the words of a command mean for the entries that it asks for.

use spillway_dataplane::command::SessionFilter;

use super::words::{Invocation, Role, Value};

/// The entries that a command means, of all VRFs: what workers compare.
pub(super) fn filter(invocation: &Invocation) -> SessionFilter {
    let mut filter = SessionFilter::default();
    for (role, value) in &invocation.arguments {
        let side = match role {
            Role::Forced => {
                filter.forced = true;
                continue;
            }
            Role::Protocol(protocol) => {
                filter.protocol = Some(*protocol);
                continue;
            }
            Role::InsideGlobal => &mut filter.inside_global,
            Role::InsideLocal => &mut filter.inside_local,
            Role::OutsideLocal => &mut filter.outside_local,
            Role::OutsideGlobal => &mut filter.outside_global,
            // These mean nothing to entries.
            _ => continue,
        };
        match (value, &mut *side) {
            (Value::Address(address), _) => *side = Some((*address, None)),
            (Value::Port(port), Some((_, wanted))) => *wanted = Some(*port),
            // 0 stands where an entry has no SPI.
            (Value::Spi(0), _) => {}
            (Value::Spi(spi), _) if *role == Role::InsideLocal => filter.spi_out = Some(*spi),
            (Value::Spi(spi), _) if *role == Role::OutsideGlobal => filter.spi_in = Some(*spi),
            _ => {}
        }
    }
    filter
}

/// Whether a word of the command has this role.
pub(super) fn has(invocation: &Invocation, role: Role) -> bool {
    invocation.arguments.iter().any(|(r, _)| *r == role)
}
