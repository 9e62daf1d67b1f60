//! Keys and key files, through the public API only. Spec: docs/protocol/derp.md, section 3.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::collections::BTreeSet;

use crypto_box::aead::AeadInPlace as _;
use derp::key::file::{self, MAX_KEY_FILE_LEN, ParseFileError};
use derp::key::{KEY_LEN, MeshKey, NodePrivate, NodePublic, ParseKeyError};
use proptest::prelude::*;

// Recorded from tailscale.com v1.102.4, package types/key, by a Go program that printed the
// methods String, ShortString and MarshalText of the keys whose private bytes are 1, 2, … 32
// (client) and 200, 199, … 169 (relay).
const CLIENT: &str = "nodekey:07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c";
const CLIENT_SHORT: &str = "[B6N8v]";
const RELAY: &str = "nodekey:8dafcfeeae9045ee9a78d78a99fcf32e7781e441eb073096c342b8e2dcc3b612";
const RELAY_SHORT: &str = "[ja/P7]";
const RELAY_PRIVATE: &str =
    "privkey:c8c7c6c5c4c3c2c1c0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0afaeadacabaaa9";

/// What derper writes for that key, recorded the same way (json.MarshalIndent with a tab).
const DERPER_FILE: &str = "{\n\t\"PrivateKey\": \"privkey:c8c7c6c5c4c3c2c1c0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0afaeadacabaaa9\"\n}";

/// DERP-3.2, DERP-3.7: both keys of the vector, from text to public key, as Go has them.
#[test]
fn public_keys_agree_with_go() {
    let client: NodePrivate = private_text(|i| i + 1).parse().unwrap();
    let relay: NodePrivate = RELAY_PRIVATE.parse().unwrap();

    assert_eq!(client.public().to_string(), CLIENT);
    assert_eq!(relay.public().to_string(), RELAY);
    assert_eq!(format!("{:?}", client.public()), CLIENT_SHORT);
    assert_eq!(format!("{:?}", relay.public()), RELAY_SHORT);
    assert_eq!(relay.to_file_text().as_str(), RELAY_PRIVATE);
}

/// DERP-3.7, DERP-8.1: text forms of a public key; digits of either case, everything else exact.
#[test]
fn public_keys_have_two_text_forms() {
    let key: NodePublic = CLIENT.parse().unwrap();
    let digits = key.to_hex();

    assert_eq!(format!("nodekey:{digits}"), CLIENT);
    assert_eq!(NodePublic::from_hex(&digits.to_uppercase()), Ok(key));
    let prefix = ParseKeyError::Prefix { wanted: "nodekey:" };
    for text in ["", &digits, "nodekey", &format!("NODEKEY:{digits}"), RELAY_PRIVATE] {
        assert_eq!(text.parse::<NodePublic>(), Err(prefix), "{text}");
    }
    for text in [&digits[1..], &format!("{digits}0"), &format!("{digits}\n"), ""] {
        let wrong = Err(ParseKeyError::Length { digits: text.len() });
        assert_eq!(NodePublic::from_hex(text), wrong, "{text}");
    }
    for odd in ['g', ' ', '/', ':', '@', 'G', '`'] {
        let text = digits.replacen('0', &odd.to_string(), 1);
        assert_eq!(NodePublic::from_hex(&text), Err(ParseKeyError::Digit), "{text}");
    }
    let two_bytes_each = "é".repeat(32);
    assert_eq!(NodePublic::from_hex(&two_bytes_each), Err(ParseKeyError::Digit));
}

/// DERP-3.6: the zero key is known, and has no short form, as in Go.
#[test]
fn the_zero_key_is_told_apart() {
    let zero = NodePublic::from_bytes([0; KEY_LEN]);
    let mut bytes = [0; KEY_LEN];
    bytes[31] = 1;

    assert!(zero.is_zero());
    assert!(!NodePublic::from_bytes(bytes).is_zero());
    assert_eq!(format!("{zero:?}"), "");
}

/// DERP-3.8: with the keys that are refused, boxes under sixty-four private keys come out in at
/// most five ways; with any other key they are all different.
#[test]
fn keys_of_low_order_are_told_apart() {
    let points = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for text in points {
        let mut bytes = *NodePublic::from_hex(text).unwrap().as_bytes();
        for top in [0, 0x80] {
            bytes[31] = bytes[31] & 0x7f | top;
            assert!(NodePublic::from_bytes(bytes).is_low_order(), "{text}");
            assert!(boxes_under_many_keys(bytes) <= 5, "{text}");
        }
        bytes[1] ^= 1;
        assert!(!NodePublic::from_bytes(bytes).is_low_order(), "{text}");
    }
    let client: NodePublic = CLIENT.parse().unwrap();
    assert!(!client.is_low_order());
    assert_eq!(boxes_under_many_keys(*client.as_bytes()), 64);
}

/// DERP-3.7: five bits are set, and nothing else is changed.
#[test]
fn a_new_private_key_is_clamped() {
    let text = NodePrivate::from_random([0xff; KEY_LEN]).to_file_text();
    assert_eq!(text.as_str(), format!("privkey:f8{}7f", "ff".repeat(30)));

    let text = NodePrivate::from_random([0; KEY_LEN]).to_file_text();
    assert_eq!(text.as_str(), format!("privkey:00{}40", "00".repeat(30)));
}

/// DERP-3.7: neither debug output nor errors show anything of a secret.
#[test]
fn secrets_are_not_shown() {
    let private: NodePrivate = RELAY_PRIVATE.parse().unwrap();
    let mesh: MeshKey = "ab".repeat(32).parse().unwrap();
    assert_eq!(format!("{private:?} {mesh:?}"), "NodePrivate([redacted]) MeshKey([redacted])");

    let bad = RELAY_PRIVATE.replace("c8", "zz");
    let error = bad.parse::<NodePrivate>().unwrap_err();
    assert_eq!(error, ParseKeyError::Digit);
    let in_file = file::parse(bad.as_bytes()).unwrap_err();
    for shown in [format!("{error} {error:?}"), format!("{in_file} {in_file:?}")] {
        assert!(!shown.contains("zz") && !shown.contains("c7c6"), "{shown}");
    }
}

/// DERP-3.7: what is no private key, and a private key of zeros, which has no public half.
#[test]
fn bad_private_keys_are_refused() {
    let parse = |text: &str| text.parse::<NodePrivate>().map(|_| ());
    let prefix = Err(ParseKeyError::Prefix { wanted: "privkey:" });

    assert_eq!(parse(""), prefix);
    assert_eq!(parse(CLIENT), prefix);
    assert_eq!(parse("privkey:00"), Err(ParseKeyError::Length { digits: 2 }));
    assert_eq!(parse(&format!("privkey:{}", "00".repeat(32))), Err(ParseKeyError::Zero));
    assert_eq!(parse(&RELAY_PRIVATE.to_uppercase().replace("PRIVKEY", "privkey")), Ok(()));
}

/// DERP-3.3: a mesh key is 64 hex digits; files may have white space around them.
#[test]
fn mesh_keys_compare_by_value() {
    let key: MeshKey = format!(" {}\n", "aB".repeat(32)).parse().unwrap();
    let same = MeshKey::from_hex(&"Ab".repeat(32)).unwrap();
    let other = MeshKey::from_hex(&format!("{}ac", "ab".repeat(31))).unwrap();

    assert_eq!(key, same);
    assert_ne!(key, other);
    assert_eq!(key.to_hex().as_str(), "ab".repeat(32));
    assert_eq!("00".repeat(32).parse::<MeshKey>(), Err(ParseKeyError::Zero));
    assert_eq!("".parse::<MeshKey>(), Err(ParseKeyError::Length { digits: 0 }));
    assert_eq!(MeshKey::from_hex(&"g".repeat(64)), Err(ParseKeyError::Digit));
    let spaced = format!(" {}", "ab".repeat(32));
    assert_eq!(MeshKey::from_hex(&spaced), Err(ParseKeyError::Length { digits: 65 }));
}

/// DERP-3.7, check-H15: derper's file is read, whatever its white space and letter case, and
/// written as derper writes it.
#[test]
fn a_key_file_of_derper_is_read_and_written() {
    let golden = include_str!("golden/derper.key");
    assert_eq!(golden, DERPER_FILE);
    let key = file::parse(golden.as_bytes()).unwrap();
    assert_eq!(key.public().to_string(), RELAY);
    assert_eq!(file::render(&key).as_str(), golden);

    let other_forms = [
        format!("{{\"PrivateKey\":\"{RELAY_PRIVATE}\"}}"),
        format!("\n {{ \"privatekey\" : \"{RELAY_PRIVATE}\" }}\r\n"),
        format!("{{\"More\":{{\"a\":[1]}},\"PRIVATEKEY\":\"{RELAY_PRIVATE}\"}}"),
        format!("{{\"PrivateKey\":\"junk\",\"PrivateKey\":\"{RELAY_PRIVATE}\"}}"),
        format!("{{\"PrivateKey\":\"{RELAY_PRIVATE}\",\"PrivateKey\":null}}"),
    ];
    for text in other_forms {
        assert_eq!(file::parse(text.as_bytes()).unwrap().public().to_string(), RELAY, "{text}");
    }
}

/// DERP-3.7: Headscale's file is the bare text, with or without a line end.
#[test]
fn a_key_file_of_headscale_is_read() {
    for text in
        [RELAY_PRIVATE.to_owned(), format!("{RELAY_PRIVATE}\n"), format!(" {RELAY_PRIVATE}\r\n")]
    {
        assert_eq!(file::parse(text.as_bytes()).unwrap().public().to_string(), RELAY);
    }
}

/// DERP-3.7: a file without a key is told apart from a file with a broken one.
#[test]
fn broken_key_files_are_refused_with_their_fault() {
    let refused = |bytes: &[u8]| file::parse(bytes).map(|_| ()).unwrap_err();
    let prefix = ParseFileError::Key(ParseKeyError::Prefix { wanted: "privkey:" });

    assert_eq!(refused(b""), ParseFileError::Empty);
    assert_eq!(refused(b" \n"), ParseFileError::Empty);
    assert_eq!(refused(b"\xff"), ParseFileError::Form);
    assert_eq!(refused(b"-----BEGIN EC PRIVATE KEY-----"), prefix);
    assert_eq!(refused(b"{"), ParseFileError::Form);
    assert_eq!(refused(b"{} {}"), ParseFileError::Form);
    assert_eq!(refused(b"{}"), ParseFileError::NoKey);
    assert_eq!(refused(b"{\"PrivateKey\":null}"), ParseFileError::NoKey);
    assert_eq!(refused(b"{\"PrivateKey\":5}"), ParseFileError::Form);
    assert_eq!(refused(b"{\"PrivateKey\":\"\"}"), prefix);
    assert_eq!(
        refused(b"{\"PrivateKey\":\"privkey:00\"}"),
        ParseFileError::Key(ParseKeyError::Length { digits: 2 })
    );
    let long = vec![b' '; MAX_KEY_FILE_LEN + 1];
    assert_eq!(refused(&long), ParseFileError::TooLong { len: MAX_KEY_FILE_LEN + 1 });
}

proptest! {
    /// DERP-3.7: text forms of every key come back as the key.
    #[test]
    fn keys_round_trip_through_text(random in any::<[u8; KEY_LEN]>()) {
        let private = NodePrivate::from_random(random);
        let again: NodePrivate = private.to_file_text().parse().unwrap();
        let from_file = file::parse(file::render(&private).as_bytes()).unwrap();
        let public = private.public();

        prop_assert_eq!(again.to_file_text(), private.to_file_text());
        prop_assert_eq!(from_file.to_file_text(), private.to_file_text());
        prop_assert_eq!(public.to_string().parse(), Ok(public));
        prop_assert_eq!(NodePublic::from_hex(&public.to_hex()), Ok(public));
        prop_assert!(!public.is_low_order());
    }

    /// DERP-3.7: no bytes make the reader of key files panic.
    #[test]
    fn any_bytes_are_a_key_file_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = format!("{{\"PrivateKey\":\"{}\"}}", String::from_utf8_lossy(&bytes));
        prop_assert!(file::parse(&bytes).is_err());
        prop_assert!(file::parse(text.as_bytes()).is_err());
    }
}

/// How many different boxes sixty-four private keys make of the same text for `public`.
fn boxes_under_many_keys(public: [u8; KEY_LEN]) -> usize {
    let public = crypto_box::PublicKey::from_bytes(public);
    let tags: BTreeSet<[u8; 16]> = (0..64)
        .map(|seed| {
            let private = crypto_box::SecretKey::from_bytes([seed; KEY_LEN].map(|b| b * 3 + 17));
            let shared = crypto_box::SalsaBox::new(&public, &private);
            shared.encrypt_in_place_detached(&[0; 24].into(), &[], &mut []).unwrap().into()
        })
        .collect();
    tags.len()
}

/// `privkey:` and the hex digits of 32 bytes made from their places.
fn private_text(byte: impl Fn(u8) -> u8) -> String {
    (0..32).fold("privkey:".to_owned(), |text, i| format!("{text}{:02x}", byte(i)))
}
