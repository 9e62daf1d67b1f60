//! The TLS record layers, through the code that a shard runs.

use derp_relay::tls::record::fuzzing::tls_record as run;

/// Whatever a client says and a network does to it, each side reads what the other one wrote,
/// or the connection ends with a reason that the other side is told.
///
/// # Panics
///
/// If that does not hold.
pub fn tls_record(data: &[u8]) {
    run(data);
}
