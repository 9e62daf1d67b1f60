//! The program `coord-bridge`. See `coord_bridge::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    coord_bridge::cli::run()
}
