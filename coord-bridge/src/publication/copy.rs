//! The last good map of an upstream on disk, for a start without it.
//!
//! Does: replaces the file as a whole, and takes back only what is whole: a checksum stands in
//! its first line. Does not: fetch, or judge the map; what is read is read like any other.
//!
//! ```text
//! STATE_DIR/upstreams/SHA256-OF-THE-URL.json
//! coord-bridge-upstream 1 SECONDS-SINCE-1970 SHA256-OF-THE-REST\n{"Regions": …
//! ```

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use derp::map::DerpMap;

use super::upstream::{self, MAX_UPSTREAM_LEN, UpstreamError, read_bounded};
use crate::map_file;

/// How the first line begins.
const HEAD: &str = "coord-bridge-upstream 1 ";

/// Most bytes of a file. Rendered, a map is longer than it came: at most fourfold.
const MAX_FILE_LEN: u64 = 4 * MAX_UPSTREAM_LEN as u64;

/// Mode of the folder, where it has to be made.
const FOLDER_MODE: u32 = 0o700;

/// A map as it was fetched once.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// The map, without faults.
    pub map: DerpMap,
    /// When it was fetched.
    pub fetched: SystemTime,
}

/// Why a copy is of no use.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Cut short, changed, or something else.
    #[error("it is not whole, or no copy of a map")]
    Corrupt,
    /// Whole, and no map.
    #[error("{0}")]
    Map(#[from] UpstreamError),
}

/// Where the copy of the upstream `name` is.
#[must_use]
pub fn path(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join("upstreams").join(format!("{}.json", hex(name.as_bytes())))
}

/// Keeps `copy`. Blocks on the disk; whatever fails, the file is as it was.
///
/// # Errors
///
/// What the system said.
pub fn write(path: &Path, copy: &Copy) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    }
    let seconds = copy.fetched.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let json = copy.map.to_json();
    let text = format!("{HEAD}{seconds} {}\n{json}", hex(json.as_bytes()));
    map_file::write(path, text.as_bytes()).map_err(|error| error.source)?;
    Ok(())
}

/// Takes back what is kept at `path`; `None` if nothing ever was. Blocks on the disk.
///
/// # Errors
///
/// [`CopyError`]; there is no map then, as if nothing had been kept.
pub fn read(path: &Path) -> Result<Option<Copy>, CopyError> {
    let bytes = match read_bounded(path, MAX_FILE_LEN) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| CopyError::Corrupt)?;
    let (head, json) = text.split_once('\n').ok_or(CopyError::Corrupt)?;
    let (seconds, sum) =
        head.strip_prefix(HEAD).and_then(|rest| rest.split_once(' ')).ok_or(CopyError::Corrupt)?;
    if sum != hex(json.as_bytes()) {
        return Err(CopyError::Corrupt);
    }
    let seconds = seconds.parse().map_err(|_| CopyError::Corrupt)?;
    let fetched = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(CopyError::Corrupt)?;
    Ok(Some(Copy { map: upstream::read_rendered(json.as_bytes())?, fetched }))
}

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
