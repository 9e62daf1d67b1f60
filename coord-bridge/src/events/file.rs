//! The outlet that writes lines.
//!
//! Does: appends one JSON object per event to a file, and opens it again when it was moved away
//! and the bridge is told so, as logrotate does it. Does not: rotate or shorten the file.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::EventBody;
use super::feed::{Channel, Outlet, blocking};
use crate::store::events::Event;

/// Mode of the file: a group may read it, such as that of a log shipper.
const FILE_MODE: u32 = 0o640;

/// Mode of its folder, where it has to be made.
const FOLDER_MODE: u32 = 0o750;

/// Pause before a disk that took nothing is tried again.
const FAULT_PAUSE: Duration = Duration::from_secs(5);

/// A file of JSON lines.
#[derive(Debug)]
pub(super) struct LinesFile {
    path: PathBuf,
    /// `None` until there is something to write, and after a fault.
    file: Option<File>,
    channel: Arc<Channel>,
    reopen: watch::Receiver<()>,
}

impl LinesFile {
    pub(super) const fn new(
        path: PathBuf,
        channel: Arc<Channel>,
        reopen: watch::Receiver<()>,
    ) -> Self {
        Self { path, file: None, channel, reopen }
    }

    async fn append(&mut self, lines: Vec<u8>) -> io::Result<()> {
        if self.reopen.has_changed().unwrap_or(false) {
            self.reopen.mark_unchanged();
            self.file = None;
        }
        let (path, open) = (self.path.clone(), self.file.take());
        let file = blocking(move || {
            let mut file = match open {
                Some(file) => file,
                None => create(&path)?,
            };
            // At once, so that lines of two writers do not mix.
            file.write_all(&lines)?;
            file.sync_data()?;
            Ok(file)
        });
        self.file = Some(file.await?);
        Ok(())
    }
}

impl Outlet for LinesFile {
    const AT_ONCE: usize = 256;

    async fn deliver(&mut self, events: &[Event]) {
        loop {
            match self.append(lines(events)).await {
                Ok(()) => {
                    self.channel.set_fault(None);
                    return;
                }
                // What was written of it is written again: at least once.
                Err(error) => {
                    tracing::warn!(file = %self.path.display(), %error, "events wait for events_file");
                    self.channel.set_fault(Some(&error));
                    tokio::time::sleep(FAULT_PAUSE).await;
                }
            }
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    }
    // A pipe would block for ever.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if is_torn(&file)? {
        // What comes next must not become part of it.
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// Whether the last line was cut, by a full disk or the end of a process.
fn is_torn(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

fn lines(events: &[Event]) -> Vec<u8> {
    let mut lines = Vec::new();
    for event in events {
        // Texts always serialize, without line breaks in them.
        lines.extend(serde_json::to_vec(&EventBody::from(event.clone())).unwrap_or_default());
        lines.push(b'\n');
    }
    lines
}
