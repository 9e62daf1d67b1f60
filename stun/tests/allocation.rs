//! The allocator counts: no datagram, answered or not, costs an allocation.
#![expect(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use stun::binding::{MAX_REPLY_LEN, Rule, respond};
use stun::message::TransactionId;
use stun::{request, response};

/// Passes everything on to the system's allocator and counts per thread, so that the threads of
/// the test harness do not disturb.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every method hands its arguments unchanged to the system's allocator, whose contract
// is the same; counting touches a thread-local cell that needs no allocation of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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

/// STUN-2.5: requests, refusals, garbage and the client's side: all without an allocation.
#[test]
fn no_datagram_costs_an_allocation() {
    let id = TransactionId::new([7; 12]);
    let request = request::encode(id);
    let mut refused = request;
    refused[20..22].copy_from_slice(&[0x7f, 0xff]);
    let mut wrong = request;
    wrong[39] ^= 1;
    let garbage = [0x55; 2_048];
    let sources = ["192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()];
    let mut out = [0; MAX_REPLY_LEN];

    let before = ALLOCATIONS.get();
    for datagram in [&request[..], &request[..20], &refused, &wrong, &garbage, &[]] {
        for source in sources {
            for rule in [Rule::Tailnode, Rule::Generic] {
                black_box(respond(black_box(datagram), source, rule, &mut out));
                black_box(response::decode(&out)).ok();
            }
        }
    }
    black_box(request::encode(black_box(id)));
    let after = ALLOCATIONS.get();

    assert_eq!(after, before);
    drop(black_box(Box::new(0_u8)));
    assert_eq!(ALLOCATIONS.get(), after + 1, "the counter must count at all");
}
