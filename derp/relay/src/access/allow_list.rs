//! A file of the nodes that may use the relay.
//!
//! Does: reads one `nodekey:…` a line, strictly, and reads it again while the relay runs.
//! Does not: watch the file. Empty lines and what follows a `#` mean nothing.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use derp::key::NodePublic;

/// Most bytes in an allow-list: 100,000 nodes with a comment each.
const MAX_LIST_LEN: u64 = 16 * 1024 * 1024;

/// Why an allow-list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("cannot read the allow-list {}: {source}; correct it, or name another file with --allow-list", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line is no node key.
    #[error("{}:{line}: not a node key; write `nodekey:` and 64 hex digits", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
    },
}

#[derive(Debug)]
pub(super) struct AllowList {
    path: PathBuf,
    keys: ArcSwap<HashSet<NodePublic>>,
}

impl AllowList {
    pub(super) fn load(path: PathBuf) -> Result<Self, ListError> {
        let keys = ArcSwap::from_pointee(read(&path)?);
        Ok(Self { path, keys })
    }

    pub(super) fn reload(&self) -> Result<(), ListError> {
        self.keys.store(Arc::new(read(&self.path)?));
        Ok(())
    }

    pub(super) fn contains(&self, key: &NodePublic) -> bool {
        self.keys.load().contains(key)
    }
}

fn read(path: &PathBuf) -> Result<HashSet<NodePublic>, ListError> {
    let failed = |source| ListError::Read { path: path.clone(), source };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_LIST_LEN {
        return Err(failed(io::Error::other(format!("{length} bytes, at most {MAX_LIST_LEN}"))));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let mut keys = HashSet::new();
    for (number, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let wrong = |_| ListError::Line { path: path.clone(), line: number + 1 };
        keys.insert(entry.parse().map_err(wrong)?);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "nodekey:0101010101010101010101010101010101010101010101010101010101010101";

    /// DERP-8.3: listed nodes may enter, others not, and a new list counts once it is read.
    #[test]
    fn listed_keys_are_allowed_and_a_reload_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("# fleet\n\n  {KEY} # laptop\n")).unwrap();
        let list = AllowList::load(file.path().to_owned()).unwrap();
        let listed = NodePublic::from_bytes([1; 32]);
        assert!(list.contains(&listed));
        assert!(!list.contains(&NodePublic::from_bytes([2; 32])));

        std::fs::write(file.path(), "# nobody\n").unwrap();
        list.reload().unwrap();
        assert!(!list.contains(&listed));
    }

    /// DERP-8.3: a list that cannot be read whole lets nobody in by halves.
    #[test]
    fn a_wrong_line_is_named_and_the_old_list_stays() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KEY).unwrap();
        let list = AllowList::load(file.path().to_owned()).unwrap();
        std::fs::write(file.path(), format!("{KEY}\nnodekey:12\n")).unwrap();

        let error = list.reload().unwrap_err().to_string();

        assert!(
            error.ends_with(":2: not a node key; write `nodekey:` and 64 hex digits"),
            "{error}"
        );
        assert!(list.contains(&NodePublic::from_bytes([1; 32])));
    }
}
