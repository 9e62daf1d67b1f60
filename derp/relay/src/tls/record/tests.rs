//! The record layer against rustls' own client, and against one that keeps no rule.

use rustls::AlertDescription as Alert;

use super::fuzzing::tls_record;
use super::pair::{Pair, Suite, give, say, take};
use super::stranger::Stranger;
use super::*;

const DATA: u8 = content::APPLICATION_DATA;

#[test]
fn plaintext_goes_both_ways_in_each_suite() {
    for suite in Suite::OWN {
        let (mut client, mut record) = talk(suite);
        for len in [1, 1_400, MAX_PLAINTEXT - 1, MAX_PLAINTEXT, MAX_PLAINTEXT + 1, 100_000] {
            let said = noise(len);
            let mut wire = Vec::new();
            say(&mut client, &said, MAX_PLAINTEXT, &mut wire);
            let end = wire.len();

            let (read, opened) = open(&mut record, &mut wire);

            assert_eq!(opened, Ok(Opened { used: end, ended: false }), "{suite:?}, {len}");
            assert_eq!(read, said);

            let mut wire = Vec::new();
            record.seal(&said, &mut wire).unwrap();
            assert_eq!(wire.len(), len + len.div_ceil(MAX_PLAINTEXT) * (HEADER_LEN + TAIL_LEN));
            assert_eq!(give(&mut client, &wire), Ok(said));
        }
    }
}

/// Design §3.1: a payload is read where it was decrypted.
#[test]
fn a_record_is_opened_where_it_lies_and_the_start_of_another_is_left() {
    let (mut client, mut record) = talk(Suite::Aes128);
    let mut wire = Vec::new();
    say(&mut client, &noise(300), 100, &mut wire);
    let cut = wire.len() - 1;
    let start = wire.as_ptr() as usize;
    let mut places = Vec::new();
    let mut answer = Vec::new();

    let opened = record.open(&mut wire[..cut], Time::ZERO, &mut answer, |at, plaintext| {
        assert_eq!(plaintext.as_ptr() as usize, start + at);
        places.push(at..at + plaintext.len());
    });

    assert_eq!(opened, Ok(Opened { used: 2 * 122, ended: false }));
    assert_eq!(places, [5..105, 127..227]);
    assert_eq!(wire[places[0].clone()], noise(300)[..100]);
    assert_eq!(open(&mut record, &mut wire[2 * 122..]).0, noise(300)[200..]);
    assert!(answer.is_empty());
}

/// Design §3.1: a record is sealed where it was gathered.
#[test]
fn a_record_is_sealed_where_it_lies() {
    for suite in Suite::OWN {
        let (mut client, mut record) = talk(suite);
        let mut out = Vec::with_capacity(20_000);
        let place = out.as_ptr();
        for len in [0, 1, 10_000] {
            out.extend_from_slice(&[0; HEADER_LEN]);
            let plaintext_at = out.len();
            out.extend(noise(len));
            record.seal_in_place(&mut out, plaintext_at).unwrap();
        }
        assert_eq!(out.as_ptr(), place);
        assert_eq!(out.len(), 10_001 + 3 * (HEADER_LEN + TAIL_LEN));
        assert_eq!(give(&mut client, &out), Ok([noise(1), noise(10_000)].concat()));
    }
}

#[test]
fn what_does_not_fit_into_a_record_is_our_own_fault() {
    let (_, mut record) = talk(Suite::Aes128);
    for (len, plaintext_at) in [(MAX_PLAINTEXT + 6, 5), (100, 4), (100, 101)] {
        let sealed = record.seal_in_place(&mut vec![0; len], plaintext_at);
        assert_eq!(sealed, Err(Fault::Internal), "{len} {plaintext_at}");
    }
}

/// Design §3.3: a peer's key update is followed, and answered when that is asked for.
#[test]
fn a_key_update_is_followed_and_answered() {
    for suite in Suite::OWN {
        let (mut client, mut record) = talk(suite);
        let mut wire = Vec::new();
        for round in 0..8 {
            say(&mut client, &noise(round), 2, &mut wire);
            client.refresh_traffic_keys().unwrap();
            take(&mut client, &mut wire);
        }
        say(&mut client, b"end", 3, &mut wire);
        let mut answer = Vec::new();
        let mut read = Vec::new();

        record
            .open(&mut wire, Time::ZERO, &mut answer, |_, plaintext| {
                read.extend_from_slice(plaintext);
            })
            .unwrap();

        let said: Vec<u8> = (0..8).flat_map(noise).collect();
        assert_eq!(read, [said, b"end".to_vec()].concat());
        // One answer to all of them.
        assert_eq!(answer.len(), HEADER_LEN + 5 + TAIL_LEN);
        assert_eq!(give(&mut client, &answer), Ok(Vec::new()));
        let mut wire = Vec::new();
        record.seal(b"under a new key", &mut wire).unwrap();
        assert_eq!(give(&mut client, &wire), Ok(b"under a new key".to_vec()));
    }
}

#[test]
fn a_key_update_that_asks_for_nothing_is_not_answered() {
    let mut stranger = Stranger::new(Suite::Aes128);
    stranger.say(content::HANDSHAKE, &[24, 0, 0, 1, 0], 0);
    assert_eq!(stranger.deliver(Time::ZERO), (Vec::new(), Ok(false)));
    assert!(stranger.answer.is_empty());
}

/// Design §3.3: more than 16 a minute close.
#[test]
fn the_seventeenth_key_update_within_a_minute_ends_the_connection() {
    for (pause, last) in [(0, Err(Fault::TooManyKeyUpdates)), (60, Ok(()))] {
        let (mut client, mut record) = talk(Suite::Aes128);
        for number in 1..=17 {
            let mut wire = Vec::new();
            client.refresh_traffic_keys().unwrap();
            take(&mut client, &mut wire);
            let seconds = if number == 17 { pause } else { 0 };
            let now = Time::from_micros(seconds * 1_000_000);
            let opened = record.open(&mut wire, now, &mut Vec::new(), |_, _| {});
            let expected = if number == 17 { last } else { Ok(()) };
            assert_eq!(opened.map(|_| ()), expected);
        }
    }
}

/// Design §3.3: our keys change after 2^24 records, behind the last one of the old key.
#[test]
fn our_own_keys_change_in_time() {
    assert_eq!(RECORDS_PER_KEY, 1 << 24);
    for suite in Suite::OWN {
        let (mut client, mut record) = talk(suite);
        record.left_to_seal = 2;
        let plain_len = 4 + HEADER_LEN + TAIL_LEN;
        for (round, change_len) in [(0, 0), (1, 5 + HEADER_LEN + TAIL_LEN), (2, 0)] {
            let mut wire = vec![0; HEADER_LEN];
            wire.extend_from_slice(b"said");
            record.seal_in_place(&mut wire, HEADER_LEN).unwrap();
            assert_eq!(wire.len(), plain_len + change_len, "{round}");
            assert_eq!(give(&mut client, &wire), Ok(b"said".to_vec()));
        }
        assert_eq!(record.left_to_seal, RECORDS_PER_KEY - 1);
    }
}

#[test]
fn faults_are_answered_by_their_alerts() {
    let handshake = content::HANDSHAKE;
    for (kind, said, fault, alert) in [
        (0, &b""[..], Fault::NoContentType, Alert::UnexpectedMessage),
        (20, &[1], Fault::ContentType { kind: 20 }, Alert::UnexpectedMessage),
        (99, b"abc", Fault::ContentType { kind: 99 }, Alert::UnexpectedMessage),
        (handshake, &[], Fault::Unaligned, Alert::UnexpectedMessage),
        (handshake, &[1, 0, 0, 0], Fault::HandshakeMessage { kind: 1 }, Alert::UnexpectedMessage),
        (handshake, &[24, 0, 0, 1, 0, 0], Fault::Unaligned, Alert::UnexpectedMessage),
        (handshake, &[24, 0, 0, 2], Fault::KeyUpdateLength, Alert::DecodeError),
        (handshake, &[24, 0, 0, 1, 2], Fault::KeyUpdateValue { value: 2 }, Alert::IllegalParameter),
        (content::ALERT, &[1], Fault::AlertLength { len: 1 }, Alert::DecodeError),
        (content::ALERT, &[1, 0, 1, 0], Fault::AlertLength { len: 4 }, Alert::DecodeError),
    ] {
        let mut stranger = Stranger::new(Suite::Aes128);
        stranger.say(DATA, b"before", 0);
        stranger.say(kind, said, 3);
        stranger.say(DATA, b"behind", 0);
        assert_eq!(
            stranger.deliver(Time::ZERO),
            (b"before".to_vec(), Err(fault)),
            "{kind} {said:?}"
        );
        assert_eq!(stranger.last_words(), Some([level::FATAL, alert.into()]));
    }
}

#[test]
fn records_that_are_not_protected_or_too_long_are_refused_by_their_header() {
    let long = 16_384 + 256;
    for (header, fault, alert) in [
        ([20, 3, 3, 0, 1], Fault::RecordType { kind: 20 }, Alert::UnexpectedMessage),
        ([21, 3, 3, 0, 2], Fault::RecordType { kind: 21 }, Alert::UnexpectedMessage),
        ([71, 69, 84, 32, 47], Fault::RecordType { kind: 71 }, Alert::UnexpectedMessage),
        ([23, 3, 3, 65, 1], Fault::RecordLength { len: long + 1 }, Alert::RecordOverflow),
        ([23, 3, 3, 255, 255], Fault::RecordLength { len: 65_535 }, Alert::RecordOverflow),
    ] {
        let mut stranger = Stranger::new(Suite::Aes128);
        stranger.wire.extend(header);
        assert_eq!(stranger.deliver(Time::ZERO), (Vec::new(), Err(fault)));
        assert_eq!(stranger.last_words(), Some([level::FATAL, alert.into()]));
    }
    let mut stranger = Stranger::new(Suite::Aes128);
    stranger.wire.extend([23, 3, 3, 65, 0]);
    assert_eq!(
        stranger.deliver(Time::ZERO),
        (Vec::new(), Ok(false)),
        "the longest one is waited for"
    );
}

#[test]
fn content_is_held_against_the_limit_without_its_padding() {
    let mut inner = vec![0; MAX_PLAINTEXT + 2];
    assert_eq!(split_content_type(&inner), Err(Fault::RecordLength { len: MAX_PLAINTEXT + 2 }));
    inner.pop();
    assert_eq!(split_content_type(&inner), Err(Fault::NoContentType));
    inner[3] = DATA;
    assert_eq!(split_content_type(&inner), Ok((DATA, &inner[..3])));
    assert_eq!(split_content_type(&[]), Err(Fault::NoContentType));
}

#[test]
fn padding_is_taken_off() {
    let mut stranger = Stranger::new(Suite::Aes128);
    for padding in [0, 1, 200] {
        stranger.say(DATA, b"said\0", padding);
    }
    assert_eq!(stranger.deliver(Time::ZERO), (b"said\0said\0said\0".to_vec(), Ok(false)));
}

/// Design §3.3: empty records have a budget.
#[test]
fn empty_records_in_a_row_are_counted() {
    let mut stranger = Stranger::new(Suite::Aes128);
    for _ in 0..3 {
        for _ in 0..MAX_EMPTY_RECORDS {
            stranger.say(DATA, b"", 7);
        }
        stranger.say(DATA, b".", 0);
    }
    assert_eq!(stranger.deliver(Time::ZERO), (b"...".to_vec(), Ok(false)));
    for _ in 0..=MAX_EMPTY_RECORDS {
        stranger.say(DATA, b"", 0);
    }
    assert_eq!(stranger.deliver(Time::ZERO), (Vec::new(), Err(Fault::EmptyRecords)));
    let alert = Alert::UnexpectedMessage.into();
    assert_eq!(stranger.last_words(), Some([level::FATAL, alert]));
}

#[test]
fn a_message_in_pieces_lets_nothing_in_between() {
    let mut stranger = Stranger::new(Suite::Aes128);
    stranger.say(content::HANDSHAKE, &[24, 0], 0);
    assert_eq!(stranger.deliver(Time::ZERO), (Vec::new(), Ok(false)));
    stranger.say(DATA, b"in between", 0);
    assert_eq!(stranger.deliver(Time::ZERO), (Vec::new(), Err(Fault::Unaligned)));
}

#[test]
fn a_goodbye_ends_and_what_comes_behind_it_is_not_looked_at() {
    let mut stranger = Stranger::new(Suite::Aes128);
    stranger.say(content::ALERT, &[1, Alert::UserCanceled.into()], 0);
    stranger.say(DATA, b"said", 0);
    stranger.say(content::ALERT, &[level::FATAL, Alert::CloseNotify.into()], 0);
    stranger.wire.extend(b"behind");
    assert_eq!(stranger.deliver(Time::ZERO), (b"said".to_vec(), Ok(true)));
    assert!(stranger.wire.is_empty());
    let alert = Alert::CloseNotify.into();
    assert_eq!(stranger.last_words(), Some([level::WARNING, alert]));
}

#[test]
fn a_peers_alert_ends_the_connection_and_is_not_answered() {
    for said in [[2, 20], [1, 20], [2, 199], [0, 109]] {
        let mut stranger = Stranger::new(Suite::Aes128);
        stranger.say(content::ALERT, &said, 0);
        let description = said[1].into();
        assert_eq!(stranger.deliver(Time::ZERO), (Vec::new(), Err(Fault::Alert { description })));
        assert_eq!(stranger.last_words(), None);
    }
}

#[test]
fn a_record_that_was_changed_anywhere_does_not_open() {
    for suite in Suite::OWN {
        let sealed_len = 9 + HEADER_LEN + TAIL_LEN;
        // The length is not tried: with another one it is another record.
        for at in (0..sealed_len).filter(|at| ![3, 4].contains(at)) {
            let (mut client, mut record) = talk(suite);
            let mut wire = Vec::new();
            say(&mut client, b"plaintext", 9, &mut wire);
            wire[at] ^= 1 << (at % 8);
            let (read, opened) = open(&mut record, &mut wire);
            assert!(read.is_empty());
            let fault = opened.unwrap_err();
            assert!(matches!(fault, Fault::Forged | Fault::RecordType { .. }), "{at} {fault}");

            let mut last = Vec::new();
            record.close(&mut last);
            let told = give(&mut client, &last).unwrap_err();
            assert_eq!(told, Error::AlertReceived(fault.alert().unwrap()));
            assert_eq!(open(&mut record, &mut wire).1, Err(Fault::Closed));
        }
    }
}

#[test]
fn records_that_come_twice_or_in_another_order_do_not_open() {
    let mut stranger = Stranger::new(Suite::Aes128);
    stranger.say(DATA, b"one", 0);
    let one = stranger.wire.clone();
    stranger.wire.extend(one);
    assert_eq!(stranger.deliver(Time::ZERO), (b"one".to_vec(), Err(Fault::Forged)));

    let mut stranger = Stranger::new(Suite::Aes128);
    stranger.say(DATA, b"one", 0);
    stranger.wire.clear();
    stranger.say(DATA, b"two", 0);
    assert_eq!(stranger.deliver(Time::ZERO), (Vec::new(), Err(Fault::Forged)));
}

#[test]
fn nothing_is_said_behind_a_goodbye() {
    let (mut client, mut record) = talk(Suite::Aes128);
    let mut wire = Vec::new();
    record.close(&mut wire);
    record.close(&mut wire);
    assert_eq!(wire.len(), 2 + HEADER_LEN + TAIL_LEN);
    assert_eq!(record.seal(b"more", &mut wire), Err(Fault::Closed));
    assert_eq!(record.change_keys(&mut wire), Err(Fault::Closed));
    assert_eq!(give(&mut client, &wire), Ok(Vec::new()));
    assert!(client.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn rustls_keeps_tls_1_2() {
    assert!(!Record::can_take_over(&Pair::new(Suite::Tls12).server));
    assert!(Record::can_take_over(&Pair::new(Suite::Aes128).server));
}

/// Records that rustls has opened and sealed before the hand-over count on.
#[test]
fn a_connection_is_taken_over_in_the_middle() {
    for suite in Suite::OWN {
        let mut pair = Pair::new(suite);
        let mut before = Unbuffered::new(pair.server);
        let mut wire = Vec::new();
        before.seal(&noise(40_000), &mut wire).unwrap();
        assert_eq!(give(&mut pair.client, &wire), Ok(noise(40_000)));
        let mut wire = Vec::new();
        say(&mut pair.client, &noise(100), 10, &mut wire);
        before.open(&mut wire, &mut Vec::new(), |_| {}).unwrap();

        let mut record = Record::take_over(before.into_connection()).unwrap();

        assert_eq!(record.left_to_seal, RECORDS_PER_KEY - 3);
        let mut wire = Vec::new();
        say(&mut pair.client, b"there", 5, &mut wire);
        assert_eq!(open(&mut record, &mut wire).0, b"there");
        let mut wire = Vec::new();
        record.seal(b"and back", &mut wire).unwrap();
        assert_eq!(give(&mut pair.client, &wire), Ok(b"and back".to_vec()));
    }
}

#[test]
fn whole_records_are_counted() {
    let bytes = [23, 3, 3, 0, 2, 9, 9, 23, 3, 3, 0, 0, 23, 3, 3, 0, 1];
    for (len, records) in [(0, 0), (6, 0), (7, 1), (11, 1), (12, 2), (17, 2)] {
        assert_eq!(count(&bytes[..len]), records, "{len}");
    }
}

#[test]
fn no_secret_is_shown() {
    let (_, record) = talk(Suite::Aes128);
    assert_eq!(format!("{record:?}"), "Record { phase: Open, .. }");
}

/// Scripts of noise, the same each time: `fuzz/` has more.
#[test]
fn whatever_is_said_is_read_or_the_connection_ends() {
    for seed in 0..200_u64 {
        let mut script = noise_of(seed, 120);
        script[0] = seed.to_le_bytes()[0];
        tls_record(&script);
    }
}

fn talk(suite: Suite) -> (rustls::ClientConnection, Record) {
    let pair = Pair::new(suite);
    (pair.client, Record::take_over(*pair.server).unwrap())
}

fn open(record: &mut Record, bytes: &mut [u8]) -> (Vec<u8>, Result<Opened, Fault>) {
    let mut read = Vec::new();
    let opened = record.open(bytes, Time::ZERO, &mut Vec::new(), |_, plaintext| {
        read.extend_from_slice(plaintext);
    });
    (read, opened)
}

fn noise(len: usize) -> Vec<u8> {
    noise_of(7, len)
}

fn noise_of(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}
