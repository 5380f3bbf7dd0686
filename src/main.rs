//! Spillway: one binary, daemon and client.
fn main() {}
