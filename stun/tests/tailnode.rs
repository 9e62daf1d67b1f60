//! The strict rule: who is answered, and the answer to the byte. Spec: docs/protocol/stun.md,
//! sections 1 and 2.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "test code: a panic is the report"
)]

mod forge;

use std::net::SocketAddr;

use forge::{FINGERPRINT, Forge, ID, SOFTWARE};
use stun::binding::{Answer, IgnoreReason, MAX_REPLY_LEN, Rule, respond};

/// What a Tailscale node sends with the id 00..0b: `stun.Request` of tailscale.com v1.102.4.
const RECORDED_REQUEST: &str =
    "000100142112a442000102030405060708090a0b802200087461696c6e6f6465802800048aabad90";

/// What the reference server, bound to an IPv4 address, answers to it at 127.0.0.1:43771:
/// `stun.Response` of tailscale.com v1.102.4.
const RECORDED_ANSWER_V4: &str = "0101000c2112a442000102030405060708090a0b0020000800018be95e12a443";

/// The same for [2001:db8::1]:3478.
const RECORDED_ANSWER_V6: &str = concat!(
    "010100182112a442000102030405060708090a0b",
    "0020001400022c840113a9fa000102030405060708090a0a"
);

/// STUN-2.1, STUN-2.3, check-S3: the recorded request gets the recorded answer.
#[test]
fn recorded_request_gets_the_recorded_answer() {
    let answer = answer(&hex(RECORDED_REQUEST), "127.0.0.1:43771");

    assert_eq!(answer.unwrap(), hex(RECORDED_ANSWER_V4));
}

/// STUN-2.1, STUN-2.3, check-S2: an IPv6 client gets 44 bytes with family 2.
#[test]
fn ipv6_client_is_told_its_ipv6_address() {
    let answer = answer(&hex(RECORDED_REQUEST), "[2001:db8::1]:3478");

    assert_eq!(answer.unwrap(), hex(RECORDED_ANSWER_V6));
}

/// STUN-2.2, check-S1, fault-D31: the form in which a dual-stack socket shows an IPv4 client
/// makes no difference; the reference server answers it with 44 bytes and family 2.
#[test]
fn ipv4_client_of_a_dual_stack_socket_is_told_its_ipv4_address() {
    let mapped = answer(&hex(RECORDED_REQUEST), "[::ffff:127.0.0.1]:43771");

    assert_eq!(mapped.unwrap(), hex(RECORDED_ANSWER_V4));
}

/// STUN-1.4, check-S4: SOFTWARE must be there and must be exactly `tailnode`.
#[test]
fn request_of_other_software_is_ignored() {
    let missing = Forge::request().sealed().bytes();
    assert_eq!(ignored(&missing), IgnoreReason::NotTailnode);

    for other in ["tailnodx", "tailnod", "tailnode ", "Tailnode", ""] {
        let request = Forge::request().with(SOFTWARE, other.as_bytes()).sealed().bytes();
        assert_eq!(ignored(&request), IgnoreReason::NotTailnode, "{other:?}");
    }
}

/// STUN-1.4: any of several SOFTWARE attributes will do, in any place.
#[test]
fn one_right_software_among_wrong_ones_is_enough() {
    let request =
        tailnode().with(SOFTWARE, b"other").with(0x8001, &[]).with(SOFTWARE, b"").sealed().bytes();

    assert!(answer(&request, "192.0.2.1:1").is_ok());
}

/// STUN-1.5, check-S4: without FINGERPRINT, or with one that is not last, there is no answer.
#[test]
fn request_without_fingerprint_at_its_end_is_ignored() {
    let missing = tailnode().bytes();
    let not_last = tailnode().sealed().with(0x8001, &[]).bytes();

    assert_eq!(ignored(&missing), IgnoreReason::NoFingerprint);
    assert_eq!(ignored(&not_last), IgnoreReason::NoFingerprint);
    assert_eq!(ignored(&Forge::request().bytes()), IgnoreReason::NotTailnode);
}

/// STUN-1.5, check-S4: every bit of the request is under the fingerprint, and so is its own.
#[test]
fn request_with_any_one_bit_wrong_is_ignored() {
    let request = hex(RECORDED_REQUEST);
    for bit in 0..request.len() * 8 {
        let mut broken = request.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(answer(&broken, "192.0.2.1:1").is_err(), "bit {bit}");
    }
    let mut wrong = request;
    wrong[39] ^= 1;
    assert_eq!(ignored(&wrong), IgnoreReason::WrongFingerprint);
}

/// STUN-1.5: a last FINGERPRINT that is not four bytes long is wrong.
#[test]
fn fingerprint_of_another_length_is_wrong() {
    for value in [&[][..], &[0; 3], &[0; 5], &[0; 8]] {
        let request = tailnode().with(FINGERPRINT, value).bytes();
        assert_eq!(ignored(&request), IgnoreReason::WrongFingerprint, "{value:?}");
    }
}

/// STUN-1.5: an earlier FINGERPRINT does not stand in for a last one without a value, although
/// the reference server takes the value of the one for the other.
#[test]
fn value_of_an_earlier_fingerprint_does_not_count() {
    let mut request = tailnode().with(FINGERPRINT, &[0; 4]).with(FINGERPRINT, &[]).bytes();
    let covered_by_the_reference_server = request.len() - 8;
    let crc = stun::fingerprint::compute(&request[..covered_by_the_reference_server]);
    request[36..40].copy_from_slice(&crc.to_be_bytes());

    assert_eq!(ignored(&request), IgnoreReason::WrongFingerprint);
}

/// STUN-1.7, check-S5: other attributes do not matter, not even unknown ones that the client
/// says must be understood.
#[test]
fn other_attributes_are_ignored() {
    let before_fingerprint = tailnode().with(0x8001, &[]).sealed().bytes();
    let username_first = Forge::request().with(0x0006, b"user").with(SOFTWARE, b"tailnode");
    let unknown_first = Forge::request().with(0x7fff, &[1; 5]).with(SOFTWARE, b"tailnode");

    for request in
        [before_fingerprint, username_first.sealed().bytes(), unknown_first.sealed().bytes()]
    {
        assert_eq!(answer(&request, "127.0.0.1:43771").unwrap(), hex(RECORDED_ANSWER_V4));
    }
}

/// STUN-1.6, check-S6, fault-D33: a wrong header length is tolerated, as by the reference
/// server, and never followed past the datagram.
#[test]
fn header_length_is_not_looked_at() {
    for announced in [0, 4, 19, 24, 0x7fff, 0xffff_u16] {
        let mut request = hex(RECORDED_REQUEST)[..32].to_vec();
        request[2..4].copy_from_slice(&announced.to_be_bytes());
        let crc = stun::fingerprint::compute(&request);
        request.extend([0x80, 0x28, 0x00, 0x04]);
        request.extend(crc.to_be_bytes());

        assert!(answer(&request, "192.0.2.1:1").is_ok(), "announced {announced}");
    }
}

/// STUN-1.3, check-S7: the attributes end where the datagram ends.
#[test]
fn trailing_bytes_are_not_ignored() {
    for trailing in 1..=8 {
        let mut request = hex(RECORDED_REQUEST);
        request.resize(request.len() + trailing, 0);
        assert!(answer(&request, "192.0.2.1:1").is_err(), "{trailing} zero bytes");
    }
    // Four zero bytes are an empty attribute 0000, so that FINGERPRINT is no longer last.
    let mut four = hex(RECORDED_REQUEST);
    four.extend([0; 4]);
    assert_eq!(ignored(&four), IgnoreReason::NoFingerprint);
}

/// STUN-1.3: a request cut anywhere is ignored.
#[test]
fn cut_request_is_ignored() {
    let request = hex(RECORDED_REQUEST);
    for len in 0..request.len() {
        assert!(answer(&request[..len], "192.0.2.1:1").is_err(), "{len} bytes");
    }
}

/// STUN-1.3: an attribute that announces more than is there spoils the whole request, and so
/// does one whose padding is missing.
#[test]
fn attribute_that_does_not_fit_is_malformed() {
    let mut overlong = tailnode().sealed().bytes();
    overlong[23] = 0xff;
    let mut unpadded = tailnode().with(0x8001, &[1]).bytes();
    unpadded.truncate(unpadded.len() - 3);

    assert_eq!(ignored(&overlong), IgnoreReason::Malformed);
    assert_eq!(ignored(&unpadded), IgnoreReason::Malformed);
}

/// STUN-1.3: the largest announced attribute length, padded, is beyond 16 bits.
#[test]
fn largest_attribute_length_does_not_overflow() {
    let mut request = Forge::request().bytes();
    request.extend([0x80, 0x01, 0xff, 0xff]);
    request.resize(20 + 4 + 0x1_0000, 0);
    assert_eq!(ignored(&request), IgnoreReason::NotTailnode);

    request.truncate(20 + 4 + 0xffff);
    assert_eq!(ignored(&request), IgnoreReason::Malformed);
}

/// STUN-1.2, STUN-1.8, check-S8: only binding requests are answered, so that two servers cannot
/// keep each other busy.
#[test]
fn responses_and_indications_are_ignored() {
    for kind in [0x0101, 0x0011, 0x0111, 0x0003, 0x0000, 0x3fff_u16] {
        let mut datagram = hex(RECORDED_REQUEST)[..32].to_vec();
        datagram[..2].copy_from_slice(&kind.to_be_bytes());
        let crc = stun::fingerprint::compute(&datagram);
        datagram.extend([0x80, 0x28, 0x00, 0x04]);
        datagram.extend(crc.to_be_bytes());
        assert_eq!(ignored(&datagram), IgnoreReason::NotBindingRequest, "{kind:04x}");
    }
    assert_eq!(ignored(&hex(RECORDED_ANSWER_V4)), IgnoreReason::NotBindingRequest);
}

/// STUN-1.1, check-S8: too short, wrong cookie or a set top bit: not STUN at all.
#[test]
fn datagrams_that_are_not_stun_are_ignored() {
    let request = hex(RECORDED_REQUEST);
    let mut cookie = request.clone();
    cookie[7] ^= 1;
    let (mut rtp, mut channel_data) = (request.clone(), request.clone());
    rtp[0] |= 0x80;
    channel_data[0] |= 0x40;

    for datagram in [&request[..10], &request[..19], &[], &cookie, &rtp, &channel_data] {
        assert_eq!(ignored(datagram), IgnoreReason::NotStun, "{datagram:02x?}");
    }
}

/// STUN-2.4: nobody gains from having our answers sent elsewhere.
#[test]
fn answer_is_at_most_a_tenth_larger_than_the_smallest_request() {
    let request = hex(RECORDED_REQUEST);

    let v4 = answer(&request, "192.0.2.1:1").unwrap();
    let v6 = answer(&request, "[2001:db8::1]:1").unwrap();

    assert!(v4.len() <= request.len());
    assert!(v6.len() * 10 <= request.len() * 11);
}

/// STUN-2.5: the caller's buffer is never written past the answer, and one that is too short
/// for the answer is a reason, not a panic.
#[test]
fn output_buffer_of_any_length_is_safe() {
    let request = hex(RECORDED_REQUEST);
    for len in 0..=MAX_REPLY_LEN {
        let mut out = vec![0xee; len];
        let answer = respond(&request, v6(), Rule::Tailnode, &mut out);
        if len < 44 {
            assert_eq!(answer, Answer::Ignore(IgnoreReason::OutTooShort), "{len} bytes");
        } else {
            assert_eq!(answer, Answer::Reply(44));
            assert!(out[44..].iter().all(|&byte| byte == 0xee));
        }
    }
}

fn tailnode() -> Forge {
    let forge = Forge::request().with(SOFTWARE, b"tailnode");
    assert_eq!(forge.clone().bytes()[8..20], ID);
    forge
}

fn v6() -> SocketAddr {
    "[2001:db8::1]:1".parse().unwrap()
}

fn answer(datagram: &[u8], source: &str) -> Result<Vec<u8>, IgnoreReason> {
    let mut out = [0; MAX_REPLY_LEN];
    match respond(datagram, source.parse().unwrap(), Rule::Tailnode, &mut out) {
        Answer::Reply(len) => Ok(out[..len].to_vec()),
        Answer::Ignore(reason) => Err(reason),
    }
}

fn ignored(datagram: &[u8]) -> IgnoreReason {
    answer(datagram, "192.0.2.1:1").unwrap_err()
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
