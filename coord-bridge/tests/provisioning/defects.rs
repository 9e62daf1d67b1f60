//! The table of defects in the documents, against the tests that it names.

use std::path::Path;

/// W1 to W30, each once and in order, and each test that is named is there.
#[test]
fn every_defect_has_its_answer_and_every_test_named_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../docs/provisioning.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| W")).collect();
    assert_eq!(rows.len(), 30);
    let mut sources = String::new();
    for file in std::fs::read_dir(root.join("tests/provisioning")).unwrap() {
        sources.push_str(&std::fs::read_to_string(file.unwrap().path()).unwrap());
    }
    let mut named = 0;
    for (number, row) in (1..).zip(rows) {
        assert!(row.starts_with(&format!("| W{number} |")), "{row}");
        let words = row.split([' ', ',', ';', ':', '|', '`']);
        // A name, or the beginning of one and `…`.
        for word in words.filter(|word| word.matches('_').count() >= 3) {
            let name = word.trim_end_matches('…');
            assert!(sources.contains(&format!("fn {name}")), "W{number}: no test {name}");
            named += 1;
        }
    }
    assert!(named >= 19, "{named}");
}
