//! Answers of Headscale, through the code that reads them.

use coord_bridge::headscale::fuzzing::read_answer;
use coord_bridge::headscale::limits::MAX_WORDS;

/// Most bytes of a failure's own words.
const OWN_WORDS: usize = 500;

/// The first line is status and content type, the rest is the body. Whatever it is, it is read,
/// or a failure says on one line why not.
///
/// # Panics
///
/// If that is not so.
pub fn headscale_answer(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let head = String::from_utf8_lossy(head);
    let (status, content_type) = head.split_once(' ').unwrap_or((&head, ""));
    let status = status.parse::<u16>().map_or(100, |status| status.wrapping_sub(100));
    let (failures, _) = read_answer(status, content_type, body.get(1..).unwrap_or_default());
    for failure in failures {
        let line = failure.to_string();
        assert!(!line.contains('\n') && !line.contains('\r'), "{line:?}");
        assert!(line.len() <= MAX_WORDS * 4 + OWN_WORDS, "{} bytes", line.len());
    }
}
