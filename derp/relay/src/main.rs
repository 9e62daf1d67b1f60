//! The program `derp-relay`. See `derp_relay::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    derp_relay::cli::run()
}
