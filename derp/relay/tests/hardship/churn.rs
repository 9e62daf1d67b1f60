//! Clients that come and go all the time leave nothing behind.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::SockRef;

use crate::relays;
use crate::support::peer::{Peer, UPGRADE, Way, dial, private, upgrade};
use crate::support::process::Program;
use crate::support::{HOSTS, Noise, eventually};

/// A thousand connections that end at every possible point: none is left, and no descriptor.
#[test]
fn a_thousand_connections_leave_nothing_behind() {
    for (host, way) in HOSTS.into_iter().zip([Way::Tls13, Way::Plain]) {
        let state = tempfile::tempdir().unwrap();
        let mut relay = Program::serve(host, way, state.path(), &["--shards", "2"]);
        let derp = relay.address("derp");
        relays(&relay, way);
        left_nothing(&relay);
        let base = eventually("a base count", || {
            let now = relay.descriptors();
            std::thread::sleep(Duration::from_millis(100));
            (relay.descriptors() == now).then_some(now).ok_or(now)
        });

        std::thread::scope(|scope| {
            for first in [0, 10_000, 20_000, 30_000] {
                scope.spawn(move || {
                    for number in first..first + 250 {
                        come_and_go(derp, way, number);
                    }
                });
            }
        });

        left_nothing(&relay);
        eventually("all descriptors are back", || {
            let now = relay.descriptors();
            (now <= base).then_some(()).ok_or((now, base))
        });
        relays(&relay, way);
        relay.is_unharmed();
    }
}

/// DERP-6.2, check-P10: an end that arrives together with the last packets is seen at once, also
/// one without a goodbye: who has heard from the client is told, whichever comes first at the relay.
#[test]
fn an_end_that_comes_with_the_last_words_is_seen() {
    for host in HOSTS {
        for way in [Way::Plain, Way::Tls12, Way::Tls13] {
            let state = tempfile::tempdir().unwrap();
            let relay = Program::serve(host, way, state.path(), &["--shards", "2"]);
            let derp = relay.address("derp");
            let mut receiver = Peer::connect(derp, way, 1);
            for round in 0..50_usize {
                let mut leaver = Peer::connect(derp, way, 2);
                let packet = vec![1; round * 100];

                leaver.send_packet(&receiver.key, &packet);
                leaver.stream.socket().shutdown(Shutdown::Write).unwrap();

                assert_eq!(receiver.packet(), (leaver.key, packet));
                let gone = [leaver.key.as_bytes().as_slice(), &[0]].concat();
                assert_eq!(receiver.read().body, gone);
            }
            relay.counts("derp_current_connections", 1);
        }
    }
}

/// DERP-7.1 to DERP-7.5: three hundred connections of one key, which come at once, leave in any
/// order and come again: at every rest there is one key, one of them gets a packet, and when the
/// last has left the key is gone, once.
#[test]
fn a_storm_of_duplicates_ends_consistent() {
    for (host, way) in [(HOSTS[0], Way::Plain), (HOSTS[1], Way::Tls13)] {
        let state = tempfile::tempdir().unwrap();
        let mut relay = Program::serve(host, way, state.path(), &["--shards", "3"]);
        let derp = relay.address("derp");
        let mut sender = Peer::connect(derp, way, 1);
        let mut noise = Noise::new(7);

        let mut storm = connect_many(derp, way, 300);
        consistent(&relay, &mut sender, &mut storm, 300);

        // Half of them leave, and as many come, at the same time.
        for _ in 0..2 {
            let mut leaving: Vec<Peer> = Vec::new();
            for _ in 0..150 {
                leaving.push(storm.swap_remove(noise.below(storm.len())));
            }
            std::thread::scope(|scope| {
                scope.spawn(move || leaving.into_iter().for_each(leave));
                storm.extend(connect_many(derp, way, 150));
            });
            consistent(&relay, &mut sender, &mut storm, 300);
        }

        // Down to two, and to one.
        while storm.len() > 2 {
            leave(storm.swap_remove(noise.below(storm.len())));
        }
        consistent(&relay, &mut sender, &mut storm, 2);
        leave(storm.swap_remove(0));
        consistent(&relay, &mut sender, &mut storm, 1);

        // The last one speaks, so that its departure concerns the sender.
        let [mut last] = <[Peer; 1]>::try_from(storm).unwrap_or_else(|_| panic!("one"));
        last.send_packet(&sender.key, b"goodbye");
        assert_eq!(sender.packet().1, b"goodbye");
        let gone = [last.key.as_bytes().as_slice(), &[0]].concat();
        drop(last);
        assert_eq!(sender.read().body, gone);
        // Once, and nothing else.
        sender.is_up();
        relay.counts("derp_clients_total", 1);
        relay.counts("derp_current_connections", 1);
        relay.is_unharmed();
    }
}

/// Logs in many times with one key, on several threads.
fn connect_many(derp: SocketAddr, way: Way, count: u32) -> Vec<Peer> {
    std::thread::scope(|scope| {
        let threads = 6;
        let connect = move |_| Peer::connect(derp, way, 5);
        let some = move || (0..count / threads).map(connect).collect::<Vec<_>>();
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        started.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Holds that all of `storm` are known as one key, and that one of them, whichever, gets what is
/// sent to it.
fn consistent(relay: &Program, sender: &mut Peer, storm: &mut [Peer], count: u32) {
    let duplicates = if count > 1 { (1, count) } else { (0, 0) };
    relay.counts("derp_current_connections", count + 1);
    relay.counts("derp_clients_total", 2);
    relay.counts("derp_current_dup_client_keys", duplicates.0);
    relay.counts("derp_current_dup_client_conns", duplicates.1);
    let key = storm[0].key;
    // Which one is active is settled between threads: what comes too early is lost, or reaches
    // one that was active then.
    eventually("one gets the latest packet", || {
        let latest = NEXT_PACKET.fetch_add(1, Ordering::Relaxed);
        sender.send_packet(&key, &latest.to_be_bytes());
        std::thread::sleep(Duration::from_millis(50));
        let mut got_it = 0;
        for peer in &mut *storm {
            while has_bytes(peer) {
                let (from, packet) = peer.packet();
                let number = u32::from_be_bytes(packet.try_into().unwrap());
                assert!(from == sender.key && number <= latest, "{number} of {latest}");
                got_it += u32::from(number == latest);
            }
        }
        assert!(got_it < 2, "{got_it} got the packet");
        if got_it == 1 { Ok(()) } else { Err("nobody") }
    });
}

/// Number of the next packet of a sender: no two are alike.
static NEXT_PACKET: AtomicU32 = AtomicU32::new(0);

/// Whether there is something to read, in the socket or behind it.
fn has_bytes(peer: &mut Peer) -> bool {
    let tls = peer.stream.tls().map(|tls| tls.process_new_packets().unwrap());
    if tls.is_some_and(|state| state.plaintext_bytes_to_read() > 0) {
        return true;
    }
    let socket = peer.stream.socket();
    socket.set_nonblocking(true).unwrap();
    let peeked = socket.peek(&mut [0]);
    socket.set_nonblocking(false).unwrap();
    peeked.is_ok()
}

/// Leaves by a reset or by an end, in turn.
fn leave(peer: Peer) {
    let socket = peer.stream.socket();
    if socket.local_addr().unwrap().port().is_multiple_of(2) {
        reset_at_end(socket);
    }
    drop(peer);
}

/// Connects and ends somewhere on the way.
fn come_and_go(derp: SocketAddr, way: Way, number: u32) {
    match number % 6 {
        0 | 1 => leave(Peer::connect(derp, way, number)),
        2 => drop(TcpStream::connect(derp).unwrap()),
        3 => {
            let socket = TcpStream::connect(derp).unwrap();
            reset_at_end(&socket);
        }
        4 => {
            let mut stream = dial(derp, way);
            stream.write_all(&UPGRADE[..20]).unwrap();
            stream.flush().unwrap();
        }
        _ => {
            let mut stream = dial(derp, way);
            upgrade(&mut *stream);
            let mut half = vec![0x02, 0, 0, 0, 100];
            half.extend(private(number).public().as_bytes());
            stream.write_all(&half).unwrap();
            stream.flush().unwrap();
        }
    }
}

fn reset_at_end(socket: &TcpStream) {
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}

fn left_nothing(relay: &Program) {
    for gauge in [
        "derp_current_connections",
        "derp_clients_total",
        "derp_connections_pending",
        "derp_tls_handshakes",
        "derp_packets_queued",
        r#"derp_shard_connections{shard="0"}"#,
        r#"derp_shard_connections{shard="1"}"#,
    ] {
        relay.counts(gauge, 0);
    }
}
