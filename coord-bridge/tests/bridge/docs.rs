//! The documents against the program: settings and calls that they quote are taken.

use coord_bridge::Config;

use crate::documents;
use crate::program::output;

/// Whoever copies a block into a file gets a bridge.
#[test]
fn settings_in_the_documents_are_taken() {
    let blocks = documents::settings(true);
    for block in &blocks {
        Config::parse(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place));
    }
    assert!(blocks.len() > 1, "{blocks:?}");
}

/// Each flag there is one that the program knows, with a value that it takes.
#[test]
fn calls_in_the_documents_are_taken() {
    let calls = documents::calls("coord-bridge");
    for (place, arguments) in &calls {
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // Arguments are read up to this one, and nothing is done.
        arguments.push("--help");
        let done = output(&arguments);
        assert_eq!(done.status.code(), Some(0), "{place}: {arguments:?}: {done:?}");
    }
    assert!(calls.len() > 3, "{calls:?}");
}
