//! How long lists and scrapes take with 10,000 machines. Prints, and asserts nothing of time.
//!
//! `cargo test --release -p coord-bridge --test admin -- --ignored --nocapture list_time`

use std::time::{Duration, Instant};

use crate::client::get;
use crate::operations::many;
use crate::running::{Running, request};
use crate::sessions::Session;

/// Times that each is asked for.
const ROUNDS: usize = 20;

#[test]
#[ignore = "a bench; see the head of this file"]
#[expect(clippy::print_stdout, reason = "what a bench is for")]
fn list_time_of_ten_thousand_machines() {
    let running = Running::of(many(10_000), None);
    let token = format!("Authorization: Bearer {}\r\n", running.bench.admin_token());
    let all_pages = || {
        let mut path = "/api/v1/machines?limit=1000".to_owned();
        loop {
            let page = crate::running::json(&running.get(&path));
            let Some(next) = page["next_cursor"].as_str() else { break };
            path = format!("/api/v1/machines?limit=1000&cursor={next}");
        }
    };
    let page = |query: &str| {
        let path = format!("/api/v1/machines?{query}");
        assert_eq!(running.get(&path).status, 200);
    };
    let listed = || {
        let answer = request(running.register, "GET", "/machines", &token, b"");
        assert_eq!(answer.status, 200);
    };
    println!("each {ROUNDS} times over loopback; median, worst");
    print("GET /machines, all 10,000", listed);
    print("GET /api/v1/machines, 10 pages of 1,000", all_pages);
    print("GET /api/v1/machines, one page of 100", || page("limit=100"));
    print("GET /api/v1/machines, the last page of 100", || {
        page("limit=100&cursor=1767225600989.09899");
    });
    print("GET /api/v1/machines?query, 1 of 10,000 found", || page("query=host-09999"));
    let session = Session::open(&running);
    print("the page of machines, 100 of 10,000", || {
        assert_eq!(session.get("/machines").status, 200);
    });
    print("the page of machines, the last 100", || {
        assert_eq!(session.get("/machines?cursor=1767225600989.09899").status, 200);
    });
    print("the page of machines, 1 of 10,000 found", || {
        assert_eq!(session.get("/machines?query=host-09999").status, 200);
    });
    print("the overview", || assert_eq!(session.get("/").status, 200));
    print("GET /api/v1/status", || assert_eq!(running.get("/api/v1/status").status, 200));
    print("GET /metrics", || assert_eq!(get(running.metrics, "/metrics").status, 200));
}

#[expect(clippy::print_stdout, reason = "what a bench is for")]
fn print(what: &str, work: impl Fn()) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!("{what}: {:.1?}, {:.1?}", times[ROUNDS / 2], times[ROUNDS - 1]);
}
