//! The driver is in the library.
#![cfg_attr(fuzzing, no_main)]
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::relay_event(data));
#[cfg(not(fuzzing))]
fn main() {}
