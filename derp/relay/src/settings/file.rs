//! A TOML file of settings, read strictly.
//!
//! Does: names the file, the line and the key of what is wrong, and the key that was probably
//! meant. Does not: check what values mean together; that is each program's `config`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Most bytes in a file of settings. A long allow-list belongs in a file of its own.
const MAX_FILE_LEN: u64 = 1024 * 1024;

/// Why a file of settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; correct it, or name another file with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML, or a value is not what its key takes.
    #[error("{}:{line}: {key}{message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// Key on that line, if there is one, with a colon and a blank.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// A key that no setting has.
    #[error("{}:{line}: unknown key `{key}`{hint}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// The key, with the table it is in.
        key: String,
        /// The nearest key that there is.
        hint: Hint,
    },
}

/// Environment variables that look like ours and are not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown environment variable {name}{hint}")]
pub struct VariableError {
    name: String,
    hint: Hint,
}

/// What was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(Option<String>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

/// What the file says, if one is named; and no environment variable only looks like a setting.
///
/// `in_file` are the keys that a file may hold, `keys` those that have a variable, with `prefix`
/// in front: those of lists of tables have none.
///
/// # Errors
///
/// [`FileError`] and [`VariableError`], as whatever the program makes of them.
pub fn gather<T, E>(
    file: Option<&Path>,
    in_file: &[String],
    prefix: &str,
    keys: &[String],
) -> Result<T, E>
where
    T: DeserializeOwned + Default,
    E: From<FileError> + From<VariableError>,
{
    let found = match file {
        Some(path) => load(path, &borrowed(in_file))?,
        None => T::default(),
    };
    // Where the file is may be said by a variable, but not by the file.
    let known = [borrowed(keys), vec!["config"]].concat();
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    check_variables(prefix, &known, variables)?;
    Ok(found)
}

/// Reads the file at `path` into `T`. `keys` are all keys there are, tables joined by a dot.
///
/// # Errors
///
/// [`FileError`], one line that names file, line and key.
pub fn load<T: DeserializeOwned>(path: &Path, keys: &[&str]) -> Result<T, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE_LEN {
        return Err(failed(io::Error::other(format!("{length} bytes, at most {MAX_FILE_LEN}"))));
    }
    parse(path, &std::fs::read_to_string(path).map_err(failed)?, keys)
}

/// Reads `text`, which came from `path`, into `T`; see [`load`].
///
/// # Errors
///
/// [`FileError::Value`] and [`FileError::Unknown`].
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str, keys: &[&str]) -> Result<T, FileError> {
    let value_error = |error: &toml::de::Error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        FileError::Value {
            path: path.to_owned(),
            line,
            key: key_on(text, line),
            message: error.message().replace(char::is_control, " "),
        }
    };
    let table: toml::Table = toml::from_str(text).map_err(|error| value_error(&error))?;
    if let Some(key) = first_unknown(&table, "", keys) {
        let last = key.rsplit('.').next().unwrap_or_default();
        let line = text.lines().position(|line| key_of(line) == Some(last)).map_or(1, |at| at + 1);
        let hint = Hint(nearest(&key, keys));
        // A key in quotes may hold anything, and what is said stays on one line.
        let key = key.escape_debug().to_string();
        return Err(FileError::Unknown { path: path.to_owned(), line, key, hint });
    }
    toml::from_str(text).map_err(|error| value_error(&error))
}

/// Refuses environment variables that begin with `prefix` and belong to no key: somebody has
/// mistyped one, and would never learn why it has no effect.
///
/// # Errors
///
/// [`VariableError`] for the first such variable.
pub fn check_variables(
    prefix: &str,
    keys: &[&str],
    names: impl Iterator<Item = String>,
) -> Result<(), VariableError> {
    let known: Vec<String> = keys.iter().map(|key| variable(prefix, key)).collect();
    let mut strangers: Vec<String> =
        names.filter(|name| name.starts_with(prefix) && !known.contains(name)).collect();
    strangers.sort();
    match strangers.into_iter().next() {
        Some(name) => {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let hint = Hint(nearest(&name, &known));
            Err(VariableError { name, hint })
        }
        None => Ok(()),
    }
}

/// The key out of `keys` that is most like `wrong`, if any is like it at all.
#[must_use]
pub fn nearest(wrong: &str, keys: &[&str]) -> Option<String> {
    keys.iter()
        .map(|key| (strsim::jaro_winkler(wrong, key), key))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, key)| (*key).to_owned())
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn variable(prefix: &str, key: &str) -> String {
    format!("{prefix}{}", key.replace('.', "__").to_uppercase())
}

/// The first key of `table`, or of a table in it, that is not among `keys`.
fn first_unknown(table: &toml::Table, within: &str, keys: &[&str]) -> Option<String> {
    for (name, value) in table {
        let key = if within.is_empty() { name.clone() } else { format!("{within}.{name}") };
        let inside = format!("{key}.");
        let has_inside = keys.iter().any(|known| known.starts_with(&inside));
        let found = if let Some(table) = value.as_table().filter(|_| has_inside) {
            first_unknown(table, &key, keys)
        } else if let Some(list) = value.as_array().filter(|_| has_inside) {
            list.iter()
                .filter_map(toml::Value::as_table)
                .find_map(|table| first_unknown(table, &key, keys))
        } else {
            (!keys.contains(&key.as_str())).then_some(key)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

fn key_on(text: &str, line: usize) -> String {
    let key = text.lines().nth(line - 1).and_then(key_of);
    key.map(|key| format!("{key}: ")).unwrap_or_default()
}

/// The key that a line of TOML sets, or the last part of the table that it opens.
fn key_of(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some(table) = line.strip_prefix('[') {
        let name = table.trim_start_matches('[').split(']').next()?.trim();
        return name.rsplit('.').next();
    }
    let (key, _) = line.split_once('=')?;
    Some(key.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Span;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Keys {
        queue_age: Option<Span>,
        region: Option<Region>,
    }

    #[derive(Debug, Deserialize)]
    struct Region {
        id: Option<u32>,
    }

    const KEYS: [&str; 4] = ["queue_age", "queue_bytes", "region.id", "region.nodes.hostname"];

    #[test]
    fn a_good_file_is_read() {
        let keys: Keys = read("queue_age = \"5s\"\n[region]\nid = 999\n").unwrap();
        assert_eq!(keys.queue_age.map(|age| age.0.as_secs()), Some(5));
        assert_eq!(keys.region.and_then(|region| region.id), Some(999));
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, message) in [
            ("\nqueue_aeg = 1\n", "x.toml:2: unknown key `queue_aeg`; did you mean `queue_age`?"),
            ("[region]\nidd = 1", "x.toml:2: unknown key `region.idd`; did you mean `region.id`?"),
            (
                "[[region.nodes]]\nhost = 1",
                "x.toml:2: unknown key `region.nodes.host`; did you mean `region.nodes.hostname`?",
            ),
            ("[nothing]\nlike = 1", "x.toml:1: unknown key `nothing`"),
            ("\"two\\nlines\" = 1", "x.toml:1: unknown key `two\\nlines`"),
            ("a = 1\nqueue_age = \"soon\"", "x.toml:1: unknown key `a`"),
            (
                "queue_age = \"soon\"",
                "x.toml:1: queue_age: not a duration: write a number and ms, s, m, h or d, such as 30s or 5m",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), message, "{text:?}");
        }
        let error = read("queue_age = \n").unwrap_err().to_string();
        assert!(error.starts_with("x.toml:1: queue_age: ") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn a_mistyped_variable_is_refused() {
        let check = |names: &[&str]| {
            check_variables("RELAY_", &KEYS, names.iter().map(|name| (*name).to_owned()))
        };
        assert_eq!(check(&["RELAY_QUEUE_AGE", "RELAY_REGION__ID", "HOME"]), Ok(()));
        let error = check(&["RELAY_QUEUE_AGES"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown environment variable RELAY_QUEUE_AGES; did you mean `RELAY_QUEUE_AGE`?"
        );
    }

    fn read(text: &str) -> Result<Keys, FileError> {
        parse(Path::new("x.toml"), text, &KEYS)
    }
}
