//! A DERP map as YAML, for the files that Headscale reads (`derp.paths`).
//!
//! Does: writes lower-case names and bare integer ids, as Headscale's reader wants them, and
//! puts every text in quotes that some YAML reader could take for something else.
//! Does not: write `null`, anchors, tags, or flow collections other than empty ones.
//!
//! Spec: docs/protocol/derp.md, DERP-10.6.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::{DerpMap, HomeParams, Node, Region};

/// Words that some YAML reader takes for a boolean, for nothing, or for a number.
const WORDS: [&str; 13] =
    ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "nan", "inf"];

impl DerpMap {
    /// The map as YAML: two spaces a level, regions by rising id, a line end at the end.
    ///
    /// Equal maps give equal bytes. Empty fields are left out.
    ///
    /// # Source
    ///
    /// DERP-10.5, DERP-10.6.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = Lines(String::new());
        let scores = self.home_params.iter().flat_map(HomeParams::finite_scores);
        let mut scores = scores.peekable();
        if scores.peek().is_some() {
            out.line("homeparams:");
            out.line("  regionscore:");
            for (id, score) in scores {
                out.line(&format!("    {id}: {score}"));
            }
        }
        if self.regions.is_empty() {
            out.line("regions: {}");
        } else {
            out.line("regions:");
        }
        for (id, region) in &self.regions {
            out.line(&format!("  {id}:"));
            write_region(region, &mut out);
        }
        if self.omit_default_regions {
            out.line("omitdefaultregions: true");
        }
        out.0
    }
}

/// Where YAML is written, line by line.
struct Lines(String);

impl Lines {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }
}

fn write_region(region: &Region, out: &mut Lines) {
    let mut fields = Fields(Vec::new());
    fields.number("regionid", region.id);
    fields.text("regioncode", &region.code);
    fields.text("regionname", &region.name);
    fields.coordinate("latitude", region.latitude);
    fields.coordinate("longitude", region.longitude);
    fields.flag("avoid", region.avoid);
    fields.flag("nomeasurenohome", region.no_measure_no_home);
    for field in fields.0 {
        out.line(&format!("    {field}"));
    }
    if region.nodes.is_empty() {
        out.line("    nodes: []");
        return;
    }
    out.line("    nodes:");
    for node in &region.nodes {
        let mut lead = "      - ";
        for field in node_fields(node).0 {
            out.line(&format!("{lead}{field}"));
            lead = "        ";
        }
    }
}

fn node_fields(node: &Node) -> Fields {
    let mut fields = Fields(Vec::new());
    fields.text("name", &node.name);
    fields.number("regionid", node.region_id);
    fields.text("hostname", &node.host_name);
    fields.text("certname", &node.cert_name);
    fields.text("ipv4", &node.ipv4);
    fields.text("ipv6", &node.ipv6);
    fields.port("stunport", node.stun_port);
    fields.flag("stunonly", node.stun_only);
    fields.port("derpport", node.derp_port);
    fields.flag("insecurefortests", node.insecure_for_tests);
    fields.text("stuntestip", &node.stun_test_ip);
    fields.flag("canport80", node.can_port_80);
    fields
}

/// Fields of one object, as `name: value`. All but ids are left out when empty.
struct Fields(Vec<String>);

impl Fields {
    fn number(&mut self, name: &str, value: u64) {
        self.0.push(format!("{name}: {value}"));
    }

    fn port(&mut self, name: &str, port: i32) {
        if port != 0 {
            self.0.push(format!("{name}: {port}"));
        }
    }

    fn coordinate(&mut self, name: &str, degrees: f64) {
        if super::is_told(degrees) {
            self.0.push(format!("{name}: {degrees}"));
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.0.push(format!("{name}: true"));
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let value = if is_plain(text) { text.to_owned() } else { quoted(text) };
        self.0.push(format!("{name}: {value}"));
    }
}

/// Whether every YAML reader takes `text`, without quotes, for just this text.
///
/// Errs on the side of quotes: letters, digits and `.-_/` only, with single blanks inside,
/// and nothing that looks like a number, a date or one of [`WORDS`].
fn is_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let (Some(first), last) = (chars.next(), text.chars().next_back()) else { return false };
    let tame = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ' ');
    let ends_tame = first.is_ascii_alphanumeric() && last != Some(' ');
    if !ends_tame || !text.chars().all(tame) || text.contains("  ") {
        return false;
    }
    if first.is_ascii_digit() {
        return text.parse::<Ipv4Addr>().is_ok() || is_numbered_name(text);
    }
    !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Digits and then letters of which none can belong to a number, as in the usual node name.
fn is_numbered_name(text: &str) -> bool {
    let letters = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = matches!(letters.chars().next(), Some('e' | 'E' | 'x' | 'X' | 'o' | 'O'));
    let binary = text.starts_with("0b") || text.starts_with("0B");
    !letters.is_empty() && letters.chars().all(|c| c.is_ascii_alphabetic()) && !number && !binary
}

/// `text` in double quotes, with escapes that every YAML reader knows.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ if is_printable(c) => out.push(c),
            // Writing to a string cannot fail.
            _ if u32::from(c) > 0xffff => _ = write!(out, "\\U{:08x}", u32::from(c)),
            _ => _ = write!(out, "\\u{:04x}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

/// What a YAML file may hold as it is, less line separators and the byte order mark.
fn is_printable(c: char) -> bool {
    matches!(c,
        '\x20'..='\x7e'
        | '\u{a0}'..='\u{2027}'
        | '\u{202a}'..='\u{d7ff}'
        | '\u{e000}'..='\u{fefe}'
        | '\u{ff00}'..='\u{fffd}'
        | '\u{10000}'..='\u{10ffff}')
}
