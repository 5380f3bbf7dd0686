//! The ESP and IKE engine by itself.

mod attack;
mod common;
mod ike;
mod many;
mod orders;
mod random;
mod rules;
mod spi_match;
mod vrf;
mod vrf_model;
