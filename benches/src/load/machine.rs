//! What the figures were measured on.

use std::fs;
use std::thread;

use serde::{Deserialize, Serialize};

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: cpu_name(&cpu_info).unwrap_or("unknown").to_owned(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: release.trim().to_owned(),
        }
    }
}

fn cpu_name(info: &str) -> Option<&str> {
    info.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        // arm64 gives numbers only.
        matches!(name.trim(), "model name" | "Model" | "CPU implementer").then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_on_either_architecture() {
        let x86 = "processor\t: 0\nvendor_id\t: X\nmodel name\t: Some CPU @ 2.00GHz\n";
        assert_eq!(cpu_name(x86), Some("Some CPU @ 2.00GHz"));
        assert_eq!(cpu_name("processor\t: 0\nCPU implementer\t: 0x41\n"), Some("0x41"));
        assert!(Machine::here().cores > 0);
    }
}
