//! What every page has to have, whatever is on it.

use crate::client::Answer;

/// What every page has to have: one heading, closed tags, and headers that let nothing in.
pub(crate) fn is_page(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    has_headers(answer);
    let text = answer.text();
    assert!(text.starts_with("<!DOCTYPE html><html lang=\"en\">") && text.ends_with("</html>"));
    assert_eq!(text.matches("<h1>").count(), 1, "{text}");
    assert!(!text.contains("<script") && !text.contains(" style="), "{text}");
    assert_eq!(text.matches("<form").count(), text.matches("</form>").count());
    balanced(text);
    let mut ids: Vec<&str> =
        text.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id is there twice: {text}");
    for wanted in text.split(" for=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(ids.contains(&wanted), "a label is for nothing: {wanted}");
    }
}

pub(crate) fn has_headers(answer: &Answer) {
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let policy = answer.header("content-security-policy").unwrap();
    for rule in
        ["default-src 'none'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script"), "{policy}");
}

/// Every tag is closed by its like.
fn balanced(text: &str) {
    let mut open = Vec::new();
    for tag in text.split('<').skip(1) {
        let name: String =
            tag.chars().take_while(|it| it.is_ascii_alphanumeric() || *it == '/').collect();
        let (attributes, _) = tag.split_once('>').unwrap();
        for handler in attributes.split(" on").skip(1) {
            let rest = handler.trim_start_matches(|it: char| it.is_ascii_alphabetic());
            assert!(!rest.starts_with('='), "{tag}");
        }
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{tag}");
        } else if !["", "meta", "link", "input"].contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}
