//! What a process costs: CPU time and memory, as Linux accounts them.
//!
//! Does: reads `/proc/PID`. Does not: attribute the kernel's own work: on loopback the side that
//! sends pays for delivering to the side that receives. See docs/benchmarking.md.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::failure::Failure;

/// Fields of `/proc/PID/stat` behind the program's name up to user time. Source: proc(5).
const FIELDS_BEFORE_TIMES: usize = 11;

/// A process that is measured.
#[derive(Clone, Debug)]
pub struct Meter {
    pid: u32,
    folder: PathBuf,
}

/// What a process has used up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time in user code and in the kernel, in seconds. Linux counts it exactly and shows it
    /// in hundredths.
    pub cpu_seconds: f64,
    /// Memory that it holds now, in bytes.
    pub rss_bytes: u64,
}

impl Meter {
    /// Measures the process with this id.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid, folder: PathBuf::from(format!("/proc/{pid}")) }
    }

    /// Measures this process.
    #[must_use]
    pub fn own() -> Self {
        Self::new(std::process::id())
    }

    /// What it has used up to now.
    ///
    /// # Errors
    ///
    /// [`Failure::Meter`]: it is gone, or it is somebody else's.
    pub fn read(&self) -> Result<Usage, Failure> {
        self.try_read().map_err(|error| Failure::Meter { pid: self.pid, error })
    }

    fn try_read(&self) -> io::Result<Usage> {
        let stat = fs::read_to_string(self.folder.join("stat"))?;
        let ticks = cpu_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
        // `smaps_rollup` is exact to the page and walks all of them, with the server waiting;
        // this is a counter that is at most some hundred KiB behind.
        let statm = fs::read_to_string(self.folder.join("statm"))?;
        Ok(Usage {
            cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            rss_bytes: statm_rss(&statm).ok_or(io::ErrorKind::InvalidData)?,
        })
    }

    /// As [`Meter::read`], with the memory exact to the page. Stops the process for as long as
    /// it takes to look at all of its pages; another user's process is read the other way.
    ///
    /// # Errors
    ///
    /// [`Failure::Meter`].
    pub fn read_exactly(&self) -> Result<Usage, Failure> {
        let usage = self.read()?;
        let rollup = fs::read_to_string(self.folder.join("smaps_rollup")).unwrap_or_default();
        Ok(Usage { rss_bytes: rollup_rss(&rollup).unwrap_or(usage.rss_bytes), ..usage })
    }
}

/// User and system time in `/proc/PID/stat`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The program's name is in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(FIELDS_BEFORE_TIMES);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn rollup_rss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

fn statm_rss(text: &str) -> Option<u64> {
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a"), None);
    }

    #[test]
    fn memory_is_read_from_either_file() {
        assert_eq!(
            rollup_rss("00-ff ---p [rollup]\nRss:      2048 kB\nPss: 1 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(rollup_rss("Pss: 1 kB\n"), None);
        let page = rustix::param::page_size() as u64;
        assert_eq!(statm_rss("100 25 3 4 0 6 0\n"), Some(25 * page));
    }

    #[test]
    fn this_process_uses_something_and_a_dead_one_is_a_failure() {
        let usage = Meter::own().read().unwrap();
        assert!(usage.rss_bytes > 0);
        // Above the largest that Linux gives out.
        let error = Meter::new(u32::MAX).read().unwrap_err();
        assert_eq!(error.code(), 1);
    }
}
