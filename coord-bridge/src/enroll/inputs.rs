//! The two files that tell a machine where it may register, and with what.
//!
//! Does: reads one line of each, bounded; tells a file that is not there, which is no fault, from
//! one that is of no use.
//! Does not: show the token, or a URL with a password in it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use hyper::Uri;

use super::EnrollError;
use crate::headscale::Secret;

/// Most bytes of either file. A token has 65, a URL may have some hundred.
pub const MAX_INPUT_LEN: usize = 4 * 1024;

/// What a file holds.
#[derive(Debug)]
pub enum Input {
    /// There is no such file.
    Absent,
    /// Nothing but white space.
    Empty,
    /// One line, trimmed.
    Text(Secret),
}

/// Reads a file. `what` is what it should hold, for the words of a fault.
///
/// # Errors
///
/// [`EnrollError::Input`] if it cannot be read or holds anything but one line of ASCII.
pub fn read(what: &'static str, path: &Path) -> Result<Input, EnrollError> {
    let fault =
        |words: String| Err(EnrollError::Input { what, place: path.display().to_string(), words });
    let mut bytes = Vec::with_capacity(MAX_INPUT_LEN + 1);
    let read = File::open(path)
        .and_then(|file| file.take(MAX_INPUT_LEN as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Input::Absent),
        Err(error) => return fault(format!("cannot be read: {error}")),
    }
    let text = bytes.trim_ascii();
    if text.is_empty() {
        return Ok(Input::Empty);
    }
    if bytes.len() > MAX_INPUT_LEN || !text.iter().all(u8::is_ascii_graphic) {
        return fault(format!(
            "more than {MAX_INPUT_LEN} bytes, or other things than one on one line"
        ));
    }
    Ok(Input::Text(Secret::new(String::from_utf8_lossy(text).into_owned())))
}

/// Where to register: scheme, host, and maybe a path that goes before `/register`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionerUrl(Uri);

impl ProvisionerUrl {
    /// Reads a URL. What is wrong with it is said without showing it.
    ///
    /// # Errors
    ///
    /// [`EnrollError::Url`].
    pub fn parse(text: &str) -> Result<Self, EnrollError> {
        let wrong = "is no http:// or https:// URL with a host";
        let url: Uri = text.parse().map_err(|_| EnrollError::Url(wrong))?;
        let authority = url.authority().ok_or(EnrollError::Url(wrong))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
            return Err(EnrollError::Url(wrong));
        }
        if authority.as_str().contains('@') || url.query().is_some() || text.contains('#') {
            return Err(EnrollError::Url("has a user, password, query or fragment; leave it out"));
        }
        Ok(Self(url))
    }

    pub(super) const fn uri(&self) -> &Uri {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_is_refused_and_not_shown() {
        for text in [
            "",
            "bridge",
            "ftp://b",
            "http://",
            "/x",
            "http://u:geheim@b",
            "http://b?geheim",
            "http://b/#geheim",
        ] {
            let error = ProvisionerUrl::parse(text).unwrap_err();
            assert!(error.is_usage() && !error.to_string().contains("geheim"), "{text}: {error}");
        }
        assert!(ProvisionerUrl::parse("https://bridge.example.org/below/").is_ok());
    }

    #[test]
    fn a_file_holds_one_line_or_is_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("enroll-token");
        assert!(matches!(read("token", &path), Ok(Input::Absent)));
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(read("token", &path), Ok(Input::Empty)));
        std::fs::write(&path, " geheim \r\n").unwrap();
        let Ok(Input::Text(token)) = read("token", &path) else { panic!("no text") };
        assert_eq!(token.reveal(), "geheim");
        for text in
            ["geheim geheim", "geheim\ngeheim", "gehe\u{e9}m", &"x".repeat(MAX_INPUT_LEN + 1)]
        {
            std::fs::write(&path, text).unwrap();
            let error = read("token", &path).unwrap_err().to_string();
            assert!(
                error.contains("enroll-token: more than") && !error.contains("geheim"),
                "{error}"
            );
        }
        let error = read("token", folder.path()).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
