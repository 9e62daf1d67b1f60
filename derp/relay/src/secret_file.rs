//! Files that hold a secret: read into memory that is wiped, written whole or not at all.
//!
//! Does: creates a file with mode 0600 in a folder with mode 0700, so that a crash or a second
//! process leaves either no file or a whole one. Does not: know what is in it.
//!
//! Used by `identity` and `tls::certificate`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use zeroize::Zeroizing;

/// Mode bits that let others than the owner and the group read or write.
const OTHERS: u32 = 0o007;

/// Reads a file of at most `max` bytes.
///
/// # Errors
///
/// What the system said; [`io::ErrorKind::FileTooLarge`] for a longer file.
pub(crate) fn read(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // The full capacity at once: a growing buffer would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Creates `path` with `bytes` in it, and the folder it lies in.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`] if there is such a file, which stays as it is; otherwise
/// what the system said.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    with_draft(path, bytes, |draft| {
        match renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
            // A file system that cannot do this in one step can do it in two.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::hard_link(draft, path)?;
                fs::remove_file(draft)
            }
            renamed => Ok(renamed?),
        }
    })
}

/// Replaces `path`, or creates it, with `bytes` in it.
///
/// # Errors
///
/// What the system said; the old file then stays as it is.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    with_draft(path, bytes, |draft| fs::rename(draft, path))
}

/// Whether others than the owner and the group may read or write the file.
pub(crate) fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & OTHERS != 0)
}

/// Writes a whole file beside `path`, lets `publish` give it its name, and makes that last.
fn with_draft(
    path: &Path,
    bytes: &[u8],
    publish: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = draft_beside(path)?;
    let published = write(&draft, bytes).and_then(|()| publish(&draft));
    if published.is_err() {
        // Whatever went wrong is reported; a draft that stays is 0600 and harmless.
        let _removed = fs::remove_file(&draft);
    }
    published?;
    File::open(folder)?.sync_all()
}

fn write(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A name in the folder of `path` that no other process chooses.
fn draft_beside(path: &Path) -> io::Result<PathBuf> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidFilename)?);
    name.push(format!(".{random:016x}"));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_for_its_owner_only_and_so_is_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/relay/secret");

        create(&path, b"secret").unwrap();

        assert_eq!(**read(&path, 6).unwrap(), *b"secret");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert!(!is_open_to_others(&path));
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten_by_creating_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, b"first").unwrap();

        let error = create(&path, b"second").unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(**read(&path, 10).unwrap(), *b"first");
        replace(&path, b"third").unwrap();
        assert_eq!(**read(&path, 10).unwrap(), *b"third");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft stays");
    }

    #[test]
    fn of_many_who_create_a_file_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");

        let won = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    scope.spawn({
                        let path = &path;
                        move || create(path, &[n; 100])
                    })
                })
                .collect();
            threads
                .into_iter()
                .filter(|_| true)
                .map(|thread| thread.join().unwrap())
                .filter(Result::is_ok)
                .count()
        });

        assert_eq!(won, 1);
        let bytes = read(&path, 100).unwrap();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    }

    #[test]
    fn a_file_too_long_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, b"secret").unwrap();

        assert_eq!(read(&path, 5).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_that_others_may_read_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, b"secret").unwrap();

        for (mode, open) in [(0o640, false), (0o644, true), (0o602, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open_to_others(&path), open, "{mode:o}");
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }
}
