//! The generic rule: RFC 8489 clients. Spec: docs/protocol/stun.md, section 3.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "test code: a panic is the report"
)]

mod forge;

use forge::{FINGERPRINT, Forge, ID, SOFTWARE};
use stun::binding::{Answer, IgnoreReason, MAX_REPLY_LEN, MAX_UNKNOWN, Rule, respond};

const PRIORITY: u16 = 0x0024;
const CHANGE_REQUEST: u16 = 0x0003;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;

/// STUN-3.4: the smallest request there is gets an answer, from both families.
#[test]
fn bare_header_is_answered() {
    let request = Forge::request().bytes();

    assert_eq!(answer(&request, "192.0.2.1:1").unwrap().len(), 32);
    assert_eq!(answer(&request, "[2001:db8::1]:1").unwrap().len(), 44);
    assert_eq!(strict(&request), Err(IgnoreReason::NotTailnode));
}

/// STUN-3.1, check-S5, check-S6: what the strict rule answers, this rule answers in the same
/// way, even where RFC 8489 would have it refused.
#[test]
fn tailscale_nodes_are_answered_as_under_the_strict_rule() {
    let plain = Forge::request().with(SOFTWARE, b"tailnode").sealed().bytes();
    let unknown = Forge::request().with(0x7fff, &[]).with(SOFTWARE, b"tailnode").sealed().bytes();
    let mut length = Forge::request().with(SOFTWARE, b"tailnode").bytes();
    length[3] = 0x18;
    let crc = stun::fingerprint::compute(&length);
    length.extend([0x80, 0x28, 0x00, 0x04]);
    length.extend(crc.to_be_bytes());

    for request in [plain, unknown, length] {
        let generic = answer(&request, "192.0.2.1:1");
        assert!(generic.is_ok());
        assert_eq!(generic, strict(&request));
    }
}

/// STUN-3.2: the header must announce what is there.
#[test]
fn header_length_must_match() {
    for announced in [0, 4, 11, 13, 16, 0xffff_u16] {
        let mut request = Forge::request().with(SOFTWARE, b"client").bytes();
        request[2..4].copy_from_slice(&announced.to_be_bytes());
        assert_eq!(ignored(&request), IgnoreReason::LengthMismatch, "announced {announced}");
    }
}

/// STUN-3.2: an announced length that is no multiple of four cannot hold whole attributes.
#[test]
fn attributes_must_fill_the_announced_length() {
    let mut request = Forge::request().with(SOFTWARE, b"client").bytes();
    request.extend([0, 0]);
    request[3] += 2;

    assert_eq!(ignored(&request), IgnoreReason::Malformed);
}

/// STUN-3.3: a fingerprint may be missing, but not be wrong.
#[test]
fn fingerprint_is_optional_but_must_be_right() {
    let right = Forge::request().with(SOFTWARE, b"client").sealed().bytes();
    let mut wrong = right.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let long = Forge::request().with(FINGERPRINT, &[0; 8]).bytes();

    assert!(answer(&right, "192.0.2.1:1").is_ok());
    assert_eq!(ignored(&wrong), IgnoreReason::WrongFingerprint);
    assert_eq!(ignored(&long), IgnoreReason::WrongFingerprint);
}

/// STUN-3.3: nothing may follow the fingerprint, not even a second one.
#[test]
fn fingerprint_must_be_last() {
    // The length field is under the CRC, so it is made right for both attributes first.
    let followed_by = |kind, value: &[u8]| {
        let mut head = Forge::request().with(FINGERPRINT, &[0; 4]).with(kind, value).bytes();
        let crc = stun::fingerprint::compute(&head[..20]);
        head[24..28].copy_from_slice(&crc.to_be_bytes());
        head
    };

    assert_eq!(ignored(&followed_by(0x8001, &[])), IgnoreReason::FingerprintNotLast);
    assert_eq!(ignored(&followed_by(FINGERPRINT, &[0; 4])), IgnoreReason::FingerprintNotLast);
}

/// STUN-3.5: an attribute that must be understood and is not is named in a 420 error.
#[test]
fn unknown_required_attribute_is_refused_by_name() {
    let request = Forge::request().with(PRIORITY, &[0; 4]).bytes();

    let answer = answer(&request, "192.0.2.1:1").unwrap();

    let mut expected = vec![0x01, 0x11, 0x00, 0x10, 0x21, 0x12, 0xa4, 0x42];
    expected.extend(ID);
    expected.extend([0x00, 0x09, 0x00, 0x04, 0, 0, 4, 20]);
    expected.extend([0x00, 0x0a, 0x00, 0x02, 0x00, 0x24, 0, 0]);
    assert_eq!(answer, expected);
}

/// STUN-3.5: each unknown kind is named once, in the order of the request, eight at most.
#[test]
fn list_of_unknown_attributes_is_bounded() {
    let named = |kinds: &[u16]| {
        let request = kinds.iter().fold(Forge::request(), |forge, &kind| forge.with(kind, &[]));
        let answer = answer(&request.bytes(), "192.0.2.1:1").unwrap();
        let len = usize::from(u16::from_be_bytes([answer[30], answer[31]]));
        answer[32..32 + len]
            .chunks(2)
            .map(|wire| u16::from_be_bytes([wire[0], wire[1]]))
            .collect::<Vec<_>>()
    };
    let many = (0x7000..0x7400).collect::<Vec<u16>>();

    assert_eq!(named(&[0x7001, 0x7000, 0x7001, 0x7001]), [0x7001, 0x7000]);
    assert_eq!(named(&many[..MAX_UNKNOWN]), many[..MAX_UNKNOWN]);
    assert_eq!(named(&many), many[..MAX_UNKNOWN]);
}

/// STUN-3.5: those who test for NAT behaviour (RFC 5780, RFC 3489) learn that we do not help.
#[test]
fn change_request_is_refused() {
    let request = Forge::request().with(CHANGE_REQUEST, &[0, 0, 0, 6]).bytes();

    assert_eq!(answer(&request, "192.0.2.1:1").unwrap()[..2], [0x01, 0x11]);
}

/// STUN-3.6: attributes of RFC 8489 that make no sense in this request are ignored, and nobody
/// is asked for credentials.
#[test]
fn known_attributes_are_no_reason_to_refuse() {
    let kinds = [1, 6, 8, 9, 0x0a, 0x14, 0x15, 0x1c, 0x1d, 0x1e, 0x20];
    for kind in kinds {
        let request = Forge::request().with(kind, b"any value").sealed().bytes();
        assert_eq!(answer(&request, "192.0.2.1:1").unwrap()[..2], [0x01, 0x01], "{kind:04x}");
    }
}

/// STUN-3.6: what stands behind MESSAGE-INTEGRITY is not protected by it and does not count,
/// except FINGERPRINT.
#[test]
fn attributes_behind_message_integrity_do_not_count() {
    for integrity in [MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256] {
        let behind = Forge::request().with(integrity, &[0; 20]).with(PRIORITY, &[0; 4]);
        let in_front = Forge::request().with(PRIORITY, &[0; 4]).with(integrity, &[0; 20]);
        let mut wrong = behind.clone().sealed().bytes();
        *wrong.last_mut().unwrap() ^= 1;

        assert_eq!(answer(&behind.bytes(), "192.0.2.1:1").unwrap()[..2], [0x01, 0x01]);
        assert_eq!(answer(&in_front.bytes(), "192.0.2.1:1").unwrap()[..2], [0x01, 0x11]);
        assert_eq!(ignored(&wrong), IgnoreReason::WrongFingerprint);
    }
}

/// STUN-3.7: without the cookie it is RFC 3489, whose answer would carry a plain address that
/// routers rewrite.
#[test]
fn request_without_cookie_is_ignored() {
    let mut request = Forge::request().bytes();
    request[4..8].copy_from_slice(&[0, 1, 2, 3]);

    assert_eq!(ignored(&request), IgnoreReason::NotStun);
}

/// STUN-3.8: answers have an upper bound, and the worst factor is the documented one.
#[test]
fn amplification_is_bounded() {
    let mut requests = vec![Forge::request().bytes()];
    for count in 1..=MAX_UNKNOWN * 2 {
        let kinds = (0x7000..).take(count);
        requests.push(kinds.fold(Forge::request(), |forge, kind| forge.with(kind, &[])).bytes());
    }
    for source in ["192.0.2.1:1", "[2001:db8::1]:1"] {
        for request in &requests {
            let answer = answer(request, source).unwrap();
            assert!(answer.len() <= MAX_REPLY_LEN);
            assert!(answer.len() * 10 <= request.len() * 22, "{} bytes", request.len());
        }
    }
}

fn answer(datagram: &[u8], source: &str) -> Result<Vec<u8>, IgnoreReason> {
    under(Rule::Generic, datagram, source)
}

fn strict(datagram: &[u8]) -> Result<Vec<u8>, IgnoreReason> {
    under(Rule::Tailnode, datagram, "192.0.2.1:1")
}

fn under(rule: Rule, datagram: &[u8], source: &str) -> Result<Vec<u8>, IgnoreReason> {
    let mut out = [0; MAX_REPLY_LEN];
    match respond(datagram, source.parse().unwrap(), rule, &mut out) {
        Answer::Reply(len) => Ok(out[..len].to_vec()),
        Answer::Ignore(reason) => Err(reason),
    }
}

fn ignored(datagram: &[u8]) -> IgnoreReason {
    answer(datagram, "192.0.2.1:1").unwrap_err()
}
