//! The statics of each inside host. One may have several, told apart by their route maps: with two
//! providers, an address of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::Static;
use crate::snapshot::InsideHost;

/// An inside host, with protocol and port where the static is one of a port.
type Inside = (InsideHost, Option<(u8, u16)>);

/// Statics by their inside hosts.
#[derive(Debug, Default)]
pub(super) struct InsideStatics {
    /// The one that is asked first.
    first: HashMap<Inside, Arc<Static>>,
    /// Those after it, of the few hosts that have more.
    others: HashMap<Inside, Vec<Arc<Static>>>,
}

impl InsideStatics {
    /// The statics in the order in which they are asked: those with a route map first, since one
    /// without leaves nothing to others.
    pub(super) fn new(statics: &[Arc<Static>]) -> InsideStatics {
        let mut all = InsideStatics::default();
        let (with, without) = (
            statics.iter().filter(|s| s.only.is_some()),
            statics.iter().filter(|s| s.only.is_none()),
        );
        for fixed in with.chain(without) {
            let port = fixed.port.map(|p| (p.protocol, p.inside));
            let inside = (fixed.inside_host(), port);
            match all.first.entry(inside) {
                Entry::Vacant(place) => {
                    place.insert(Arc::clone(fixed));
                }
                Entry::Occupied(_) => {
                    let others = all.others.entry(inside).or_default();
                    others.push(Arc::clone(fixed));
                }
            }
        }
        all
    }

    /// The first that applies: those of the port, then those of the whole address.
    pub(super) fn find(
        &self,
        inside: InsideHost,
        port: Option<(u8, u16)>,
        mut applies: impl FnMut(&Static) -> bool,
    ) -> Option<&Arc<Static>> {
        if self.first.is_empty() {
            return None;
        }
        let mut among = |inside: Inside| {
            let first = self.first.get(&inside)?;
            if applies(first) {
                return Some(first);
            }
            let others = self.others.get(&inside)?;
            others.iter().find(|fixed| applies(fixed))
        };
        let of_port = port.and_then(|port| among((inside, Some(port))));
        of_port.or_else(|| among((inside, None)))
    }
}
