//! How far an outlet is: the id of the last event that it has handed over, in a small file.
//!
//! Does: replaces the file as a whole, so that a crash leaves the old position or the new one.
//! Does not: understand ids.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Mode of the file.
const FILE_MODE: u32 = 0o600;

/// Mode of its folder, where it has to be made.
const FOLDER_MODE: u32 = 0o700;

/// Most bytes in the file; an id has 26.
const MAX_LEN: u64 = 64;

/// The file of a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionFile(PathBuf);

impl PositionFile {
    /// The file of the outlet of this name, in `folder`.
    #[must_use]
    pub fn new(folder: &Path, outlet: &str) -> Self {
        Self(folder.join(format!("events-{outlet}.position")))
    }

    /// The position; `None` where there is none yet. Blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or holds something else.
    pub fn read(&self) -> io::Result<Option<String>> {
        let file = match File::open(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut text = String::new();
        file.take(MAX_LEN).read_to_string(&mut text)?;
        let id = text.trim_end();
        if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(io::Error::other("it holds no position"));
        }
        Ok(Some(id.to_owned()))
    }

    /// Keeps `id`. Blocks.
    ///
    /// # Errors
    ///
    /// If the disk does not take it; the old position then stays.
    pub fn write(&self, id: &str) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        // One outlet, one writer: what a crash leaves behind, the next write takes away.
        let draft = self.0.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&draft)?;
        file.write_all(format!("{id}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &self.0)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_kept_and_rubbish_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = PositionFile::new(&folder.path().join("state"), "one");
        assert_eq!(file.read().unwrap(), None);
        for id in ["", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"] {
            file.write(id).unwrap();
            assert_eq!(file.read().unwrap().as_deref(), Some(id));
        }
        fs::write(&file.0, "../../x").unwrap();
        assert!(file.read().is_err());
    }
}
