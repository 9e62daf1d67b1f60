//! A copy of a store that is in use.
//!
//! Does: writes one state of the store into a new file for its owner only, whole or not at all.
//! Does not: overwrite a file, or copy a server: that has tools of its own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Store, StoreError};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file is there, or cannot be written.
    #[error("cannot write the backup to {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies the store to `path`, which must not exist yet. For commands; blocks.
///
/// # Errors
///
/// [`BackupError`]; no file is left then.
pub fn write(store: &Store, path: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::File { path: path.to_owned(), source };
    // With the mode that it keeps, before anything is in it.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let target = path.to_owned();
    let written = store
        .read_now(move |session| session.copy_to(&target))
        .map_err(BackupError::from)
        .and_then(|()| File::open(path).and_then(|file| file.sync_all()).map_err(failed));
    if written.is_err() {
        // Of two faults the first is the one to tell.
        drop(fs::remove_file(path));
    }
    written
}
