//! How often machines may register.

use std::collections::BTreeMap;
use std::time::Duration;

use coord_bridge::provisioning::limits::{Buckets, Limits, MAX_BUCKETS, Rate};
use coord_bridge::provisioning::refusal::Refusal;

use crate::bench::Bench;

/// When the installer tries: six times, with ten seconds between.
const TRIES: [u64; 6] = [0, 10, 20, 30, 40, 50];

const DEFAULT: Rate = Rate { burst: 10, window: Duration::from_secs(60) };

/// O3.1, O3.5, W14, T2: with the default limits and the client's own schedule, 16 machines behind
/// one address that boot at once all get in; so do 18, and not one more.
#[tokio::test]
async fn sixteen_machines_that_boot_at_once_all_get_in() {
    for (machines, admitted) in [(12, 12), (16, 16), (18, 18), (19, 18)] {
        let bench = Bench::new();
        let mut outside: Vec<usize> = (0..machines).collect();
        let mut last = 0;
        for second in TRIES {
            bench.clock.advance(Duration::from_secs(second - last));
            last = second;
            let mut still = Vec::new();
            for n in outside {
                match bench.register(&format!("m{n}")).await {
                    Ok(_) => {}
                    Err(refusal @ Refusal::TooMany(_)) => {
                        assert_eq!(refusal.status(), 429);
                        assert!((1..=60).contains(&refusal.retry_after().unwrap()));
                        still.push(n);
                    }
                    Err(refusal) => panic!("{refusal:?}"),
                }
            }
            outside = still;
        }
        assert_eq!(machines - outside.len(), admitted);
        assert_eq!(bench.machines().await.len(), admitted);
    }
}

/// Whoever comes again when told to gets in.
#[test]
fn whoever_waits_as_long_as_told_gets_in() {
    let mut limits = Limits::new(DEFAULT);
    let address = "192.0.2.1".parse().unwrap();
    let mut now = Duration::ZERO;
    for _ in 0..10 {
        limits.admit(address, "t", now).unwrap();
    }
    for _ in 0..100 {
        let wait = limits.admit(address, "t", now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(6));
        let early = now + wait - Duration::from_millis(1);
        limits.admit(address, "t", early).unwrap_err();
        now += wait;
        limits.admit(address, "t", now).unwrap();
    }
}

/// one address, one token, all together; each bound shows where the others have room.
#[test]
fn addresses_tokens_and_all_together_are_bounded() {
    let address = |n: u32| std::net::IpAddr::V4((0xc000_0200 + n).into());
    let mut limits = Limits::new(DEFAULT);
    let admitted = (0..1_000).filter(|n| limits.admit(address(*n), "t", Duration::ZERO).is_ok());
    assert_eq!(admitted.count(), 40, "one token from many addresses");
    let mut limits = Limits::new(DEFAULT);
    let admitted =
        (0..1_000).filter(|n| limits.admit(address(*n), &n.to_string(), Duration::ZERO).is_ok());
    assert_eq!(admitted.count(), 160, "many tokens from many addresses");
    let mut limits = Limits::new(DEFAULT);
    let one_host = |n: u32| format!("2001:db8::{n:x}").parse().unwrap();
    let admitted =
        (0..1_000).filter(|n| limits.admit(one_host(*n), &n.to_string(), Duration::ZERO).is_ok());
    assert_eq!(admitted.count(), 10, "one host has a whole /64");
}

/// Against a bucket that is counted out, not computed.
#[test]
fn a_bucket_is_what_it_says() {
    let rate = Rate { burst: 4, window: Duration::from_secs(8) };
    let mut buckets = Buckets::new(rate);
    let (mut tokens, mut counted_at) = (4.0_f64, 0.0_f64);
    let mut admitted = 0;
    // Moments that look random and are not.
    let mut moment = 0_u64;
    for step in 0..2_000_u64 {
        moment += (step * 7_919) % 3_000;
        let seconds = Duration::from_millis(moment).as_secs_f64();
        tokens = (tokens + (seconds - counted_at) / 2.0).min(4.0);
        counted_at = seconds;
        let now = Duration::from_millis(moment);
        let is_admitted = buckets.wait(&(), now) == Duration::ZERO;
        assert_eq!(is_admitted, tokens >= 1.0 - 1e-9, "at {moment} ms with {tokens}");
        if is_admitted {
            buckets.take((), now);
            tokens -= 1.0;
            admitted += 1;
        }
    }
    assert!(admitted > 500);
}

/// W13: memory is bounded, and it is the idle that are forgotten.
#[test]
fn more_strangers_than_buckets_push_out_the_idle() {
    let mut buckets = Buckets::new(DEFAULT);
    let busy = usize::MAX;
    for _ in 0..10 {
        buckets.take(busy, Duration::ZERO);
    }
    for n in 0..3 * MAX_BUCKETS {
        buckets.take(n, Duration::from_secs(1));
        assert!(buckets.len() <= MAX_BUCKETS);
    }
    assert!(buckets.wait(&busy, Duration::from_secs(1)) > Duration::ZERO);
}

/// W12: wrong tokens are limited by address, and never use up what machines have.
#[tokio::test]
async fn wrong_tokens_are_limited_and_cost_machines_nothing() {
    let bench = Bench::new();
    let mut answers = BTreeMap::<u16, usize>::new();
    for _ in 0..30 {
        let wrong = bench.register_as("a-wrong-token-of-some-kind", "192.0.2.1", "one").await;
        *answers.entry(wrong.unwrap_err().status()).or_default() += 1;
    }
    assert_eq!(answers, BTreeMap::from([(401, 10), (429, 20)]));
    // From the same address, and with the whole burst.
    for n in 0..10 {
        bench.register(&format!("m{n}")).await.unwrap();
    }
    let other = bench.register_as("a-wrong-token-of-some-kind", "192.0.2.2", "one").await;
    assert_eq!(other.unwrap_err(), Refusal::Unauthorized);
}

/// What strangers do cannot fill the log or the store.
#[tokio::test]
async fn a_flood_of_strangers_leaves_few_rows() {
    let bench = Bench::new();
    for n in 0..500 {
        let address = format!("198.51.{}.{}", n / 250, n % 250);
        bench.register_as("a-wrong-token-of-some-kind", &address, "one").await.unwrap_err();
    }
    let rows = bench.store.read(|s| coord_bridge::store::events::newest(s, 1_000)).await.unwrap();
    assert_eq!(rows.len(), 60);
}
