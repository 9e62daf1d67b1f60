//! Requirements and tests name each other: docs/protocol/derp.md and stun.md against all tests.
//!
//! An id counts as tested if the comment right above a test names it: `///` above a function
//! with a `test` attribute in Rust, `//` above a `func Test…` in Go. `X-1.2 to X-1.5` names all
//! between.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// The documents that define ids, and the letters in front of each one's numbers.
const DOCUMENTS: [(&str, &str); 2] =
    [("docs/protocol/derp.md", "DERP"), ("docs/protocol/stun.md", "STUN")];

/// A requirement: letters, section, number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Id(&'static str, u32, u32);

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.0, self.1, self.2)
    }
}

/// Every requirement has a test.
#[test]
fn every_requirement_is_named_by_a_test() {
    let defined = defined();
    let mut untested: BTreeSet<Id> = defined.keys().copied().collect();
    for file in files(&["rs", "go"]) {
        let text = read(&file);
        for comment in test_comments(&text, extension(&file)) {
            for id in ids(&comment, &defined) {
                untested.remove(&id);
            }
        }
    }
    assert!(
        untested.is_empty(),
        "no test names {} of {}: {untested:?}",
        untested.len(),
        defined.len()
    );
}

/// No code, test or document cites a requirement that nobody wrote down.
#[test]
fn every_id_that_is_cited_is_defined() {
    let defined = defined();
    let mut unknown = BTreeMap::new();
    for file in files(&["rs", "go", "md"]) {
        for (number, line) in read(&file).lines().enumerate() {
            for id in ids(line, &defined).into_iter().filter(|id| !defined.contains_key(id)) {
                let place = file.strip_prefix(root()).unwrap().display();
                unknown.entry(id).or_insert_with(Vec::new).push(format!("{place}:{}", number + 1));
            }
        }
    }
    assert!(unknown.is_empty(), "unknown: {unknown:#?}");
}

/// Each requirement is written down once, in its own document, with its source.
#[test]
fn every_requirement_has_a_source() {
    for (id, line) in defined() {
        assert!(line.contains(" Source: ") && line.ends_with('.'), "{id:?} without a source");
    }
}

/// What this file takes for the comment of a test, and for an id.
#[test]
fn comments_and_ids_are_found() {
    let known = BTreeMap::from(
        [(1, 9), (2, 1), (2, 2), (2, 10)]
            .map(|(section, number)| (Id("STUN", section, number), String::new())),
    );
    let seen = |text: &str| ids(&text.replace('@', "STUN-"), &known);
    assert_eq!(seen("@2.2, @1.9: text"), [Id("STUN", 2, 2), Id("STUN", 1, 9)]);
    assert_eq!(seen("@1.9 to @2.2"), [Id("STUN", 1, 9), Id("STUN", 2, 1), Id("STUN", 2, 2)]);
    assert_eq!(seen("@2.10."), [Id("STUN", 2, 10)]);
    assert_eq!(seen("X@2.1 @x.1 @2. STUN 2.1 @FLAGS"), [], "part of a word, or no numbers");

    let rust =
        "/// of the test\n/// below\n#[test]\n#[ignore]\nfn a() {\n}\n/// of no test\nfn b() {}\n";
    assert_eq!(test_comments(rust, "rs"), ["of the test below"]);
    let later = "    #[tokio::test]\n    /// behind\n    async fn a() {}\n";
    assert_eq!(test_comments(later, "rs"), ["behind"]);
    let go =
        "// of nothing\n\n// of\n// this\nfunc TestA(t *testing.T) {\n// of that\nfunc b() {\n";
    assert_eq!(test_comments(go, "go"), ["of this"]);
}

/// All requirements with the lines that define them.
fn defined() -> BTreeMap<Id, String> {
    let mut defined = BTreeMap::new();
    for (document, letters) in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document)).unwrap_or_default();
        for line in text.lines() {
            let Some((id, _)) = line.strip_prefix("**").and_then(id_at_front) else { continue };
            assert_eq!(id.0, letters, "{document} defines {id:?}");
            let twice = defined.insert(id, line.trim_end().to_owned());
            assert!(twice.is_none(), "{document} defines {id:?} twice");
        }
    }
    defined
}

/// All ids in `text`, in order; a range stands for all that are defined in it.
fn ids(text: &str, defined: &BTreeMap<Id, String>) -> Vec<Id> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut in_word = false;
    while let Some(c) = rest.chars().next() {
        let Some((id, behind)) = id_at_front(rest).filter(|_| !in_word) else {
            in_word = c.is_alphanumeric();
            rest = &rest[c.len_utf8()..];
            continue;
        };
        found.push(id);
        rest = behind;
        if let Some((last, behind)) = behind.strip_prefix(" to ").and_then(id_at_front) {
            found.extend(defined.range(id..=last).map(|(id, _)| *id).filter(|other| *other != id));
            if !defined.contains_key(&last) {
                found.push(last);
            }
            rest = behind;
        }
        in_word = true;
    }
    found
}

/// The id at the front of `text`, and what follows it.
fn id_at_front(text: &str) -> Option<(Id, &str)> {
    let (_, letters) = DOCUMENTS.into_iter().find(|(_, letters)| text.starts_with(letters))?;
    let (section, rest) = number_at_front(text[letters.len()..].strip_prefix('-')?)?;
    let (number, rest) = number_at_front(rest.strip_prefix('.')?)?;
    Some((Id(letters, section, number), rest))
}

fn number_at_front(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The comments that belong to tests, each on one line.
fn test_comments(text: &str, language: &str) -> Vec<String> {
    let marker = if language == "go" { "//" } else { "///" };
    let mut comments = Vec::new();
    let (mut comment, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(line) = line.strip_prefix(marker) {
            comment.push(line.trim());
        } else if language == "rs" && line.starts_with("#[") {
            is_test |= line.starts_with("#[test") || line.contains("::test");
        } else {
            is_test |= line.starts_with("func Test") || line.starts_with("func Benchmark");
            if is_test && !comment.is_empty() {
                comments.push(comment.join(" "));
            }
            (comment, is_test) = (Vec::new(), false);
        }
    }
    comments
}

/// All files of the workspace with one of these extensions, in order.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let skipped = name.starts_with('.') || name == "target" || name == "node_modules";
                if !skipped {
                    folders.push(path);
                }
            } else if extensions.contains(&extension(&path)) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// Root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
