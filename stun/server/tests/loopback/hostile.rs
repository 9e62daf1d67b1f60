//! Garbage, giants and crowds.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use stun::message::TransactionId;
use stun::{fingerprint, request};
use stun_server::Rule;
use stun_server::limits::MAX_DATAGRAM_LEN;

use crate::client::{Client, LOOPBACK, address, await_counters, quiet, server, stop_in_time};

/// STUN-5.5, STUN-5.7, fault-D32: after a flood of everything but STUN, and during it, clients
/// are answered, and every datagram that was read is accounted for.
#[test]
fn garbage_flood_does_not_stop_the_server() {
    for rule in [Rule::Tailnode, Rule::Generic] {
        for listen in LOOPBACK {
            let server = server(listen, 2).rule(rule).start().unwrap();
            let to = address(&server);
            thread::scope(|scope| {
                for seed in 1..=4_u64 {
                    scope.spawn(move || {
                        let client = Client::new(listen, to);
                        let mut noise = Noise(seed);
                        for _ in 0..3_000 {
                            client.send(&noise.datagram());
                        }
                    });
                }
                scope.spawn(|| Client::new(listen, to).ask_until_answered());
            });

            Client::new(listen, to).ask_until_answered();

            let counters = await_counters(&server, |c| c.success >= 2 && c.not_stun > 0);
            assert_eq!(counters.ipv4 + counters.ipv6, counters.success + counters.write_error);
            assert_eq!((counters.read_error, server.live_threads()), (0, 2));
        }
    }
}

/// STUN-5.10: a request up to the limit is answered, a longer one is not, even if what is kept of
/// it is a right request, and neither is the longest that UDP carries.
#[test]
fn oversized_request_is_not_answered() {
    for listen in LOOPBACK {
        let server = server(listen, 1).start().unwrap();
        let mut client = Client::new(listen, address(&server));

        client.send(&request_of(MAX_DATAGRAM_LEN));
        client.receive();
        client.send(&request_of(MAX_DATAGRAM_LEN + 4));
        client.send(&[request_of(MAX_DATAGRAM_LEN), vec![0]].concat());
        client.send(&request_of(65_504));
        client.send(&[]);

        await_counters(&server, |counters| counters.not_stun == 4);
        client.expect_silence();
        client.ask();
    }
}

/// STUN-5.12: no client leaves anything behind, however many there are.
#[test]
fn crowd_of_sources_is_answered() {
    let v4 = server("127.0.0.1:0", 2).start().unwrap();
    for source in 0..2_000_u32 {
        let ip = Ipv4Addr::from_bits(0x7f01_0000 + source * 13);
        Client::new(&SocketAddr::from((ip, 0)).to_string(), address(&v4)).ask();
    }
    await_counters(&v4, |counters| counters.ipv4 == 2_000);

    let v6 = server("[::1]:0", 2).start().unwrap();
    for _ in 0..2_000 {
        Client::new("[::1]:0", address(&v6)).ask();
    }
    await_counters(&v6, |counters| counters.ipv6 == 2_000);
}

/// STUN-5.9: a server under full load stops as well as an idle one.
#[test]
fn server_stops_during_a_flood() {
    for listen in LOOPBACK {
        // Where no other test's server comes next, which would get the rest of the flood.
        let to = quiet(listen);
        let server = server(&to.to_string(), 2).start().unwrap();
        let client = Client::new(listen, to);
        let flood = thread::spawn(move || {
            // Ends when the server's socket is gone: the kernel then refuses.
            let socket = std::net::UdpSocket::bind(listen).unwrap();
            socket.connect(to).unwrap();
            while socket.send(&[0x55; 100]).is_ok() {}
        });
        await_counters(&server, |counters| counters.not_stun > 1_000);

        let last = stop_in_time(server);

        assert!(last.not_stun > 1_000);
        flood.join().unwrap();
        client.expect_silence();
    }
}

/// A right request of exactly `len` bytes.
fn request_of(len: usize) -> Vec<u8> {
    let mut bytes = request::encode(TransactionId::new([9; 12]))[..32].to_vec();
    let filler = len - bytes.len() - 4 - fingerprint::ATTRIBUTE_LEN;
    bytes.extend([0x80, 0x01]);
    bytes.extend(u16::try_from(filler).unwrap().to_be_bytes());
    bytes.resize(bytes.len() + filler, 0);
    let crc = fingerprint::compute(&bytes);
    bytes.extend([0x80, 0x28, 0x00, 0x04]);
    bytes.extend(crc.to_be_bytes());
    assert_eq!(bytes.len(), len);
    bytes
}

/// Xorshift: random enough to be garbage, and the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Mostly short, now and then as long as UDP allows; half with the marks of STUN in front.
    fn datagram(&mut self) -> Vec<u8> {
        let most = if self.next().is_multiple_of(64) { 65_507 } else { 128 };
        let len = usize::try_from(self.next() % most).unwrap();
        let mut bytes = (0..len).map(|_| self.next().to_be_bytes()[0]).collect::<Vec<_>>();
        if self.next().is_multiple_of(2) && len >= 20 {
            // Never a whole header of the generic rule: the length is odd.
            bytes[..8].copy_from_slice(&[0, 1, 0, 1, 0x21, 0x12, 0xa4, 0x42]);
        }
        bytes
    }
}
