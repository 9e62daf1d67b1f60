//! STUN datagrams, under both rules, from both families.

use std::net::SocketAddr;

use stun::binding::{Answer, Rule, respond};

/// Longest answer: an error with its list of unknown attributes.
const MAX_ANSWER: usize = stun::binding::MAX_REPLY_LEN;

/// An answer fits its buffer, is a STUN response, and is never larger than a few times its
/// question: nobody can use the server to flood somebody else.
///
/// # Panics
///
/// If it is not.
pub fn stun_message(data: &[u8]) {
    let sources: [SocketAddr; 3] = [
        "192.0.2.1:4000".parse().unwrap(),
        "[2001:db8::1]:4000".parse().unwrap(),
        "[::ffff:192.0.2.1]:4000".parse().unwrap(),
    ];
    for source in sources {
        for rule in [Rule::Tailnode, Rule::Generic] {
            let mut out = [0xa5; MAX_ANSWER];
            if let Answer::Reply(len) = respond(data, source, rule, &mut out) {
                assert!(len >= 20 && len <= 3 * data.len().max(20), "{len} for {}", data.len());
                assert_eq!(out[0] & 0xfe, 0, "not a response");
                assert_eq!(out[4..20], data[4..20], "not the answer to this question");
                assert!(out[len..].iter().all(|byte| *byte == 0xa5), "wrote past its answer");
            }
        }
    }
}
