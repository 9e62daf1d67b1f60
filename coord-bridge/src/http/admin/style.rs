//! The one file that pages load beside themselves.
//!
//! Does: serves the style sheet under a name that has its hash, so that browsers may keep it for
//! ever. Does not: load anything from elsewhere.

use std::fmt::Write;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};

use crate::http::{Answer, answer};

const CSS: &str = include_str!("style.css");

/// Bytes of the hash in the name.
const HASH_LEN: usize = 8;

/// Where it is.
pub(super) static PATH: LazyLock<String> = LazyLock::new(|| {
    let hash = digest(&SHA256, CSS.as_bytes());
    let mut path = String::from("/style.");
    for byte in hash.as_ref().iter().take(HASH_LEN) {
        // Writing to a String does not fail.
        write!(path, "{byte:02x}").ok();
    }
    path + ".css"
});

pub(super) fn get() -> Answer {
    let kind = HeaderValue::from_static("text/css; charset=utf-8");
    let mut answer = answer(StatusCode::OK, kind, CSS);
    let for_ever = HeaderValue::from_static("public, max-age=31536000, immutable");
    answer.headers_mut().insert(CACHE_CONTROL, for_ever);
    answer
}
