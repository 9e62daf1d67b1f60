//! The login, both sides, through the public API only. Spec: docs/protocol/derp.md, section 3.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use derp::frame::{DecodeError, HEADER_LEN, Kind, MAX_CLIENT_INFO_LEN, NONCE_LEN, encode};
use derp::key::{KEY_LEN, NodePrivate, NodePublic};
use derp::login::{
    Admitted, Candidate, ClientInfo, ClientLogin, GREETING_LEN, InfoError, LoginError, Open,
    ServerInfo, ServerLogin, Turn, greeting,
};
use proptest::prelude::*;

#[path = "login/info.rs"]
mod info;

// Recorded from tailscale.com v1.102.4: a Go program let derp.NewClient log in at
// derpserver.Server.Accept over loopback TCP, with the private keys of `client()` and `relay()`,
// and printed every byte of both directions. Nonces are Go's random ones.

/// Greeting and `ServerInfo` as the Go server sent them.
const GO_SERVER: &str = "\
    010000002844455250f09f94918dafcfeeae9045ee9a78d78a99fcf32e7781e441eb073096c342b8e2dcc3b61203\
    000000357be853458962b9749b6767f57c4b6a0a5a545293d3f3525228e62fbe6f945f6bd5b1ca3e1bfe31568d7a\
    4e8766ae34e770280aeb2d";

/// `ClientInfo` of the Go client, which sealed `{"version":2,"CanAckPings":true}`.
const GO_CLIENT: &str = "\
    020000006807a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c9f67a0a01f8d8b70a3\
    6433c9f213b0b0ae51348e32565a62ee5fd556c2d0eedd85a8064e745381b304daef4acf8bece8d13c86ca5616e6\
    a541b459d0f664e9bf99acaab7c639fe67";

/// `ClientInfo` of a Go client with a mesh key, the prober flag, and the name of `full_info()`.
const GO_CLIENT_FULL: &str = "\
    02000000fa07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7cd383d465e09364c9f5\
    7282618b32dccc3699a8cd44bbfdbd6fda66ebd6277a8da826bcd6ffb84232b7364acf4bb40077afaaa176768e0e\
    214280dec109249d4766e76260806d97670a4c7133e09e18886e04da638c25e59c339effaec326efb9843331a46f\
    a3b22f441ff4b42b63eaf31235d290acf7402be5f3cebec216a66b0df96956d9b62adf40a367cf2db21739ce9bc3\
    636764c8182cb70c1c7ca0bb78f1aa890ddaca82fb5b8472983f71043bec535cc4a873067693390367ffdb93d3a7\
    4e93dd81edc2384ef4a46a68a668415c9af4ee0eea2c1343b5";

/// DERP-3.1, check-H1: 45 bytes, as the Go server sends them.
#[test]
fn the_greeting_is_the_recorded_one() {
    let greeting = greeting(&relay().public());
    assert_eq!(greeting, hex(GO_SERVER)[..GREETING_LEN]);
    assert_eq!(greeting.len(), 45);
}

/// DERP-3.2, DERP-3.3, check-H2: the relay opens what the Go client sealed.
#[test]
fn a_recorded_login_of_the_go_client_is_taken() {
    let candidate = candidate(&hex(GO_CLIENT)).unwrap();

    assert_eq!(candidate.client(), client().public());
    assert_eq!(candidate.info(), &plain_info());
    assert_eq!(candidate.used(), hex(GO_CLIENT).len());

    let full = self::candidate(&hex(GO_CLIENT_FULL)).unwrap();
    assert_eq!(full.info(), &full_info());
}

/// DERP-3.2: under the nonce of the recording, our client sends the very bytes of Go's.
#[test]
fn our_client_sends_the_recorded_bytes() {
    for (recorded, info) in [(GO_CLIENT, plain_info()), (GO_CLIENT_FULL, full_info())] {
        let recorded = hex(recorded);
        let nonce = *recorded[HEADER_LEN + KEY_LEN..].first_chunk().unwrap();
        let turn = ClientLogin::new(client(), info, nonce).on_bytes(&hex(GO_SERVER)[..45]).unwrap();
        assert_eq!(turn.send, recorded);
        assert_eq!(turn.used, 45);
    }
}

/// DERP-3.4, check-H2: under the nonce of the recording, our answer is the very bytes of the Go
/// server's, 58 in all; and our client takes it.
#[test]
fn our_answer_is_the_recorded_one() {
    let recorded = hex(GO_SERVER)[GREETING_LEN..].to_vec();
    let nonce = recorded[HEADER_LEN..].first_chunk().unwrap();

    let admitted = candidate(&hex(GO_CLIENT)).unwrap().admit(nonce, &ServerInfo::default());

    assert_eq!(admitted.frame, recorded);
    assert_eq!(recorded.len(), 58);
    let turn = fast_start().login.on_bytes(&recorded).unwrap();
    assert_eq!(open(&turn), Open { server: relay().public(), info: ServerInfo::default() });
    assert_eq!(turn.used, 58);
}

/// DERP-3.2: the published vector of golang.org/x/crypto/nacl/box with the same keys: private
/// keys 1, 2, … and 200, 199, …, nonce 0, 7, 14, …, text `{"version":2}`. Computed with Go's
/// box.Seal and with crypto_box; both gave these bytes.
#[test]
fn the_sealed_box_is_the_golden_one() {
    let nonce: [u8; NONCE_LEN] = std::array::from_fn(|i| u8::try_from(7 * i).unwrap());
    let admitted = candidate(&hex(GO_CLIENT)).unwrap().admit(&nonce, &ServerInfo::default());

    let sealed = &admitted.frame[HEADER_LEN + NONCE_LEN..];
    assert_eq!(sealed, hex("a4c5eccc94aadd54522c9cc7438e1ed1268fa4aa556a1d4757a859a368"));
    assert_eq!(admitted.frame[HEADER_LEN..][..NONCE_LEN], nonce);
}

/// DERP-3.2, DERP-2.1: cut anywhere, the login waits, and says for how much; what follows it is
/// left alone.
#[test]
fn a_login_that_comes_byte_by_byte_is_taken_once_whole() {
    let mut wire = hex(GO_CLIENT);
    let whole = wire.len();
    wire.extend_from_slice(b"\x12\x00\x00\x00\x08PINGPING");

    let mut login = ServerLogin::new();
    for cut in 0..whole {
        login = login.on_bytes(&wire[..cut], &relay()).unwrap();
        let ServerLogin::AwaitClientInfo { until } = login else { panic!("too early: {cut}") };
        assert_eq!(until, if cut < HEADER_LEN { HEADER_LEN } else { whole });
    }
    let ServerLogin::AwaitVerdict(candidate) = login.on_bytes(&wire, &relay()).unwrap() else {
        panic!("not whole");
    };
    assert_eq!(candidate.used(), whole);
    let waiting = ServerLogin::AwaitVerdict(candidate).on_bytes(b"junk", &relay());
    assert!(matches!(waiting, Ok(ServerLogin::AwaitVerdict(_))), "what follows is not read");
}

/// DERP-2.4, DERP-3.2, check-H9, check-H12: the first frame is a `ClientInfo` within its limits,
/// or the login is over as soon as its header is in.
#[test]
fn another_first_frame_ends_the_login() {
    for wire in [0x00, 0x01, 0x03, 0x04, 0x12, 0x13, b'G', 0xff] {
        let error = candidate(&[wire, 0, 0, 0, 100]).unwrap_err();
        let wanted = Kind::ClientInfo;
        assert_eq!(error, LoginError::Frame(DecodeError::WrongKind { wire, wanted }));
    }
    for len in [0, 55, 262_145, u32::MAX] {
        let [l0, l1, l2, l3] = len.to_be_bytes();
        let error = candidate(&[0x02, l0, l1, l2, l3]).unwrap_err();
        let (kind, min, max) = (Kind::ClientInfo, 56, MAX_CLIENT_INFO_LEN);
        assert_eq!(error, LoginError::Frame(DecodeError::BodyLength { kind, len, min, max }));
    }
}

/// DERP-3.2, check-H10: whoever does not hold the key it names, or not our key, stays out; and
/// so does a box too short to have a tag.
#[test]
fn a_box_that_does_not_open_ends_the_login() {
    let junk = frame(&client().public(), &[0x5a; 60]);
    let empty = frame(&client().public(), &[0; NONCE_LEN]);
    let short = frame(&client().public(), &[0; NONCE_LEN + 15]);
    let mut other_key = hex(GO_CLIENT);
    other_key[HEADER_LEN + 3] ^= 1;
    let mut other_nonce = hex(GO_CLIENT);
    other_nonce[HEADER_LEN + KEY_LEN] ^= 1;
    let mut other_text = hex(GO_CLIENT);
    *other_text.last_mut().unwrap() ^= 1;

    for wire in [junk, empty, short, other_key, other_nonce, other_text] {
        assert_eq!(candidate(&wire).unwrap_err(), LoginError::Sealed);
    }
    let elsewhere = ServerLogin::new().on_bytes(&hex(GO_CLIENT), &client());
    assert_eq!(elsewhere.unwrap_err(), LoginError::Sealed);
}

/// DERP-3.6, check-H11, fault-D3: the zero key is refused cleanly, on both sides.
#[test]
fn the_zero_key_ends_the_login() {
    let zero = NodePublic::from_bytes([0; KEY_LEN]);
    assert_eq!(candidate(&frame(&zero, &[0; 60])).unwrap_err(), LoginError::ZeroKey);

    let login = ClientLogin::new(client(), plain_info(), [0; NONCE_LEN]);
    assert_eq!(login.on_bytes(&greeting(&zero)).unwrap_err(), LoginError::ZeroKey);
}

/// DERP-3.8: a key under which anybody can seal is refused on both sides. The Go server admitted
/// such a client when this was tried: key 01 00 …, box sealed with the shared key of zeros.
#[test]
fn a_key_of_low_order_ends_the_login() {
    for top in [0, 0x80] {
        let mut bytes = [0; KEY_LEN];
        (bytes[0], bytes[31]) = (1, top);
        let low = NodePublic::from_bytes(bytes);
        assert_eq!(candidate(&frame(&low, &[0; 60])).unwrap_err(), LoginError::LowOrderKey);
        let start = ClientLogin::fast_start(&client(), &plain_info(), &[0; NONCE_LEN], low);
        assert_eq!(start.unwrap_err(), LoginError::LowOrderKey);
    }
}

/// DERP-3.3, check-H13: 250,000 bytes of padding are taken, as blanks, as text, and as brackets
/// nested so deep that recursion would end the program.
#[test]
fn padding_of_any_form_is_taken() {
    let many = 250_000;
    let blanks = format!("{{{}}}", " ".repeat(many));
    let text = format!(r#"{{"pad":"{}"}}"#, "x".repeat(many));
    let deep = format!(r#"{{"pad":{}{}}}"#, "[".repeat(many / 2), "]".repeat(many / 2));
    let objects = format!(r#"{{"pad":{}0{}}}"#, r#"{"a":"#.repeat(many / 6), "}".repeat(many / 6));
    for json in [blanks, text, deep, objects] {
        let candidate = candidate(&sealed_by_client(json.as_bytes())).unwrap();
        assert_eq!(candidate.info(), &ClientInfo::default());
    }
    let cut = format!(r#"{{"pad":{}"#, "[".repeat(many));
    assert_eq!(
        candidate(&sealed_by_client(cut.as_bytes())).unwrap_err(),
        LoginError::Info(InfoError::Syntax)
    );
}

/// DERP-3.1, DERP-3.2, DERP-3.4: both sides against each other, in pieces of every size.
#[test]
fn both_sides_log_in_whatever_the_pieces() {
    for piece in [1, 2, 7, 44, 45, 46, 1000] {
        let (open, admitted) = log_in(ClientLogin::new(client(), full_info(), [3; 24]), piece);
        assert_eq!(open, Open { server: relay().public(), info: ServerInfo::default() });
        assert_eq!((admitted.client, admitted.info), (client().public(), full_info()));
    }
}

/// DERP-1.4, DERP-3.1: after a fast start the client has spoken already, and passes the greeting
/// over, byte by byte if it comes so.
#[test]
fn a_fast_start_passes_the_greeting_over() {
    let turn = fast_start();
    let admitted = candidate(&turn.send).unwrap().admit(&[4; 24], &ServerInfo::default());
    let wire = [greeting(&relay().public()), admitted.frame].concat();

    for piece in [1, 3, 45, wire.len()] {
        let (login, sent) = feed(fast_start().login, &wire, piece);
        assert!(matches!(login, ClientLogin::Open(_)), "{piece}");
        assert!(sent.is_empty(), "all is said");
    }
}

/// DERP-3.1: a greeting is 40 to 1,024 bytes that start with the magic; what follows the key is
/// for later.
#[test]
fn a_client_holds_the_greeting_to_its_form() {
    let says = |body: &[u8]| {
        let mut wire = Vec::new();
        encode(Kind::ServerKey, &[body], &mut wire);
        ClientLogin::new(client(), plain_info(), [0; 24]).on_bytes(&wire).map(|turn| turn.used)
    };
    let good = hex(GO_SERVER)[HEADER_LEN..GREETING_LEN].to_vec();
    let mut longest = good.clone();
    longest.resize(1_024, 0xff);
    assert_eq!(says(&good), Ok(45));
    assert_eq!(says(&longest), Ok(1_029));

    let refused = |len| {
        let (kind, min, max) = (Kind::ServerKey, 40, 1_024);
        Err(LoginError::Frame(DecodeError::BodyLength { kind, len, min, max }))
    };
    assert_eq!(says(&good[..39]), refused(39));
    assert_eq!(says(&[longest, vec![0]].concat()), refused(1_025));
    let mut other = good;
    other[7] ^= 1;
    assert_eq!(says(&other), Err(LoginError::Magic));
    let http = ClientLogin::new(client(), plain_info(), [0; 24]).on_bytes(b"HTTP/1.1 404");
    let wanted = Kind::ServerKey;
    assert_eq!(http.unwrap_err(), LoginError::Frame(DecodeError::WrongKind { wire: b'H', wanted }));
}

/// DERP-2.8, DERP-3.4: other frames before the answer are passed over, in pieces too; an answer
/// that does not open, or a frame no client takes, ends the login.
#[test]
fn a_client_waits_for_the_answer_and_holds_it_to_its_form() {
    let answer = hex(GO_SERVER)[GREETING_LEN..].to_vec();
    let mut before = Vec::new();
    encode(Kind::KeepAlive, &[], &mut before);
    encode(Kind::Health, &[&[b'x'; 5_000]], &mut before);
    encode(Kind::PeerGone, &[&[1; 33]], &mut before);
    before.extend_from_slice(&[0xee, 0, 0, 0, 2, 0x03, 0x00]);
    let wire = [before, answer.clone()].concat();
    for piece in [1, 10, 6_000] {
        let (login, _) = feed(fast_start().login, &wire, piece);
        assert!(matches!(login, ClientLogin::Open(_)), "{piece}");
    }

    let fails = |wire: &[u8]| fast_start().login.on_bytes(wire).map(|turn| turn.used).unwrap_err();
    let mut spoiled = answer;
    spoiled[40] ^= 1;
    assert_eq!(fails(&spoiled), LoginError::Sealed);
    assert_eq!(fails(&[&[0x03, 0, 0, 0, 24][..], &[0; 24]].concat()), LoginError::Sealed);
    let (kind, min, max) = (Kind::ServerInfo, 24, 1 << 20);
    assert_eq!(
        fails(&[0x03, 0, 0, 0, 23]),
        LoginError::Frame(DecodeError::BodyLength { kind, len: 23, min, max })
    );
    let (wire, len) = (0xee, (1 << 20) + 1);
    assert_eq!(
        fails(&[0xee, 0, 0x10, 0, 1]),
        LoginError::Frame(DecodeError::ServerFrame { wire, len })
    );
}

/// DERP-3.2: nothing that holds a secret shows it.
#[test]
fn states_do_not_show_secrets() {
    let login = ClientLogin::new(client(), full_info(), [0; 24]);
    let candidate = candidate(&hex(GO_CLIENT_FULL)).unwrap();
    let shown = format!("{login:?} {:?} {candidate:?}", fast_start());
    for secret in ["0123456789abcdef", "01020304", "1, 2, 3, 4", "83, 109"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("[redacted]"));
}

proptest! {
    /// DERP-3.2: no bytes make either side panic, and no client's buffer needs more than the
    /// largest `ClientInfo`.
    #[test]
    fn any_bytes_are_a_login_or_not(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        as_info in any::<bool>(),
    ) {
        let wire = if as_info { frame(&client().public(), &bytes) } else { bytes };
        match ServerLogin::new().on_bytes(&wire, &relay()) {
            Ok(ServerLogin::AwaitClientInfo { until }) => {
                prop_assert!(until > wire.len());
                prop_assert!(until <= HEADER_LEN + MAX_CLIENT_INFO_LEN);
            }
            Ok(ServerLogin::AwaitVerdict(_)) => prop_assert!(false, "guessed a box"),
            Err(_) => {}
        }
        for login in [ClientLogin::new(client(), plain_info(), [0; 24]), fast_start().login] {
            if let Ok(turn) = login.on_bytes(&wire) {
                prop_assert!(turn.used <= wire.len());
                prop_assert!(!matches!(turn.login, ClientLogin::Open(_)));
            }
        }
    }
}

/// The client of all recordings: private key 1, 2, … 32.
fn client() -> NodePrivate {
    private(|i| i + 1)
}

/// The relay of all recordings: private key 200, 199, … 169.
fn relay() -> NodePrivate {
    private(|i| 200 - i)
}

fn private(byte: impl Fn(u8) -> u8) -> NodePrivate {
    let digits: String = (0..32).map(|i| format!("{:02x}", byte(i))).collect();
    format!("privkey:{digits}").parse().unwrap()
}

fn plain_info() -> ClientInfo {
    ClientInfo { version: 2, can_ack_pings: true, ..ClientInfo::default() }
}

fn full_info() -> ClientInfo {
    ClientInfo {
        mesh_key: "0123456789abcdef".repeat(4).parse().ok(),
        is_prober: true,
        app_name: "a<b>&\"\\\u{2028}\n\u{1}é".to_owned(),
        ..plain_info()
    }
}

/// A client that knows the relay's key.
fn fast_start() -> Turn {
    ClientLogin::fast_start(&client(), &plain_info(), &[5; 24], relay().public()).unwrap()
}

/// What the relay makes of `wire`, which ends a login one way or the other.
fn candidate(wire: &[u8]) -> Result<Candidate, LoginError> {
    match ServerLogin::new().on_bytes(wire, &relay())? {
        ServerLogin::AwaitVerdict(candidate) => Ok(candidate),
        ServerLogin::AwaitClientInfo { until } => panic!("waits for {until} bytes"),
    }
}

/// A `ClientInfo` frame with this key and these bytes behind it.
fn frame(key: &NodePublic, sealed: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    encode(Kind::ClientInfo, &[key.as_bytes(), sealed], &mut wire);
    wire
}

/// A `ClientInfo` frame in which `json` is sealed by the client for the relay.
fn sealed_by_client(json: &[u8]) -> Vec<u8> {
    use crypto_box::aead::Aead as _;
    let public = crypto_box::PublicKey::from_bytes(*relay().public().as_bytes());
    let private =
        crypto_box::SecretKey::from_bytes(std::array::from_fn(|i| u8::try_from(i + 1).unwrap()));
    let nonce = [6; NONCE_LEN];
    let sealed = crypto_box::SalsaBox::new(&public, &private).encrypt(&nonce.into(), json).unwrap();
    frame(&client().public(), &[&nonce[..], &sealed].concat())
}

/// Runs both sides against each other, `piece` bytes at a time.
fn log_in(login: ClientLogin, piece: usize) -> (Open, Admitted) {
    let (login, sent) = feed(login, &greeting(&relay().public()), piece);
    let admitted = candidate(&sent).unwrap().admit(&[8; 24], &ServerInfo::default());
    match feed(login, &admitted.frame, piece) {
        (ClientLogin::Open(open), _) => (open, admitted),
        (other, _) => panic!("not open: {other:?}"),
    }
}

/// Hands `wire` to `login`, `piece` bytes at a time, as a shell does; also what it sends.
fn feed(mut login: ClientLogin, wire: &[u8], piece: usize) -> (ClientLogin, Vec<u8>) {
    let (mut buf, mut sent) = (Vec::new(), Vec::new());
    for bytes in wire.chunks(piece) {
        buf.extend_from_slice(bytes);
        loop {
            let turn = login.on_bytes(&buf).unwrap();
            let idle = turn.used == 0 && turn.send.is_empty();
            buf.drain(..turn.used);
            sent.extend_from_slice(&turn.send);
            login = turn.login;
            if idle {
                break;
            }
        }
    }
    (login, sent)
}

/// The open state that a turn ended in.
fn open(turn: &Turn) -> Open {
    match turn.login {
        ClientLogin::Open(open) => open,
        ClientLogin::AwaitServerKey(_) | ClientLogin::AwaitServerInfo(_) => panic!("not open"),
    }
}

fn hex(digits: &str) -> Vec<u8> {
    let value = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.as_bytes().chunks(2).map(value).collect()
}
