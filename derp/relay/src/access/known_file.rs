//! The nodes that may enter while nobody can be asked, over a restart.
//!
//! Does: reads and writes a file of public node keys, as they are, with tailnet and time: one
//! `nodekey:… SECONDS TAILNET` a line. Whole or not at all, mode 0600, bounded.
//! Does not: hold a secret or an address, or stop a start: who is not in it is asked about.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use derp::key::NodePublic;

use super::ledger::{Known, MAX_KNOWN};
use super::moment::Moment;
use crate::config::MAX_TAILNET_LEN;
use crate::secret_file;

/// Longest line: key, seconds, name, and what is between them, in bytes.
const MAX_LINE_LEN: usize = 72 + 1 + 20 + 1 + MAX_TAILNET_LEN + 1;

/// Most bytes that are read: 16 MiB.
const MAX_FILE_LEN: usize = MAX_KNOWN * MAX_LINE_LEN + HEAD.len();

const HEAD: &str = "# Nodes that may enter while no verifier answers: key, last yes, tailnet.\n";

/// One line: who, by whose word, and when that was last given.
pub(super) type Entry = (NodePublic, Arc<str>, Moment);

#[derive(Debug)]
pub(super) struct KnownFile {
    path: PathBuf,
}

impl KnownFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What was written last, and how many lines of it make no sense. Nothing where there is no
    /// file.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read, or is too long.
    pub(super) fn read(&self) -> io::Result<(Vec<Entry>, usize)> {
        let bytes = match secret_file::read(&self.path, MAX_FILE_LEN) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
            read => read?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (mut entries, mut faults) = (Vec::new(), 0);
        for line in lines {
            match parse(line) {
                Some(entry) => entries.push(entry),
                None => faults += 1,
            }
        }
        Ok((entries, faults))
    }

    /// Replaces the file. Blocks until it is on the disk.
    ///
    /// # Errors
    ///
    /// What the system said; the old file stays.
    pub(super) fn write(&self, entries: &[(NodePublic, Known)]) -> io::Result<()> {
        let mut text = String::from(HEAD);
        for (key, Known { tailnet, allowed_at, .. }) in entries {
            let seconds = allowed_at.0.as_secs();
            writeln!(text, "{key} {seconds} {tailnet}").map_err(io::Error::other)?;
        }
        secret_file::replace(&self.path, text.as_bytes())
    }
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let key = words.next()?.parse().ok()?;
    let seconds = words.next()?.parse().ok()?;
    let tailnet = words.next()?;
    let whole = words.next().is_none() && (1..=MAX_TAILNET_LEN).contains(&tailnet.len());
    whole.then(|| (key, tailnet.into(), Moment(Duration::from_secs(seconds))))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::access::ledger::Ledger;
    use crate::access::verifiers::Verdict;

    /// DERP-8.6: what is written is read, for the owner only.
    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = KnownFile::new(folder.path().join("known-nodes"));
        assert_eq!(file.read().unwrap(), (Vec::new(), 0));
        let at = Moment(Duration::from_secs(1_700_000_000));
        let mut ledger = Ledger::new(Duration::from_secs(60));
        for number in [1, 2] {
            let verdict = Verdict::Allow(format!("net-{number}").into());
            ledger.note(&key(number), &verdict, None, at);
        }

        file.write(&ledger.entries(at)).unwrap();
        file.write(&ledger.entries(at)).unwrap();

        let expected = [1, 2].map(|number| (key(number), format!("net-{number}").into(), at));
        assert_eq!(file.read().unwrap(), (expected.to_vec(), 0));
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Who is out of the grace time is not written.
        file.write(&ledger.entries(at.after(Duration::from_secs(60)))).unwrap();
        assert_eq!(file.read().unwrap(), (Vec::new(), 0));
    }

    /// What is broken is passed over; what is whole counts.
    #[test]
    fn broken_lines_are_counted_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = KnownFile::new(folder.path().join("known-nodes"));
        let good = format!("{} 1700000000 home", key(1));
        let long = format!("{} 1 {}", key(1), "x".repeat(MAX_TAILNET_LEN + 1));
        for broken in [
            &good[..60],
            &good[5..],
            &format!("{good} more"),
            &format!("{} -1 home", key(1)),
            &format!("{} 99999999999999999999999 home", key(1)),
            &format!("{} 1 ", key(1)),
            &format!("{} 1", key(1)),
            "\u{fffd}\u{0}",
            &long,
        ] {
            fs::write(file.path(), format!("# comment\n\n{broken}\n{good}\n")).unwrap();
            let (entries, faults) = file.read().unwrap();
            assert_eq!((entries.len(), faults), (1, 1), "{broken:?}");
        }
        fs::write(file.path(), b"\xff\xfe\n").unwrap();
        assert_eq!(file.read().unwrap(), (Vec::new(), 1));
        fs::write(file.path(), vec![b'#'; MAX_FILE_LEN + 1]).unwrap();
        assert_eq!(file.read().unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    /// The longest line there can be fits as often as there are nodes.
    #[test]
    fn a_full_file_is_not_too_long() {
        let name: Arc<str> = "x".repeat(MAX_TAILNET_LEN).into();
        let line = format!("{} {} {name}\n", key(1), u64::MAX);
        assert_eq!(line.len(), MAX_LINE_LEN);
    }

    fn key(number: u8) -> NodePublic {
        NodePublic::from_bytes([number; 32])
    }
}
