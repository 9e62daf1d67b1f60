//! The relay's own key: who it is to its clients, over every restart and every move.
//!
//! Does: reads the key file of derper or Headscale, makes one where there is none.
//! Does not: ever replace a file that it cannot read: a new key makes every client that knows
//! the old one log in again the slow way.
//!
//! Used by `door::login` and `tls::meta`. Spec: docs/protocol/derp.md, DERP-3.7.

use std::io;
use std::path::{Path, PathBuf};

use derp::key::file::{self, MAX_KEY_FILE_LEN, ParseFileError};
use derp::key::{KEY_LEN, NodePrivate, NodePublic};
use zeroize::Zeroizing;

use crate::secret_file;

/// The relay's key pair.
#[derive(Clone, Debug)]
pub struct Identity {
    private: NodePrivate,
    public: NodePublic,
}

/// Why the relay has no key. Names the file, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is there and cannot be read.
    #[error("cannot read the key file {}: {source}; make it readable for this user, or name another with --key-file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds no key.
    #[error("{} holds no key: {source}; restore it from a backup, or remove it to start with a new key", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ParseFileError,
    },
    /// There is no such file, and none can be made.
    #[error("cannot create the key file {}: {source}; make its folder writable for this user, or name another file with --key-file", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Identity {
    /// The identity with this key.
    #[must_use]
    pub fn new(private: NodePrivate) -> Self {
        let public = private.public();
        Self { private, public }
    }

    /// A new identity.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn random() -> io::Result<Self> {
        let mut random = Zeroizing::new([0; KEY_LEN]);
        getrandom::fill(random.as_mut_slice()).map_err(io::Error::other)?;
        Ok(Self::new(NodePrivate::from_random(*random)))
    }

    /// Reads the key from `path`, or makes a key and writes it there if there is no such file.
    ///
    /// The file is created whole, with mode 0600, in a folder that is created with mode 0700;
    /// if another process creates it at the same time, its key counts.
    ///
    /// # Errors
    ///
    /// [`LoadError`]: the relay must not start, rather than be somebody else.
    pub fn load_or_create(path: &Path) -> Result<Self, LoadError> {
        match Self::load(path) {
            Err(LoadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create(path)
            }
            loaded => loaded,
        }
    }

    /// Reads the key from `path`.
    ///
    /// # Errors
    ///
    /// [`LoadError::Read`] or [`LoadError::Parse`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let bytes = secret_file::read(path, MAX_KEY_FILE_LEN)
            .map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let private = file::parse(&bytes)
            .map_err(|source| LoadError::Parse { path: path.to_owned(), source })?;
        if secret_file::is_open_to_others(path) {
            tracing::warn!(path = %path.display(), "every user of this host can read the key file: chmod 600");
        }
        Ok(Self::new(private))
    }

    /// The secret half.
    #[must_use]
    pub fn private(&self) -> &NodePrivate {
        &self.private
    }

    /// The half that clients know.
    #[must_use]
    pub fn public(&self) -> NodePublic {
        self.public
    }
}

fn create(path: &Path) -> Result<Identity, LoadError> {
    let failed = |source| LoadError::Create { path: path.to_owned(), source };
    let identity = Identity::random().map_err(failed)?;
    match secret_file::create(path, file::render(identity.private()).as_bytes()) {
        Ok(()) => {
            tracing::info!(path = %path.display(), "made a new key and wrote it to the key file");
            Ok(identity)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Identity::load(path),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PRIVATE: &str =
        "privkey:0894c89a14f1ba7d86de9d12a1ba7d86de9d12a1ba7d86de9d12a1ba7d86de5d";

    /// DERP-3.7, check-H15: absent at start, there afterwards, and the same over a restart.
    #[test]
    fn a_missing_key_file_is_created_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("derp-relay/derp.key");

        let first = Identity::load_or_create(&path).unwrap();
        let second = Identity::load_or_create(&path).unwrap();

        assert_eq!(first.public(), second.public());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\n\t\"PrivateKey\": \"privkey:"), "not derper's form");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// DERP-3.7.
    #[test]
    fn the_files_of_derper_and_of_headscale_are_read() {
        let derper = format!("{{\n\t\"PrivateKey\": \"{PRIVATE}\"\n}}");
        let headscale = format!("{PRIVATE}\n");

        let keys = [derper, headscale].map(|text| {
            let (_folder, path) = file_with(&text);
            Identity::load_or_create(&path).unwrap().public()
        });

        assert_eq!(keys[0], keys[1]);
        assert_eq!(keys[0], PRIVATE.parse::<NodePrivate>().unwrap().public());
    }

    #[test]
    fn a_broken_file_is_named_and_neither_shown_nor_replaced() {
        for broken in ["", "{}", &PRIVATE[..40], &format!("{PRIVATE}00"), "junk"] {
            let (_folder, path) = file_with(broken);

            let error = Identity::load_or_create(&path).unwrap_err().to_string();

            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(error.contains("backup"), "no remedy: {error}");
            assert!(!error.contains("0894c89a"), "content: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), broken);
        }
    }

    #[test]
    fn a_folder_in_the_place_of_the_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();

        let error = Identity::load_or_create(folder.path()).unwrap_err();

        assert!(matches!(error, LoadError::Read { .. }), "{error}");
        assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
        let error = Identity::load_or_create(Path::new("/proc/derp-relay/derp.key")).unwrap_err();

        assert!(matches!(error, LoadError::Create { .. }), "{error}");
        assert!(error.to_string().contains("/proc/derp-relay/derp.key"), "{error}");
    }

    /// Still read: refusing would end a relay that runs, for a fault that has already happened.
    #[test]
    fn a_file_that_others_may_read_is_read() {
        let (_folder, path) = file_with(PRIVATE);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();

        Identity::load_or_create(&path).unwrap();
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::new(PRIVATE.parse().unwrap());

        let text = format!("{identity:?}");

        assert!(text.contains("redacted") && !text.contains("0894c89a"), "{text}");
    }

    fn file_with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("derp.key");
        fs::write(&path, text).unwrap();
        (folder, path)
    }
}
