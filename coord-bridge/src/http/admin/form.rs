//! What a form or a query says.
//!
//! Does: gives each field by its name; one that is there twice counts as absent, and one that
//! nobody looks for is left alone. Does not: say what may be in a field.

use std::fmt;

/// What a form or a query says. Not shown by `Debug`: there are tokens in forms.
#[derive(Clone, Default)]
pub(super) struct Form {
    fields: Vec<(String, String)>,
}

impl Form {
    /// Reads `application/x-www-form-urlencoded`, which can be read from any bytes.
    pub(super) fn read(bytes: &[u8]) -> Self {
        Self { fields: form_urlencoded::parse(bytes).into_owned().collect() }
    }

    /// The field `name` without blanks around it; nothing if it is absent or twice there.
    pub(super) fn text(&self, name: &str) -> &str {
        let mut found = self.fields.iter().filter(|(known, _)| known == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => value.trim(),
            (None | Some(_), _) => "",
        }
    }

    /// The words of the field `name`, between blanks and commas.
    pub(super) fn words(&self, name: &str) -> Vec<&str> {
        let is_between = |letter: char| letter == ',' || letter.is_whitespace();
        self.text(name).split(is_between).filter(|word| !word.is_empty()).collect()
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").finish_non_exhaustive()
    }
}

/// A query with these fields, for the end of a link.
pub(super) fn query(fields: &[(&str, &str)]) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        text.append_pair(name, value);
    }
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_written() {
        let form = Form::read(b"a=+b%20c+&list=x%2C+y%0Az&twice=1&twice=2&%ff=%00&&=");
        assert_eq!((form.text("a"), form.text("none"), form.text("twice")), ("b c", "", ""));
        assert_eq!(form.words("list"), ["x", "y", "z"]);
        assert!(!format!("{form:?}").contains("b c"));
        assert_eq!(query(&[("a", "<&>"), ("b", ""), ("c", "ü x")]), "a=%3C%26%3E&c=%C3%BC+x");
    }
}
