//! The crate `stun-rs` as a second opinion: an independent reading of the same RFCs.
//!
//! Known differences, so that nobody trusts it too far: it accepts a wrong FINGERPRINT unless
//! told to validate, and a missing one always.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod forge;

use std::net::SocketAddr;

use forge::{FINGERPRINT, Forge, ID, SOFTWARE};
use proptest::prelude::*;
use stun::binding::{Answer, MAX_REPLY_LEN, Rule, respond};
use stun::message::TransactionId;
use stun::{request, response};
use stun_rs::attributes::stun as oracle;
use stun_rs::methods::BINDING;
use stun_rs::{
    DecoderContextBuilder, MessageClass, MessageDecoderBuilder, MessageEncoderBuilder, StunMessage,
    StunMessageBuilder,
};

proptest! {
    /// STUN-4.1: the oracle, asked for the same attributes, writes the same forty bytes.
    #[test]
    fn request_is_what_the_oracle_writes(id in any::<[u8; 12]>()) {
        let message = StunMessageBuilder::new(BINDING, MessageClass::Request)
            .with_transaction_id(id.into())
            .with_attribute(oracle::Software::new("tailnode").unwrap())
            .with_attribute(oracle::Fingerprint::default())
            .build();

        prop_assert_eq!(written_by_oracle(&message), request::encode(TransactionId::new(id)));
    }

    /// STUN-2.1, STUN-2.3: the answer is what the oracle would have written, and reads as it.
    #[test]
    fn answer_is_what_the_oracle_writes(id in any::<[u8; 12]>(), source in any::<SocketAddr>()) {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let mut out = [0; MAX_REPLY_LEN];
        let request = request::encode(TransactionId::new(id));
        let Answer::Reply(len) = respond(&request, source, Rule::Tailnode, &mut out) else {
            return Err(TestCaseError::fail("no answer"));
        };

        let message = StunMessageBuilder::new(BINDING, MessageClass::SuccessResponse)
            .with_transaction_id(id.into())
            .with_attribute(oracle::XorMappedAddress::from(source))
            .build();

        prop_assert_eq!(written_by_oracle(&message), &out[..len]);
    }

    /// STUN-4.2, STUN-4.3: what the oracle writes as a server, our client reads.
    #[test]
    fn response_of_the_oracle_is_read(
        id in any::<[u8; 12]>(),
        source in any::<SocketAddr>(),
        masked in any::<bool>(),
        sealed in any::<bool>(),
    ) {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let builder = StunMessageBuilder::new(BINDING, MessageClass::SuccessResponse)
            .with_transaction_id(id.into())
            .with_attribute(oracle::Software::new("oracle").unwrap());
        let builder = if masked {
            builder.with_attribute(oracle::XorMappedAddress::from(source))
        } else {
            builder.with_attribute(oracle::MappedAddress::from(source))
        };
        let builder =
            if sealed { builder.with_attribute(oracle::Fingerprint::default()) } else { builder };

        let read = response::decode(&written_by_oracle(&builder.build()));

        let expected =
            response::Response { transaction_id: TransactionId::new(id), mapped: source };
        prop_assert_eq!(read, Ok(expected));
    }

    /// STUN-3.2, STUN-3.3, STUN-3.4: under the generic rule we answer exactly those requests
    /// that the oracle, validating, takes for whole and right.
    #[test]
    fn generic_rule_and_oracle_agree(
        attributes in prop::collection::vec(harmless_attribute(), 0..5),
        sealed in any::<bool>(),
        change in prop::option::of((any::<prop::sample::Index>(), 1..=255_u8)),
        trailing in prop_oneof![9 => Just(0_usize), 1 => 1..9_usize],
    ) {
        let forge = attributes.iter().fold(Forge::request(), |f, (kind, value)| f.with(*kind, value));
        let mut request = if sealed { forge.sealed() } else { forge }.bytes();
        if let Some((at, change)) = change {
            // Kind, length and cookie, or the value of the fingerprint.
            let at = at.index(if sealed { 12 } else { 8 });
            let at = if at < 8 { at } else { request.len() + 7 - at };
            request[at] ^= change;
        }
        request.resize(request.len() + trailing, 0);
        let mut out = [0; MAX_REPLY_LEN];

        let ours = respond(&request, "192.0.2.1:1".parse().unwrap(), Rule::Generic, &mut out);

        let context = DecoderContextBuilder::default().with_validation().build();
        let oracle = MessageDecoderBuilder::default().with_context(context).build();
        let theirs = oracle.decode(&request);
        // The oracle reads streams: it stops at the announced length and leaves the rest.
        let accepted = theirs.is_ok_and(|(message, used)| {
            used == request.len()
                && message.class() == MessageClass::Request
                && message.method() == BINDING
        });
        prop_assert_eq!(matches!(ours, Answer::Reply(_)), accepted, "{:02x?}", request);
    }
}

/// STUN-3.5: the oracle reads our refusal: the code, no reason, and the kinds in order.
#[test]
fn refusal_is_read_by_the_oracle() {
    let request = Forge::request().with(0x7ffe, &[]).with(0x0024, &[0; 4]).bytes();
    let mut out = [0; MAX_REPLY_LEN];
    let answer = respond(&request, "192.0.2.1:1".parse().unwrap(), Rule::Generic, &mut out);
    let Answer::Reply(len) = answer else { panic!("no answer: {answer:?}") };

    let (message, used) = MessageDecoderBuilder::default().build().decode(&out[..len]).unwrap();

    assert_eq!((used, message.class()), (len, MessageClass::ErrorResponse));
    assert_eq!(message.transaction_id().as_bytes(), &ID);
    let error = message.get::<oracle::ErrorCode>().unwrap().as_error_code().unwrap().error_code();
    assert_eq!((error.error_code(), error.reason()), (420, ""));
    let unknown = message.get::<oracle::UnknownAttributes>().unwrap();
    assert_eq!(unknown.as_unknown_attributes().unwrap().attributes(), [0x7ffe, 0x0024]);
}

/// STUN-1.5: why the presence and the value of the fingerprint are checked by ourselves.
#[test]
fn oracle_is_too_lenient_to_be_the_server() {
    let missing = Forge::request().with(SOFTWARE, b"tailnode").bytes();
    let wrong = Forge::request().with(SOFTWARE, b"tailnode").with(FINGERPRINT, &[0; 4]).bytes();
    let context = DecoderContextBuilder::default().with_validation().build();
    let validating = MessageDecoderBuilder::default().with_context(context).build();
    let default = MessageDecoderBuilder::default().build();

    assert!(validating.decode(&missing).is_ok());
    assert!(default.decode(&wrong).is_ok());
    assert!(validating.decode(&wrong).is_err());
    let mut out = [0; MAX_REPLY_LEN];
    for request in [missing, wrong] {
        let answer = respond(&request, "192.0.2.1:1".parse().unwrap(), Rule::Tailnode, &mut out);
        assert!(matches!(answer, Answer::Ignore(_)));
    }
}

/// Attributes whose value the oracle has no opinion about.
fn harmless_attribute() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let software = "[ -~]{0,12}".prop_map(|text| (SOFTWARE, text.into_bytes()));
    let unknown = (0xc000..0xc100_u16, prop::collection::vec(any::<u8>(), 0..9));
    let required = (0x7000..0x7100_u16, prop::collection::vec(any::<u8>(), 0..9));
    prop_oneof![software, unknown, required]
}

fn written_by_oracle(message: &StunMessage) -> Vec<u8> {
    let mut out = [0; 256];
    let len = MessageEncoderBuilder::default().build().encode(&mut out, message).unwrap();
    out[..len].to_vec()
}
