//! Who is in, by rounds of probes and by heartbeats. No IO, no clock.

use std::time::{Duration, Instant};

use coord_bridge::publication::health::{
    Book, IN_AFTER, Move, OUT_AFTER, Probed, REMEMBERED_TIME, Turn,
};
use coord_bridge::relays::LiveNode;
use derp::map::{Node, Region};
use proptest::prelude::*;

use crate::{live, node, region};

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(15);

/// A book, with what it is told.
struct Case {
    book: Book,
    regions: Vec<Region>,
    live: Vec<LiveNode>,
    now: Instant,
}

impl Case {
    fn new(regions: Vec<Region>) -> Self {
        let mut case =
            Self { book: Book::default(), regions, live: Vec::new(), now: Instant::now() };
        case.set();
        case
    }

    fn set(&mut self) -> Vec<Move> {
        self.book.set(&self.regions, &self.live, Some(INTERVAL), self.now)
    }

    fn hear(&mut self, live: &[LiveNode]) -> Vec<Move> {
        self.live = live.to_vec();
        self.set()
    }

    /// One round in which exactly `bad` nodes do not work.
    fn round(&mut self, bad: &[&str]) -> Vec<Move> {
        self.round_after(INTERVAL, bad)
    }

    /// The same, some time after the one before.
    fn round_after(&mut self, pause: Duration, bad: &[&str]) -> Vec<Move> {
        let round: Vec<(Node, Probed)> = self
            .book
            .to_probe()
            .into_iter()
            .map(|node| {
                let is_bad = bad.contains(&node.name.as_str());
                (node, if is_bad { Err("refused".to_owned()) } else { Ok("works".to_owned()) })
            })
            .collect();
        self.now += pause;
        self.book.judge(&round, self.now)
    }

    fn rounds(&mut self, count: u32, bad: &[&str]) {
        for _ in 0..count {
            self.round(bad);
        }
    }

    fn within(&self) -> Vec<String> {
        self.book.members().into_iter().map(|member| member.node.name).collect()
    }
}

fn two() -> Case {
    Case::new(vec![region(999, vec![node(999, "a"), node(999, "b")])])
}

#[test]
fn configured_nodes_are_in_before_anything_is_probed() {
    assert_eq!(two().within(), ["a", "b"]);
}

#[test]
fn a_node_leaves_after_failures_in_a_row_and_returns_after_successes() {
    let mut case = two();
    case.rounds(OUT_AFTER - 1, &["b"]);
    case.round(&[]);
    case.rounds(OUT_AFTER - 1, &["b"]);
    assert_eq!(case.within(), ["a", "b"], "never {OUT_AFTER} in a row");
    case.round(&["b"]);
    assert_eq!(case.within(), ["a"]);

    case.rounds(IN_AFTER - 1, &[]);
    case.round(&["b"]);
    case.rounds(IN_AFTER - 1, &[]);
    assert_eq!(case.within(), ["a"], "never {IN_AFTER} in a row");
    case.round(&[]);
    assert_eq!(case.within(), ["a", "b"]);
}

/// Rounds come early when relays come and go: a restart of one is no reason to lose another.
#[test]
fn rounds_that_come_early_count_no_faster_than_those_in_time() {
    let early = Duration::from_secs(1);
    let mut case = two();
    for _ in 0..4 * OUT_AFTER {
        case.round_after(early, &["b"]);
    }
    assert_eq!(case.within(), ["a", "b"], "12 s are less than a round");
    assert!(case.book.entries()[1].last.as_ref().unwrap().is_err(), "and it is told");
    // Not for ever either: rounds that are always early count every 12 s.
    let mut took = Duration::from_secs(12);
    while case.within().len() == 2 {
        took += early;
        assert!(took < INTERVAL * OUT_AFTER, "never out");
        case.round_after(early, &["b"]);
    }
    assert_eq!(took, Duration::from_secs(25), "1, 13 and 25 s");

    // Nor does it come back faster.
    for _ in 0..12 {
        case.round_after(early, &[]);
    }
    assert_eq!(case.within(), ["a"]);
    case.round_after(early, &[]);
    assert_eq!(case.within(), ["a", "b"]);

    // What is new counts at once.
    case.round_after(early, &["b"]);
    case.rounds(OUT_AFTER - 1, &["b"]);
    assert_eq!(case.within(), ["a"]);
}

/// It is more likely that the bridge has lost its network.
#[test]
fn nobody_leaves_when_all_fail_at_once() {
    let mut case = two();
    case.hear(&[live(998, "l")]);
    case.round(&[]);
    assert_eq!(case.within(), ["a", "b", "l"]);

    case.rounds(OUT_AFTER - 1, &["a", "b", "l"]);
    let told = case.round(&["a", "b", "l"]);
    assert!(told.len() == 3 && told.iter().all(|it| it.turn == Turn::Kept), "{told:?}");
    for _ in 0..3 * OUT_AFTER {
        assert_eq!(case.round(&["a", "b", "l"]), [], "it is told once");
    }
    assert_eq!(case.within(), ["a", "b", "l"]);
    assert!(case.book.entries().iter().all(|entry| entry.is_kept()), "and it is told");

    // The network is back, and one of them really is dead.
    case.round(&["b"]);
    assert_eq!(case.within(), ["a", "l"]);
}

#[test]
fn the_last_node_never_leaves() {
    let mut case = two();
    case.rounds(OUT_AFTER, &["b"]);
    case.rounds(3 * OUT_AFTER, &["a", "b"]);
    assert_eq!(case.within(), ["a"]);
    assert!(case.book.entries()[0].is_kept());

    // Another one works again: now the last one may go.
    case.rounds(IN_AFTER, &["a"]);
    assert_eq!(case.within(), ["b"]);
}

#[test]
fn a_node_in_another_region_of_ours_is_a_witness() {
    let mut case =
        Case::new(vec![region(998, vec![node(998, "other")]), region(999, vec![node(999, "a")])]);
    case.rounds(OUT_AFTER, &["a"]);
    assert_eq!(case.within(), ["other"]);
}

/// What cannot be a home for clients is no reason to take their home away.
#[test]
fn what_cannot_be_a_home_is_no_witness() {
    let stun_only = Node { stun_only: true, ..node(999, "stun") };
    let mut case = Case::new(vec![
        Region { no_measure_no_home: true, ..region(998, vec![node(998, "never-home")]) },
        region(999, vec![node(999, "a"), stun_only]),
    ]);
    case.rounds(3 * OUT_AFTER, &["a"]);
    assert_eq!(case.within(), ["never-home", "a", "stun"]);
}

#[test]
fn a_live_node_enters_with_its_first_good_probe() {
    let mut case = two();
    case.hear(&[live(999, "l")]);
    assert_eq!(case.within(), ["a", "b"], "nobody has seen it work");
    case.rounds(2, &["l"]);
    assert_eq!(case.within(), ["a", "b"]);
    case.round(&[]);
    assert_eq!(case.within(), ["a", "b", "l"]);
}

/// Without waiting for failures in a row: its heartbeat is late by many seconds already.
#[test]
fn a_live_node_leaves_when_it_is_not_heard_of() {
    let mut case = two();
    case.hear(&[live(999, "l")]);
    case.round(&[]);
    case.hear(&[]);
    assert_eq!(case.within(), ["a", "b", "l"], "nobody else was seen to work since");
    case.round(&[]);
    assert_eq!(case.within(), ["a", "b"]);

    // Back at once: it has to show more than the first time.
    case.hear(&[live(999, "l")]);
    case.rounds(IN_AFTER - 1, &[]);
    assert_eq!(case.within(), ["a", "b"]);
    case.round(&[]);
    assert_eq!(case.within(), ["a", "b", "l"]);

    // Back after a long time: it is forgotten, and new.
    case.hear(&[]);
    case.round(&[]);
    case.now += REMEMBERED_TIME;
    case.set();
    assert_eq!(case.book.entries().len(), 2);
    case.hear(&[live(999, "l")]);
    case.round(&[]);
    assert_eq!(case.within(), ["a", "b", "l"]);
}

#[test]
fn a_live_node_stays_without_its_heartbeat_while_nobody_else_works() {
    let mut case = Case::new(vec![region(999, vec![node(999, "a")])]);
    case.hear(&[live(999, "l")]);
    case.rounds(OUT_AFTER, &["a"]);
    assert_eq!(case.within(), ["l"]);
    case.hear(&[]);
    case.rounds(OUT_AFTER, &["a"]);
    assert_eq!(case.within(), ["l"]);
    case.rounds(IN_AFTER, &[]);
    assert_eq!(case.within(), ["a"]);
}

#[test]
fn a_live_node_that_moves_replaces_itself_once_it_works_there() {
    let mut case = two();
    case.hear(&[live(999, "l")]);
    case.round(&[]);
    let mut moved = live(999, "l");
    moved.node.host_name = "elsewhere.example.org".to_owned();
    case.hear(&[moved]);
    let host = |case: &Case| {
        let members = case.book.members();
        let hosts: Vec<_> = members.into_iter().filter(|it| it.node.name == "l").collect();
        assert_eq!(hosts.len(), 1);
        hosts[0].node.host_name.clone()
    };
    assert_eq!(host(&case), "l.example.org");
    case.round(&[]);
    assert_eq!(host(&case), "elsewhere.example.org");
}

#[test]
fn a_relay_that_is_configured_and_registers_itself_is_one_node() {
    let mut case = two();
    let mut itself = live(999, "by-its-own-word");
    itself.node.host_name = "a.example.org".to_owned();
    itself.node.derp_port = 443;
    case.hear(&[itself]);
    case.round(&[]);
    assert_eq!(case.within(), ["a", "b"]);
    assert!(case.book.entries()[0].live && !case.book.entries()[1].live);
}

/// A token for relays is no leave to replace one of Tailscale's regions, or a node of ours.
#[test]
fn a_live_node_in_a_region_of_others_or_with_a_name_of_ours_is_not_taken() {
    let mut case = two();
    let faulty = LiveNode { node: Node { derp_port: 70_000, ..node(999, "f") }, ..live(999, "f") };
    let mut other = live(999, "a");
    other.node.host_name = "other.example.org".to_owned();
    let strangers = [live(1, "1a"), other, live(1_000, "x"), faulty];
    let told = case.hear(&strangers);
    let told: Vec<_> = told.iter().map(|it| (it.node.as_str(), it.turn)).collect();
    assert_eq!(told, ["1a", "a", "f", "x"].map(|name| (name, Turn::Refused)));
    assert!(case.hear(&strangers).is_empty(), "it is told once");
    case.rounds(2, &[]);
    assert_eq!(case.within(), ["a", "b"]);
}

#[test]
fn a_changed_configuration_keeps_what_is_known_and_never_leaves_nothing() {
    let mut case = two();
    case.rounds(OUT_AFTER, &["b"]);
    case.regions[0].name = "Another name".to_owned();
    case.set();
    assert_eq!(case.within(), ["a"], "b is as bad as before");

    case.regions = vec![region(999, vec![node(999, "b")])];
    case.set();
    assert_eq!(case.within(), ["b"], "as it stands, since there is no other");
}

/// Heartbeats are all that is known then.
#[test]
fn without_probes_a_relay_is_in_while_it_is_heard_of() {
    let regions = [region(999, vec![node(999, "a")])];
    let (mut book, now) = (Book::default(), Instant::now());
    let names = |book: &Book| -> Vec<String> {
        book.members().into_iter().map(|member| member.node.name).collect()
    };
    book.set(&regions, &[live(999, "l")], None, now);
    assert_eq!(names(&book), ["a", "l"]);
    assert!(book.to_probe().is_empty());
    book.set(&regions, &[], None, now);
    assert_eq!(names(&book), ["a"]);
}

/// Who switches probes off wants back what they have taken out.
#[test]
fn without_probes_what_they_said_counts_no_more() {
    let regions = [region(999, vec![node(999, "a"), node(999, "b")])];
    let (mut book, now) = (Book::default(), Instant::now());
    book.set(&regions, &[], Some(INTERVAL), now);
    for count in 1..=OUT_AFTER {
        let round = book.to_probe().into_iter().map(|node| {
            let probed =
                if node.name == "a" { Err("silent".to_owned()) } else { Ok(String::new()) };
            (node, probed)
        });
        let round: Vec<_> = round.collect();
        book.judge(&round, now + count * INTERVAL);
    }
    assert_eq!(book.members().len(), 1);
    book.set(&regions, &[], None, now);
    assert_eq!(book.members().len(), 2);
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// A round, in which these do not work.
    Round(Vec<usize>),
    /// These are heard of.
    Hear(Vec<usize>),
}

const CONFIGURED: [&str; 2] = ["a", "b"];
const LIVE: [&str; 3] = ["l", "m", "n"];

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => prop::collection::vec(0..5_usize, 0..5).prop_map(Event::Round),
        1 => prop::collection::vec(0..3_usize, 0..3).prop_map(Event::Hear),
    ]
}

proptest! {
    /// Whatever happens: somebody is in, and whoever leaves leaves somebody behind who was good
    /// in that very round.
    #[test]
    fn somebody_who_works_stays_behind(events in prop::collection::vec(any_event(), 1..60)) {
        let mut case = two();
        for event in events {
            let before = case.within();
            match event {
                Event::Hear(who) => {
                    let heard: Vec<LiveNode> =
                        who.iter().map(|&at| live(998, LIVE[at])).collect();
                    case.hear(&heard);
                    prop_assert_eq!(case.within(), before, "a heartbeat alone moves nobody");
                }
                Event::Round(who) => {
                    let all = [CONFIGURED.as_slice(), &LIVE].concat();
                    let bad: Vec<&str> = who.iter().map(|&at| all[at]).collect();
                    case.round(&bad);
                    let after = case.within();
                    prop_assert!(!after.is_empty());
                    if before.iter().any(|name| !after.contains(name)) {
                        let is_good = |name: &String| {
                            !bad.contains(&name.as_str())
                                && (CONFIGURED.contains(&name.as_str())
                                    || case.live.iter().any(|it| it.node.name == *name))
                        };
                        prop_assert!(after.iter().any(is_good), "{before:?} {bad:?} {after:?}");
                    }
                }
            }
        }
    }
}
