//! The JSON in the sealed boxes. Spec: docs/protocol/derp.md, DERP-3.3 and DERP-3.4.

use derp::key::MeshKey;
use derp::login::{ClientInfo, InfoError, MAX_APP_NAME_LEN, ServerInfo};
use proptest::prelude::*;

use super::{full_info, plain_info};

/// What the Go client sealed in `GO_CLIENT_FULL`.
const GO_FULL_JSON: &str = "{\"meshKey\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\",\
    \"version\":2,\"CanAckPings\":true,\"IsProber\":true,\
    \"AppName\":\"a\\u003cb\\u003e\\u0026\\\"\\\\\\u2028\\n\\u0001é\"}";

/// DERP-3.3, check-H4 to check-H8: what Go's encoding/json did with each text, recorded with
/// derp.ClientInfo of tailscale.com v1.102.4. Beyond these, 400,000 mutated texts were given to
/// both, which agreed on each, but for the names of ts_derp.
#[test]
fn client_info_is_read_as_go_reads_it() {
    let key = "AB".repeat(32);
    let zeros = "0".repeat(64);
    let nothing = ClientInfo::default();
    let version = |version| ClientInfo { version, ..ClientInfo::default() };
    let pings = ClientInfo { can_ack_pings: true, ..ClientInfo::default() };
    let prober = ClientInfo { is_prober: true, ..ClientInfo::default() };
    let mesh = ClientInfo { mesh_key: key.parse().ok(), ..ClientInfo::default() };
    let named = |name: &str| ClientInfo { app_name: name.to_owned(), ..ClientInfo::default() };
    assert!(mesh.mesh_key.is_some());

    let cases: Vec<(String, ClientInfo)> = vec![
        ("{}".into(), nothing.clone()),
        ("null".into(), nothing.clone()),
        (" null ".into(), nothing.clone()),
        (r#"{"version":1}"#.into(), version(1)),
        (r#"{"version":99}"#.into(), version(99)),
        (r#"{"VERSION":2}"#.into(), version(2)),
        (r#"{"version":-1}"#.into(), version(-1)),
        (r#"{"version":null}"#.into(), nothing.clone()),
        (r#"{"version":9223372036854775807}"#.into(), version(i64::MAX)),
        (r#"{"version":1,"version":2}"#.into(), version(2)),
        (r#"{"version":1,"Version":null}"#.into(), version(1)),
        ("{\"version\"\t:\r\n2}".into(), version(2)),
        ("{\"ver\u{17f}ion\":7}".into(), version(7)),
        (r#"{"ver sion":7}"#.into(), nothing.clone()),
        (r#"{"version\u0000":7}"#.into(), nothing.clone()),
        (r#"{"canackpings":true}"#.into(), pings.clone()),
        (r#"{"CanAckPings":null}"#.into(), nothing.clone()),
        (r#"{"IsProber":true,"x":{"y":[1,{"z":null}]}}"#.into(), prober.clone()),
        (r#"{"x":1e999}"#.into(), nothing.clone()),
        (r#"{"mesh_key":"none"}"#.into(), nothing.clone()),
        (format!(r#"{{"MESHKEY":"{key}"}}"#), mesh.clone()),
        (format!("{{\"me\u{17f}h\u{212a}ey\":\"{key}\"}}"), mesh.clone()),
        (format!(r#"{{"\u006deshKey":"{key}"}}"#), mesh),
        (format!(r#"{{"meshKey":"{zeros}"}}"#), nothing.clone()),
        (format!(r#"{{"meshKey":"{key}","meshKey":"{zeros}"}}"#), nothing.clone()),
        (r#"{"AppName":null}"#.into(), nothing),
        (r#"{"AppName":"\ud83d\ude00"}"#.into(), named("😀")),
        // Ours: the names of the client library ts_derp, as it sends them.
        (r#"{"can_ack_pings":true,"mesh_key":"none"}"#.into(), pings),
        (r#"{"is_prober":true,"version":0}"#.into(), prober),
    ];
    for (text, info) in cases {
        assert_eq!(ClientInfo::parse(text.as_bytes()), Ok(info), "{text}");
    }
}

/// DERP-3.3: text that is not UTF-8, in names and values, is repaired and not refused, as in Go.
#[test]
fn text_that_is_no_utf8_is_repaired() {
    let name = |json: &[u8]| ClientInfo::parse(json).unwrap().app_name;

    assert_eq!(name(b"{\"AppName\":\"a\xffb\"}"), "a\u{fffd}b");
    assert!(name(b"{\"AppName\":\"\\ud800x\"}").ends_with("\u{fffd}x"));
    assert_eq!(name(b"{\"a\xffb\":1}"), "");
}

/// DERP-3.3, check-H5, check-H6: what Go refused when these texts were recorded.
#[test]
fn client_info_that_go_refuses_is_refused() {
    let key = "AB".repeat(32);
    let syntax = [
        "",
        " ",
        "{",
        "{}x",
        "{} {}",
        "\u{feff}{}",
        "{\"version\":01}",
        "{\"version\":2,}",
        "{version:2}",
        "{'version':2}",
        "{\"version\":2}\0",
        "{\"version\":\u{b}2}",
        "{\"x\":-}",
        "{\"x\":.5}",
        "{\"x\":NaN}",
        "{\"AppName\":\"a\tb\"}",
        "{\"AppName\":\"\\x\"}",
        "{\"x\":[}",
        "{\"x\":[1,]}",
        "{\"x\"}",
        "nul",
        "{\"x\":\"",
    ];
    let shape = [
        "[]",
        "true",
        "1",
        "\"x\"",
        r#"{"version":2.0}"#,
        r#"{"version":2e0}"#,
        r#"{"version":"2"}"#,
        r#"{"version":9223372036854775808}"#,
        r#"{"version":[]}"#,
        r#"{"version":{}}"#,
        r#"{"version":true}"#,
        r#"{"CanAckPings":1}"#,
        r#"{"CanAckPings":"true"}"#,
        r#"{"AppName":5}"#,
        r#"{"AppName":["a"]}"#,
    ];
    let mesh = [
        String::new(),
        "abcd".into(),
        "0".repeat(65),
        "g".repeat(64),
        format!(" {key}"),
        format!("{key} "),
    ];
    for text in syntax {
        assert_eq!(ClientInfo::parse(text.as_bytes()), Err(InfoError::Syntax), "{text}");
    }
    for text in shape {
        assert_eq!(ClientInfo::parse(text.as_bytes()), Err(InfoError::Shape), "{text}");
    }
    let texts = mesh.iter().map(|mesh| format!(r#"{{"meshKey":"{mesh}"}}"#));
    let others = [
        r#"{"meshKey":null}"#.to_owned(),
        r#"{"meshKey":5}"#.to_owned(),
        r#"{"meshKey":{}}"#.to_owned(),
        format!(r#"{{"meshKey":"zz","meshKey":"{key}"}}"#),
    ];
    for text in texts.chain(others) {
        assert_eq!(ClientInfo::parse(text.as_bytes()), Err(InfoError::MeshKey), "{text}");
    }
}

/// DERP-3.3: a name is cut between two characters, not refused.
#[test]
fn a_long_name_is_cut() {
    let json = format!(r#"{{"AppName":"x{}"}}"#, "é".repeat(200_000 / 2));
    let name = ClientInfo::parse(json.as_bytes()).unwrap().app_name;
    assert_eq!(name, format!("x{}", "é".repeat((MAX_APP_NAME_LEN - 1) / 2)));
    assert!(name.capacity() <= MAX_APP_NAME_LEN);
}

/// DERP-3.3: our client writes what Go's writes, escapes included.
#[test]
fn client_info_is_written_as_go_writes_it() {
    let json = |info: ClientInfo| info.to_json().to_string();
    let named = |name: &str| ClientInfo { app_name: name.to_owned(), ..ClientInfo::default() };

    assert_eq!(json(ClientInfo::default()), r#"{"CanAckPings":false}"#);
    assert_eq!(json(plain_info()), r#"{"version":2,"CanAckPings":true}"#);
    assert_eq!(json(full_info()), GO_FULL_JSON);
    let control = "{\"CanAckPings\":false,\"AppName\":\"\u{7f}\\b\\f\\u001f\"}";
    assert_eq!(json(named("\u{7f}\u{8}\u{c}\u{1f}")), control);
    let separator = r#"{"CanAckPings":false,"AppName":"\u2029'/"}"#;
    assert_eq!(json(named("\u{2029}'/")), separator);
}

/// DERP-3.4, check-H2: what the relay says by default, and what it could say.
#[test]
fn server_info_is_written_and_read_as_go_does() {
    let limit = |version, rate, burst| ServerInfo {
        version,
        token_bucket_bytes_per_second: rate,
        token_bucket_bytes_burst: burst,
    };
    let cases = [
        (ServerInfo::default(), r#"{"version":2}"#),
        (limit(0, 0, 0), "{}"),
        (
            limit(2, 5, 7),
            r#"{"version":2,"TokenBucketBytesPerSecond":5,"TokenBucketBytesBurst":7}"#,
        ),
        (limit(0, 0, 7), r#"{"TokenBucketBytesBurst":7}"#),
    ];
    for (info, json) in cases {
        assert_eq!(info.to_json(), json);
        assert_eq!(ServerInfo::parse(json.as_bytes()), Ok(info));
    }
    assert_eq!(ServerInfo::parse(b"null"), Ok(limit(0, 0, 0)));
    assert_eq!(ServerInfo::parse(b"{\"x\":[]}"), Ok(limit(0, 0, 0)));
    assert_eq!(ServerInfo::parse(b"{\"VERSION\":3}"), Ok(limit(3, 0, 0)));
    assert_eq!(ServerInfo::parse(b"[]"), Err(InfoError::Shape));
    assert_eq!(ServerInfo::parse(b"{"), Err(InfoError::Syntax));
}

proptest! {
    /// DERP-3.2, DERP-3.3: what a client says of itself arrives, and nothing else gets in.
    #[test]
    fn any_client_info_arrives(
        version in any::<i64>(),
        can_ack_pings in any::<bool>(),
        is_prober in any::<bool>(),
        app_name in ".{0,30}",
        mesh in prop::option::of("[0-9a-f]{63}1"),
    ) {
        let mesh_key: Option<MeshKey> = mesh.map(|text| text.parse().unwrap());
        let info = ClientInfo { mesh_key, version, can_ack_pings, is_prober, app_name };
        prop_assert_eq!(ClientInfo::parse(info.to_json().as_bytes()), Ok(info));
    }

    /// DERP-3.3: no text makes the reader of sealed JSON panic, and names change nothing in
    /// whatever letter case they come.
    #[test]
    fn any_text_is_client_info_or_not(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        upper in any::<[bool; 7]>(),
    ) {
        let name: String = "version".chars().zip(upper)
            .map(|(c, upper)| if upper { c.to_ascii_uppercase() } else { c })
            .collect();
        let json = format!("{{\"{name}\":5}}");
        prop_assert_eq!(ClientInfo::parse(json.as_bytes()).unwrap().version, 5);
        let _either = ClientInfo::parse(&bytes);
        let _either = ServerInfo::parse(&bytes);
    }
}
