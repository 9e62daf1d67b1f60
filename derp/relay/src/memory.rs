//! How much memory this machine has for us.
//!
//! Does: reads what the kernel says of the machine and of the control group that the process is
//! in, and takes the smaller. Does not: measure what is free; that changes.

use std::path::Path;

/// Bytes of memory that the process may use, as far as the system says; `None` if it does not.
pub(crate) fn available() -> Option<usize> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let own = std::fs::read_to_string("/proc/self/cgroup").ok();
    let group = own.and_then(|text| own_group(&text).map(str::to_owned));
    let group = group.and_then(|path| smallest_limit(&path, &limit_of));
    [machine, group].into_iter().flatten().min()
}

/// The machine's memory, from the text of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// The path of the process' group in the unified hierarchy, from the text of
/// `/proc/self/cgroup`.
fn own_group(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The smallest limit of a group and those around it.
fn smallest_limit(group: &str, limit: &impl Fn(&Path) -> Option<usize>) -> Option<usize> {
    Path::new(group).ancestors().filter_map(limit).min()
}

fn limit_of(group: &Path) -> Option<usize> {
    let relative = group.strip_prefix("/").unwrap_or(group);
    let file = Path::new("/sys/fs/cgroup").join(relative).join("memory.max");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_has() {
        let text = "MemTotal:        1009532 kB\nMemFree:          101 kB\n";
        assert_eq!(total(text), Some(1_009_532 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal: many kB\n"), None);
    }

    #[test]
    fn the_tightest_group_around_us_counts() {
        let text = "1:name=systemd:/x\n0::/system.slice/derp-relay.service\n";
        let group = own_group(text).map(str::to_owned);
        assert_eq!(group.as_deref(), Some("/system.slice/derp-relay.service"));
        let limits = |path: &Path| match path.to_str() {
            Some("/system.slice/derp-relay.service") => Some(900),
            Some("/system.slice") => Some(700),
            _ => None,
        };
        assert_eq!(smallest_limit("/system.slice/derp-relay.service", &limits), Some(700));
        assert_eq!(smallest_limit("/", &limits), None);
    }

    #[test]
    fn this_machine_has_some() {
        assert!(available().is_none_or(|bytes| bytes > 1024 * 1024));
    }
}
