//! What the documents of this repository tell their readers to type.
//!
//! Included by the tests of each program, which know whether it would be taken.

use std::path::{Path, PathBuf};

/// A block or a piece of code, and where it stands.
#[derive(Debug)]
pub(crate) struct Quoted {
    /// File and line, for a report.
    pub(crate) place: String,
    pub(crate) text: String,
}

/// All blocks of TOML; those of the bridge if `of_bridge`, else those of the relay.
pub(crate) fn settings(of_bridge: bool) -> Vec<Quoted> {
    let mut found = blocks();
    found.retain(|(language, block)| {
        let is_of_bridge =
            ["[[region.nodes]]", "map_listen"].iter().any(|key| block.text.contains(key));
        language == "toml" && is_of_bridge == of_bridge
    });
    found.into_iter().map(|(_, block)| block).collect()
}

/// The arguments of all calls of `program`: in blocks for a shell, in units of systemd, and
/// between backticks in a sentence.
pub(crate) fn calls(program: &str) -> Vec<(String, Vec<String>)> {
    let mut lines = Vec::new();
    for (language, Quoted { place, text }) in blocks() {
        if ["sh", "console", "ini"].contains(&language.as_str()) {
            let text = text.replace("\\\n", " ");
            lines.extend(text.lines().map(|line| (place.clone(), line.to_owned())));
        }
    }
    for path in documents() {
        for (number, line) in (1..).zip(std::fs::read_to_string(&path).unwrap().lines()) {
            let place = format!("{}:{number}", path.display());
            let pieces = line.split('`').skip(1).step_by(2);
            lines.extend(pieces.map(|piece| (place.clone(), piece.to_owned())));
        }
    }
    lines
        .into_iter()
        .filter_map(|(place, line)| Some((place, arguments(&line, program)?)))
        .collect()
}

/// What stands behind `program`, if `line` begins with a call of it, under whatever path or by
/// cargo, which runs the bridge unless told otherwise.
fn arguments(line: &str, program: &str) -> Option<Vec<String>> {
    let line = line.trim().trim_start_matches("$ ").trim_start_matches("ExecStart=");
    let line = line.split(['|', ';', '#', '<', '>', '&']).next()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let (called, given) = match words.as_slice() {
        ["cargo", "run", rest @ ..] => {
            let (options, given) = rest.split_at(rest.iter().position(|word| *word == "--")? + 1);
            let package = options.iter().position(|word| *word == "-p");
            (package.map_or("coord-bridge", |at| options[at + 1]), given)
        }
        [first, given @ ..] if !first.contains('=') => (first.rsplit('/').next()?, given),
        _ => return None,
    };
    let given: Vec<String> = given.iter().map(|word| (*word).to_owned()).collect();
    (called == program && !given.is_empty()).then_some(given)
}

/// All fenced blocks, with their language.
fn blocks() -> Vec<(String, Quoted)> {
    let mut blocks = Vec::new();
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut open: Option<(String, Quoted)> = None;
        for (number, line) in (1..).zip(text.lines()) {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(language), None) => {
                    let place = format!("{}:{number}", path.display());
                    open = Some((language.to_owned(), Quoted { place, text: String::new() }));
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some((_, block))) => block.text.push_str(&format!("{line}\n")),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block does not end", path.display());
    }
    blocks
}

/// The documents in the root and everything below `docs`.
fn documents() -> Vec<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().find(|folder| folder.join("docs/operations.md").exists());
    let mut folders = vec![root.unwrap().join("docs")];
    let mut found = in_folder(root.unwrap());
    while let Some(folder) = folders.pop() {
        found.extend(in_folder(&folder));
        let inside = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(inside.filter(|path| path.is_dir()));
    }
    found
}

fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let inside = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    inside.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect()
}
