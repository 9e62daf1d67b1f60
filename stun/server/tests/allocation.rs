//! The allocator counts: no datagram costs the server an allocation.
#![expect(unsafe_code, reason = "a global allocator cannot be written without")]
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "../../../derp/relay/tests/support/uninterrupted.rs"]
mod uninterrupted;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stun::message::TransactionId;
use stun::request;
use stun_server::{Running, Server};
use uninterrupted::uninterrupted;

/// Passes everything on to the system's allocator and counts over all threads; this file has
/// one test, so nothing else runs beside the server.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every method hands its arguments unchanged to the system's allocator, whose contract
// is the same; counting is an atomic addition.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PATIENCE: Duration = Duration::from_secs(60);

/// How often the allocations are counted.
const ROUNDS: usize = 5;

/// STUN-5.12: answers, garbage and pauses, in both families: all without an allocation.
#[test]
fn no_datagram_costs_the_server_an_allocation() {
    let server = Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .listen("[::1]:0".parse().unwrap())
        .threads(NonZero::new(2).unwrap())
        .start()
        .unwrap();
    let [v4, v6] = server.addresses() else { panic!("two addresses") };
    let request = request::encode(TransactionId::new([7; 12]));
    let clients = || [client("127.0.0.1:0", *v4), client("[::1]:0", *v6)];
    let exchange = |clients: &[UdpSocket]| {
        for client in clients {
            client.send(b"garbage").unwrap();
            client.send(&[0x55; 5_000]).unwrap();
            client.send(&request).unwrap();
            uninterrupted(|| client.recv(&mut [0; 64])).unwrap();
        }
    };
    // Every thread must have made its buffers.
    while server.thread_counters().any(|counters| counters.success == 0) {
        exchange(&clients());
    }
    let clients = clients();

    // The harness's own thread may still be at work beside the first round; a datagram that costs
    // an allocation costs it in every round.
    let least = (0..ROUNDS).map(|_| allocations_of_a_round(&server, &clients, &exchange)).min();

    assert_eq!(least, Some(0));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    drop(std::hint::black_box(Box::new(0_u8)));
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before, "the counter must count at all");
    server.stop();
}

/// Allocations of all threads while the server answers, ignores and pauses.
fn allocations_of_a_round(
    server: &Running,
    clients: &[UdpSocket],
    exchange: &impl Fn(&[UdpSocket]),
) -> u64 {
    let (before, paused) = (ALLOCATIONS.load(Ordering::Relaxed), server.counters().paused);
    for _ in 0..500 {
        exchange(clients);
    }
    server.pause();
    for client in clients {
        client.send(&request::encode(TransactionId::new([7; 12]))).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    while server.counters().paused < paused + 2 {
        assert!(Instant::now() < deadline, "{:?}", server.counters());
        std::thread::yield_now();
    }
    server.resume();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

fn client(local: &str, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(local).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}
