//! The program `derp-load`. See `benches::load`.

use std::process::ExitCode;

fn main() -> ExitCode {
    benches::load::cli::run()
}
