//! Where answers to a new entry will come in, where it is known how ports spread over workers.

use super::Gateway;
use super::place::answer;
use crate::nat::GlobalAddress;
use crate::packet::Packet;
use crate::rss::{Aim, Steering};
use crate::session::Key;
use crate::snapshot::PortId;
use crate::stats::Counter;

impl<P: Packet> Gateway<P> {
    /// What leads the answers to a packet that leaves by `exit` from `global`, if somebody knows.
    pub(super) fn aim<'a>(
        &self,
        steering: &'a Steering,
        exit: Option<PortId>,
        protocol: u8,
        key: Key,
        global: &GlobalAddress,
    ) -> Option<Aim<'a>> {
        let answer = answer(global, protocol, key, 0);
        steering.aim(exit?, self.options.me, protocol, answer)
    }

    /// Counts whether the port that was chosen brings answers here.
    pub(super) fn count_aim(&self, aim: Aim<'_>, port: u16) {
        self.stats.count(if aim.hits(port) {
            Counter::AnswersSteered
        } else {
            Counter::AnswersNotSteered
        });
    }
}
