//! A receiver that does not read, and what it may cost: not memory, not other flows, and not one
//! packet that is not accounted for.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use derp::frame::{self, DISCO_MAGIC, Kind};
use derp::key::NodePublic;

use crate::NOTHING;
use crate::support::peer::{Peer, Way, private, read_frame};
use crate::support::process::Program;
use crate::support::{HOSTS, eventually};

const SENDERS: u32 = 20;

/// Bytes that each sender offers: all together far more than may be held.
const OFFERED: usize = 8 * 1024 * 1024;

/// Bytes in most packets; every tenth is disco, and shorter.
const PACKET: usize = 1_200;

/// Most that the relay may grow by: four queues and some slack, less than half of what is offered.
const MOST_GROWTH: usize = 4 * derp::limits::DEFAULT_QUEUE_BYTES + 64 * 1024 * 1024;

/// DERP-5.3, DERP-5.4, DERP-5.6, check-F20, check-F21: twenty senders flood a receiver that does
/// not read. Memory stays bounded, two others lose nothing, and in the end in = out + dropped.
#[test]
fn a_receiver_that_does_not_read_hurts_nobody_else() {
    for (host, way, shards) in [
        (HOSTS[0], Way::Plain, "1"),
        (HOSTS[1], Way::Plain, "3"),
        (HOSTS[0], Way::Tls13, "3"),
        (HOSTS[1], Way::Tls12, "1"),
    ] {
        flood(host, way, shards);
    }
}

fn flood(host: IpAddr, way: Way, shards: &str) {
    let state = tempfile::tempdir().unwrap();
    let mut relay = Program::serve(host, way, state.path(), &["--shards", shards]);
    let derp = relay.address("derp");
    let receiver = Peer::connect(derp, way, 1_000);
    let victim = receiver.key;
    let mut one = Peer::connect(derp, way, 1);
    let mut two = Peer::connect(derp, way, 2);
    let senders: Vec<_> = (0..SENDERS).map(|n| Peer::connect(derp, way, 100 + n)).collect();
    let before = relay.memory();

    // What the test itself knows of packets and their bytes.
    let (sent, arrived) = (Balance::default(), Balance::default());
    let mut peak = before;
    std::thread::scope(|scope| {
        let floods: Vec<_> =
            senders.into_iter().map(|sender| scope.spawn(|| pour(sender, victim, &sent))).collect();
        while floods.iter().any(|flood| !flood.is_finished()) {
            for _ in 0..20 {
                let packet = [7; 1_000];
                one.send_packet(&two.key, &packet);
                assert_eq!(two.packet(), (one.key, packet.to_vec()), "lost or out of order");
                two.send_packet(&one.key, &packet);
                assert_eq!(one.packet(), (two.key, packet.to_vec()), "lost or out of order");
                sent.add(2, 2_000);
                arrived.add(2, 2_000);
            }
            peak = peak.max(relay.memory());
        }
    });

    assert!(peak - before < MOST_GROWTH, "grew by {} MiB", (peak - before) >> 20);
    let drops = |kind: &str| -> f64 {
        let named = |reason: &str| {
            relay.metric(&format!(r#"derp_packets_dropped{{reason="{reason}",kind="{kind}"}}"#))
        };
        assert_eq!(named("unknown_dest") + named("gone_disconnected"), 0.0);
        ["queue_head", "queue_age", "queue_delay", "queue_total", "shard_ring"]
            .map(named)
            .into_iter()
            .sum()
    };
    assert!(drops("disco") > 0.0 && drops("other") > 0.0);
    // Nobody waits for the victim; then it wakes up and reads what it was left.
    balances_when_read(&relay, receiver, &sent, &arrived);
    relay.is_unharmed();
}

/// DERP-5.6: once all is read, every packet that was sent has arrived or is counted as dropped,
/// and so has every byte.
fn balances_when_read(relay: &Program, receiver: Peer, sent: &Balance, arrived: &Balance) {
    let sum = |scrape: &str, family: &str| -> u64 {
        let lines = scrape.lines().filter(|line| line.starts_with(family));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let mut stream = receiver.stream;
    let socket = stream.socket().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Ok(frame) = read_frame(&mut *stream) {
                if frame.kind == Kind::RecvPacket as u8 {
                    arrived.add(1, frame.body.len() - 32);
                }
            }
        });
        eventually("in = out + dropped, and nothing waits", || {
            let scrape = relay.scrape();
            let of = |family| sum(&scrape, family);
            let packets = (of("derp_packets_received "), of("derp_packets_sent "));
            let bytes = (of("derp_bytes_received "), of("derp_bytes_sent "));
            let dropped = (of("derp_packets_dropped{"), of("derp_bytes_dropped{"));
            let (sent, arrived) = (sent.get(), arrived.get());
            let holds = packets == (sent.0, arrived.0)
                && bytes == (sent.1, arrived.1)
                && dropped == (sent.0 - arrived.0, sent.1 - arrived.1)
                && of("derp_packets_queued ") == 0;
            holds.then_some(()).ok_or((sent, arrived, packets, bytes, dropped))
        });
        // Ends the reader.
        drop(socket.shutdown(std::net::Shutdown::Both));
    });
}

/// Sends as fast as the relay takes it.
fn pour(mut sender: Peer, victim: NodePublic, sent: &Balance) {
    let mut disco = vec![0; 200];
    disco[..6].copy_from_slice(&DISCO_MAGIC);
    let other = vec![0x5a; PACKET];
    let mut batch = Vec::new();
    let (mut packets, mut bytes, mut poured) = (0, 0, 0);
    while poured < OFFERED {
        let packet = if packets % 10 == 0 { &disco } else { &other };
        frame::encode(Kind::SendPacket, &[victim.as_bytes(), packet], &mut batch);
        packets += 1;
        bytes += packet.len();
        if batch.len() > 32 * 1024 {
            poured += batch.len();
            sender.write(&batch);
            batch.clear();
        }
    }
    sender.write(&batch);
    // All of it is taken when the answer to this is there.
    sender.is_up();
    sent.add(packets, bytes);
}

/// Packets and their bytes.
#[derive(Default)]
struct Balance {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Balance {
    fn add(&self, packets: u64, bytes: usize) {
        self.packets.fetch_add(packets, Ordering::SeqCst);
        self.bytes.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    fn get(&self) -> (u64, u64) {
        (self.packets.load(Ordering::SeqCst), self.bytes.load(Ordering::SeqCst))
    }
}

/// DERP-5.4: who takes no byte for half a minute while something waits is closed; the sender is
/// not, and neither is who reads now and then.
#[test]
#[ignore = "stress: takes 35 s"]
fn stress_a_stalled_receiver_is_closed_after_half_a_minute() {
    let runs = HOSTS.map(|host| [Way::Plain, Way::Tls13].map(|way| (host, way)));
    std::thread::scope(|scope| {
        for (host, way) in runs.into_iter().flatten() {
            scope.spawn(move || stall(host, way));
        }
    });
}

fn stall(host: IpAddr, way: Way) {
    let state = tempfile::tempdir().unwrap();
    let mut relay = Program::serve(host, way, state.path(), NOTHING);
    let derp = relay.address("derp");
    let stalled = Peer::connect(derp, way, 1);
    let mut slow = Peer::connect(derp, way, 2);
    let mut sender = Peer::connect(derp, way, 3);
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let slow_key = slow.key;
    let reader = std::thread::spawn(move || {
        // A frame of 16 KiB every 100 ms: far less than is sent, but something.
        while !until.load(Ordering::Acquire) {
            slow.read();
            std::thread::sleep(Duration::from_millis(100));
        }
        slow
    });

    let begun = Instant::now();
    let closed = r#"derp_connections_closed{reason="stalled"}"#;
    let packet = vec![1; 16 * 1024];
    while relay.metric(closed) == 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "never closed");
        for _ in 0..8 {
            sender.send_packet(&stalled.key, &packet);
            sender.send_packet(&slow_key, &packet);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = begun.elapsed();

    assert!(took > Duration::from_secs(29), "{took:?}");
    over.store(true, Ordering::Release);
    sender.is_up();
    drop(reader.join().unwrap());
    assert_eq!(relay.metric(closed), 1.0);
    // It finds what was under way, and then the end.
    let mut stream = stalled.stream;
    while read_frame(&mut *stream).is_ok() {}
    relay.is_unharmed();
}

/// DERP-2.9: half a frame holds memory for half a minute at most; a frame that comes slowly and
/// is whole in time passes, and one that is skipped anyway may stay half for ever.
#[test]
#[ignore = "stress: takes 35 s"]
fn stress_a_half_frame_is_waited_for_half_a_minute() {
    std::thread::scope(|scope| {
        for host in HOSTS {
            for way in [Way::Plain, Way::Tls13] {
                scope.spawn(move || half_frames(host, way));
            }
        }
    });
}

fn half_frames(host: IpAddr, way: Way) {
    let state = tempfile::tempdir().unwrap();
    let relay = Program::serve(host, way, state.path(), NOTHING);
    let derp = relay.address("derp");
    let mut whole = Vec::new();
    frame::encode(Kind::SendPacket, &[private(1).public().as_bytes(), b"slow"], &mut whole);
    let [mut header, mut half, mut slow, mut skipped] =
        [1, 2, 3, 4].map(|number| Peer::connect(derp, way, number));
    let mut receiver = Peer::connect(derp, way, 1);
    header.write(&whole[..3]);
    half.write(&whole[..20]);
    // Four gigabytes of a kind that nobody knows, of which a little comes.
    skipped.write(&[0x7f, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);

    let begun = Instant::now();
    for (number, byte) in whole.iter().enumerate() {
        slow.write(&[*byte]);
        if number % 2 == 0 {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    assert_eq!(receiver.packet().1, b"slow");
    slow.is_up();
    for closed in [&mut header, &mut half] {
        closed.stream.socket().set_read_timeout(Some(Duration::from_secs(90))).unwrap();
        closed.is_closed();
    }
    let took = begun.elapsed();

    assert!((29..90).contains(&took.as_secs()), "{took:?}");
    relay.counts(r#"derp_connections_closed{reason="half_frame"}"#, 2);
    skipped.write(&[0; 100]);
    relay.counts("derp_current_connections", 3);
}
