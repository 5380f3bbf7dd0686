//! Raw bindings to Spillway's shim over the installed libdpdk.
//!
//! Nothing here is safe and nothing here is documented twice: `shim.h` says what each name does.
//! Use `spillway-dpdk`, which is the only crate that may depend on this one.
#![allow(missing_docs, unsafe_code, unreachable_pub)]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
