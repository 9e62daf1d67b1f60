//! The map as a file, for `derp.paths` of Headscale.
//!
//! Does: replaces the file as a whole, so that a reader finds the old map or the new one and
//! never a part, also over a crash; leaves it alone where it holds the map already.
//! Does not: hide the map: others may read it, since it is no secret.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Mode of the file.
const FILE_MODE: u32 = 0o644;

/// Mode of the folder, where it has to be made.
const FOLDER_MODE: u32 = 0o755;

/// Most bytes of a file that is looked at for a map of before. Ours: a map has some 60 KiB.
const MAX_LEN: u64 = 4 * 1024 * 1024;

/// Why the map is not in its file.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the map to {}: {source}; {}", path.display(), self.remedy())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl WriteError {
    /// Whether it passes as soon as somebody makes room. A file system that can only be read is
    /// not meant: it is so by somebody's configuration, and stays so.
    #[must_use]
    pub fn is_for_want_of_room(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    fn remedy(&self) -> &'static str {
        if self.is_for_want_of_room() {
            "make room"
        } else {
            "make its folder writable for this user, or name another file with map_file or \
             --map-file"
        }
    }
}

/// The file that the map is kept in, and what it lies on.
#[derive(Clone, Debug)]
pub struct MapFile {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    is_only_way: bool,
}

/// What a map's file lies on. Whatever it is asked may take for ever.
pub trait Disk: Debug + Send + Sync {
    /// [`write()`], here.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    fn write(&self, path: &Path, text: &[u8]) -> Result<bool, WriteError>;

    /// [`holds`], here.
    fn holds(&self, path: &Path, text: &[u8]) -> bool;
}

/// The disks of this host.
#[derive(Debug)]
struct HostDisk;

impl Disk for HostDisk {
    fn write(&self, path: &Path, text: &[u8]) -> Result<bool, WriteError> {
        write(path, text)
    }

    fn holds(&self, path: &Path, text: &[u8]) -> bool {
        holds(path, text)
    }
}

impl<P: Into<PathBuf>> From<P> for MapFile {
    fn from(path: P) -> Self {
        Self::on(path, Arc::new(HostDisk))
    }
}

impl MapFile {
    /// The file at `path` of this disk.
    #[must_use]
    pub fn on(path: impl Into<PathBuf>, disk: Arc<dyn Disk>) -> Self {
        Self { path: path.into(), disk, is_only_way: false }
    }

    /// The same, with a word on whether nobody gets the map by any other way.
    #[must_use]
    pub fn as_only_way(self, is_only_way: bool) -> Self {
        Self { is_only_way, ..self }
    }

    /// Makes it hold `text`: see [`write()`].
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn write(&self, text: &[u8]) -> Result<bool, WriteError> {
        self.disk.write(&self.path, text)
    }

    /// Whether it holds `text`: see [`holds`].
    #[must_use]
    pub fn holds(&self, text: &[u8]) -> bool {
        self.disk.holds(&self.path, text)
    }

    /// Whether Headscale has a map, although the one of now cannot be written: it is served, or
    /// the file has one of before. Blocks on the disk.
    #[must_use]
    pub fn leaves_a_map(&self) -> bool {
        !self.is_only_way || has_regions(&self.path)
    }
}

/// Makes the file at `path` hold `text`. Returns whether it had to be written.
///
/// Blocks on the disk. Whatever fails, the file is as it was.
///
/// # Errors
///
/// [`WriteError`], on one line that names the file.
pub fn write(path: &Path, text: &[u8]) -> Result<bool, WriteError> {
    let failed = |source| WriteError { path: path.to_owned(), source };
    if holds(path, text) {
        return Ok(false);
    }
    replace(path, text).map_err(failed)?;
    Ok(true)
}

/// Whether the file at `path` is one that others can read, with `text` in it.
#[must_use]
pub fn holds(path: &Path, text: &[u8]) -> bool {
    // Not opened unless it is a file: a pipe would block.
    let is_open_to_all =
        fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o444 == 0o444);
    is_open_to_all && read(path, text.len()).is_ok_and(|found| found == text)
}

/// Whether the file at `path` has regions in it, whichever.
fn has_regions(path: &Path) -> bool {
    #[derive(Deserialize)]
    struct Regions {
        regions: BTreeMap<u64, IgnoredAny>,
    }
    // Not opened unless it is a file: a pipe would block.
    let is_small_file = fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() <= MAX_LEN);
    let found = if is_small_file { fs::read_to_string(path).ok() } else { None };
    found
        .and_then(|text| serde_saphyr::from_str::<Regions>(&text).ok())
        .is_some_and(|map| !map.regions.is_empty())
}

/// At most one byte more than `len`.
fn read(path: &Path, len: usize) -> io::Result<Vec<u8>> {
    let mut found = Vec::with_capacity(len + 1);
    File::open(path)?.take(len as u64 + 1).read_to_end(&mut found)?;
    Ok(found)
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let (folder, name) = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if folder.as_os_str().is_empty() => (Path::new("."), name),
        (Some(folder), Some(name)) => (folder, name),
        _ => return Err(io::Error::other("not the name of a file")),
    };
    if path.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    create_folder(folder)?;
    // The name is the same every time: what a crash leaves behind, the next write takes away.
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    let temporary = folder.join(temporary);
    let written = write_new(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // Of two faults the first is the one to tell.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    // The rename is on the disk only once its folder is.
    File::open(folder)?.sync_all()
}

/// Makes `folder` and those above it, as far as they are missing, open to all whatever the umask.
fn create_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))?;
    }
    Ok(())
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    // Whatever the umask took.
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(text)?;
    file.sync_all()
}
