//! The files of the enrollment token and of the administrator's token.
//!
//! Does: makes a token where there is none, for its owner only; reads the file at every request,
//! so that overwriting it ends the old token at once.
//! Does not: keep the token; what stays in memory is its hash.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::headscale::Secret;

/// Random bytes in a token; twice as many hex digits.
const TOKEN_LEN: usize = 32;

/// Fewest characters of a token that somebody wrote by hand.
pub const MIN_TOKEN_CHARS: usize = 16;

/// Most bytes in the file.
const MAX_FILE_LEN: u64 = 4_096;

/// Mode of the file.
const FILE_MODE: u32 = 0o600;

/// Mode of its folder, where it has to be made.
const FOLDER_MODE: u32 = 0o700;

/// SHA-256 of a token.
#[derive(Clone, Copy, Debug)]
pub struct TokenHash([u8; 32]);

/// Why there is no token in a file.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The system.
    #[error("the token file {} cannot be used: {source}; it must belong to the user of the bridge", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody could tell such a token from a guess.
    #[error("the token in {} has fewer than {MIN_TOKEN_CHARS} characters; `coord-bridge token rotate` makes a good one", path.display())]
    Short {
        /// The file.
        path: PathBuf,
    },
}

impl TokenHash {
    /// The hash of a token.
    #[must_use]
    pub fn of(token: &Secret) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.reveal().as_bytes()).as_ref());
        Self(hash)
    }

    /// As the store has it: 64 hex digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// Whether they are the same, in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Whether that is this hash in hex, in constant time.
    #[must_use]
    pub fn is_hex(&self, other: &str) -> bool {
        self.to_hex().as_bytes().ct_eq(other.as_bytes()).into()
    }
}

/// A new token: 64 hex digits.
///
/// # Errors
///
/// If the system gives no random numbers.
pub fn new_token() -> io::Result<Secret> {
    let mut bytes = [0; TOKEN_LEN];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(Secret::new(hex(&bytes)))
}

/// The token in the file, without blanks around it; `None` where there is no file or it is empty.
///
/// # Errors
///
/// [`TokenFileError`].
pub fn read(path: &Path) -> Result<Option<Secret>, TokenFileError> {
    let failed = |source| TokenFileError::File { path: path.to_owned(), source };
    // A pipe would block for ever.
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let flags = i32::try_from(flags).unwrap_or(0);
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let mut text = String::new();
    file.take(MAX_FILE_LEN).read_to_string(&mut text).map_err(failed)?;
    match text.trim() {
        "" => Ok(None),
        token if token.chars().count() < MIN_TOKEN_CHARS => {
            Err(TokenFileError::Short { path: path.to_owned() })
        }
        token => Ok(Some(Secret::new(token.to_owned()))),
    }
}

/// Makes the file with a new token, unless there is one. Says whether it did.
///
/// # Errors
///
/// [`TokenFileError::File`].
pub fn ensure(path: &Path) -> Result<bool, TokenFileError> {
    let failed = |source| TokenFileError::File { path: path.to_owned(), source };
    if path.try_exists().map_err(failed)? {
        return Ok(false);
    }
    let token = new_token().map_err(failed)?;
    // A link, and not a rename: whoever was faster has made the token that holds.
    match write(path, &token, |draft| fs::hard_link(draft, path)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Puts `token` in place of what is in the file.
///
/// # Errors
///
/// [`TokenFileError::File`]; the old token then stays.
pub fn replace(path: &Path, token: &Secret) -> Result<(), TokenFileError> {
    write(path, token, |draft| fs::rename(draft, path))
        .map_err(|source| TokenFileError::File { path: path.to_owned(), source })
}

/// Whether others than its owner may read the file.
#[must_use]
pub fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
}

fn write(
    path: &Path,
    token: &Secret,
    publish: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidFilename)?);
    name.push(format!(".{}", hex(&random)));
    let draft = path.with_file_name(name);
    let written = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&draft)?;
        file.write_all(token.reveal().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        publish(&draft)
    };
    let written = written();
    // After a rename it is gone already.
    drop(fs::remove_file(&draft));
    written?;
    File::open(folder)?.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    nibbles.filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect()
}
