//! Where a secret lies: in a file, or among the credentials that systemd hands over.
//!
//! Does: reads `PATH` and `credential:NAME`, and says which file that is.
//! Does not: open the file, so that settings can be checked without the secret.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// What a name of a credential is told by.
const PREFIX: &str = "credential:";

/// Variable in which systemd names the folder of a unit's credentials.
pub const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// The file of a secret, as settings name it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SecretFile {
    /// A file.
    Path(PathBuf),
    /// `credential:NAME`: the file of this name in the folder that
    /// [`CREDENTIALS_VARIABLE`] names.
    Credential(String),
}

/// Why a text names no file of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSecretFileError {
    /// Nothing at all.
    #[error("empty; write a path, or credential:NAME")]
    Empty,
    /// No name of a file in one folder.
    #[error("`credential:` takes the name of one file, without slashes")]
    Name,
}

/// A credential is wanted, and nobody hands any over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "credential:{name}: {CREDENTIALS_VARIABLE} is not set; run as a systemd unit with \
     LoadCredential={name}:PATH, or give a path"
)]
pub struct NoCredentials {
    /// The credential that is wanted.
    pub name: String,
}

impl SecretFile {
    /// The file, whether it is there or not.
    ///
    /// # Errors
    ///
    /// [`NoCredentials`] for a credential outside a unit that gets some.
    pub fn locate(&self) -> Result<PathBuf, NoCredentials> {
        self.locate_in(std::env::var_os(CREDENTIALS_VARIABLE))
    }

    fn locate_in(&self, credentials: Option<OsString>) -> Result<PathBuf, NoCredentials> {
        match self {
            Self::Path(path) => Ok(path.clone()),
            Self::Credential(name) => match credentials {
                Some(folder) if !folder.is_empty() => Ok(PathBuf::from(folder).join(name)),
                Some(_) | None => Err(NoCredentials { name: name.clone() }),
            },
        }
    }
}

impl FromStr for SecretFile {
    type Err = ParseSecretFileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(PREFIX) {
            None if text.is_empty() => Err(ParseSecretFileError::Empty),
            None => Ok(Self::Path(text.into())),
            Some("" | "." | "..") => Err(ParseSecretFileError::Name),
            Some(name) if name.contains(['/', '\0']) => Err(ParseSecretFileError::Name),
            Some(name) => Ok(Self::Credential(name.to_owned())),
        }
    }
}

impl TryFrom<String> for SecretFile {
    type Error = ParseSecretFileError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Credential(name) => write!(f, "{PREFIX}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_or_a_credential_is_named() {
        let path: SecretFile = "/run/secrets/key".parse().unwrap();
        assert_eq!(path.locate_in(None), Ok("/run/secrets/key".into()));

        let credential: SecretFile = "credential:headscale-api-key".parse().unwrap();
        assert_eq!(
            credential.locate_in(Some("/run/credentials/unit".into())),
            Ok("/run/credentials/unit/headscale-api-key".into())
        );
        for folder in [None, Some(OsString::new())] {
            let error = credential.locate_in(folder).unwrap_err().to_string();
            assert!(error.contains("LoadCredential=headscale-api-key:"), "{error}");
        }
        assert_eq!(credential.to_string(), "credential:headscale-api-key");
    }

    #[test]
    fn a_credential_is_one_file_of_one_folder() {
        assert_eq!("".parse::<SecretFile>(), Err(ParseSecretFileError::Empty));
        for name in ["", ".", "..", "a/b", "/etc/shadow", "a\0"] {
            let text = format!("credential:{name}");
            assert_eq!(text.parse::<SecretFile>(), Err(ParseSecretFileError::Name), "{name:?}");
        }
    }
}
