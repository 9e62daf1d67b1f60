//! The client's side: the request that is sent and the responses that are read.
//! Spec: docs/protocol/stun.md, section 4.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::net::SocketAddr;

use stun::message::TransactionId;
use stun::request;
use stun::response::{DecodeError, Response, decode};

const ID: TransactionId = TransactionId::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);

const XOR_V4: &[u8] = &[0x00, 0x20, 0, 8, 0, 1, 0x8b, 0xe9, 0x5e, 0x12, 0xa4, 0x43];
const XOR_V4_OLD: &[u8] = &[0x80, 0x20, 0, 8, 0, 1, 0x8b, 0xe9, 0x5e, 0x12, 0xa4, 0x43];
const PLAIN_V4: &[u8] = &[0x00, 0x01, 0, 8, 0, 1, 0x00, 0x07, 192, 0, 2, 7];
const PLAIN_V6: &[u8] =
    &[0x00, 0x01, 0, 20, 0, 2, 0x00, 0x07, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

/// STUN-4.1: forty bytes, those of `stun.Request` of tailscale.com v1.102.4.
#[test]
fn request_is_the_recorded_one() {
    let recorded = [
        0x00, 0x01, 0x00, 0x14, 0x21, 0x12, 0xa4, 0x42, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06,
        0x07, 0x08, 0x09, 0x0a, 0x0b, 0x80, 0x22, 0x00, 0x08, 0x74, 0x61, 0x69, 0x6c, 0x6e, 0x6f,
        0x64, 0x65, 0x80, 0x28, 0x00, 0x04, 0x8a, 0xab, 0xad, 0x90,
    ];

    assert_eq!(request::encode(ID), recorded);
}

/// STUN-4.2: the masked address under both numbers, the plain one only for want of a masked one.
#[test]
fn mapped_address_is_read_in_three_forms() {
    assert_eq!(mapped(&[XOR_V4]), Ok("127.0.0.1:43771".parse().unwrap()));
    assert_eq!(mapped(&[XOR_V4_OLD]), Ok("127.0.0.1:43771".parse().unwrap()));
    assert_eq!(mapped(&[PLAIN_V4]), Ok("192.0.2.7:7".parse().unwrap()));
    assert_eq!(mapped(&[PLAIN_V6]), Ok("[2001:db8::9]:7".parse().unwrap()));
    assert_eq!(mapped(&[PLAIN_V4, XOR_V4]), Ok("127.0.0.1:43771".parse().unwrap()));
    assert_eq!(mapped(&[XOR_V4, PLAIN_V4]), Ok("127.0.0.1:43771".parse().unwrap()));
}

/// STUN-4.3: the announced length ends the message; what follows may be anything.
#[test]
fn bytes_behind_the_announced_length_are_ignored() {
    let mut trailing = success(&[XOR_V4]);
    trailing.extend([0xff; 3]);
    assert_eq!(decode(&trailing).map(|response| response.mapped), mapped(&[XOR_V4]));

    let mut announced_too_much = success(&[XOR_V4]);
    announced_too_much[3] += 1;
    assert_eq!(decode(&announced_too_much), Err(DecodeError::Malformed));
}

/// STUN-4.4: the id is handed out, so that the caller can tell its own answers from forgeries.
#[test]
fn transaction_id_is_handed_out() {
    let expected = Response { transaction_id: ID, mapped: "127.0.0.1:43771".parse().unwrap() };

    assert_eq!(decode(&success(&[XOR_V4])), Ok(expected));
}

/// STUN-4.5, fault-D31: the reference server tells an IPv4 client `::ffff:127.0.0.1`, which is
/// the same place as `127.0.0.1` and must compare equal to it. The attribute is that of
/// `stun.Response` of tailscale.com v1.102.4.
#[test]
fn ipv4_mapped_address_is_read_as_ipv4() {
    let recorded_from_derper = [
        0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0x8b, 0xe9, 0x21, 0x12, 0xa4, 0x42, 0x00, 0x01, 0x02,
        0x03, 0x04, 0x05, 0xf9, 0xf8, 0x77, 0x09, 0x0a, 0x0a,
    ];

    assert_eq!(mapped(&[&recorded_from_derper]), Ok("127.0.0.1:43771".parse().unwrap()));
}

/// STUN-4.6: a refusal is told apart from noise, with its code.
#[test]
fn error_response_gives_its_code() {
    let mut refused = success(&[&[0x00, 0x09, 0, 4, 0, 0, 4, 20]]);
    refused[1] = 0x11;
    assert_eq!(decode(&refused), Err(DecodeError::Refused { code: 420, transaction_id: ID }));

    let mut without_code = success(&[]);
    without_code[1] = 0x11;
    assert_eq!(decode(&without_code), Err(DecodeError::Refused { code: 0, transaction_id: ID }));
}

/// STUN-4.6: anything but a response to a binding request is refused.
#[test]
fn other_messages_are_not_responses() {
    assert_eq!(decode(&request::encode(ID)), Err(DecodeError::NotResponse { kind: 1 }));
    assert_eq!(decode(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"), Err(DecodeError::NotStun));
    assert_eq!(decode(&[]), Err(DecodeError::NotStun));
}

/// STUN-4.2: a success without an address, or with one that cannot be, is no success.
#[test]
fn response_without_usable_address_is_an_error() {
    let family_3 = [0x00, 0x20, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0];
    let short_v6 = [0x00, 0x20, 0, 8, 0, 2, 0, 0, 0, 0, 0, 0];
    let short_plain = [0x00, 0x01, 0, 3, 0, 1, 0, 0];

    assert_eq!(mapped(&[]), Err(DecodeError::NoAddress));
    assert_eq!(mapped(&[&family_3]), Err(DecodeError::Malformed));
    assert_eq!(mapped(&[&short_v6]), Err(DecodeError::Malformed));
    assert_eq!(mapped(&[&short_plain]), Err(DecodeError::Malformed));
    assert_eq!(mapped(&[XOR_V4, &[0x80]]), Err(DecodeError::Malformed));
}

fn success(attributes: &[&[u8]]) -> Vec<u8> {
    let body = attributes.concat();
    let mut message = vec![0x01, 0x01, 0, u8::try_from(body.len()).unwrap()];
    message.extend([0x21, 0x12, 0xa4, 0x42]);
    message.extend(ID.bytes());
    message.extend(body);
    message
}

fn mapped(attributes: &[&[u8]]) -> Result<SocketAddr, DecodeError> {
    decode(&success(attributes)).map(|response| response.mapped)
}
