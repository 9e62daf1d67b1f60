//! The driver is in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::tls_record(data));
