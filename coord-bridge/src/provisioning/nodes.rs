//! The nodes of machines: who has come, and where each registration stands.
//!
//! Does: finds the node of each registration that may still change, by what was seen of it first,
//! and writes down what has changed. No registration ends by a list of nodes that is doubted, for
//! the same reasons as at `verify`: see docs/decisions/0056.
//! Does not: change anything in Headscale.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Provisioning;
use super::clock::{millis, span};
use super::reconcile::RoundError;
use crate::headscale::Node;
use crate::store::keys::{self, Key, KeyState};
use crate::store::machines::{self, Machine, State};
use crate::store::{events, installations};
use crate::verify::{Doubt, Weighed};

impl Provisioning {
    /// Finds the nodes of machines, and writes down what has changed.
    pub(super) async fn follow_machines(&self) -> Result<(), RoundError> {
        let (live, all_keys, installing) = self
            .store
            .read(|session| {
                let states = [KeyState::Issued, KeyState::Used];
                let keys = keys::in_states(session, &states)?;
                Ok((machines::live(session)?, keys, installations::waiting(session)?))
            })
            .await?;
        if live.is_empty() && installing.is_empty() {
            // What was there will not be compared with what is, however much later.
            self.held(&self.attendance).there.clear();
            return Ok(());
        }
        let asked = self.elapsed();
        let nodes = self.call(self.headscale.nodes()).await?;
        let weighed = self.held(&self.attendance).take(&live, &nodes, asked);
        if let Some(lost @ 1..) = weighed.doubted.filter(|_| weighed.begins) {
            tracing::warn!(
                lost,
                listed = nodes.len(),
                "Headscale lacks most of its nodes at once: no machine ends unless it stays so"
            );
        }
        self.finish_installations(&installing, &nodes).await?;
        let now_ms = self.now_ms();
        let stale_ms = now_ms.saturating_sub(span(self.settings.stale_after));
        let times = Times { now_ms, stale_ms, expiry_ms: span(self.settings.key_expiry) };
        let mut keys_of = BTreeMap::<&str, Vec<&Key>>::new();
        for key in &all_keys {
            if let Some(machine) = &key.machine {
                keys_of.entry(machine).or_default().push(key);
            }
        }
        let nodes = Nodes::new(&nodes, weighed.doubted.is_some());
        let mut changes = Vec::new();
        for machine in live {
            let its_keys = keys_of.get(machine.id.as_str()).map_or(&[][..], Vec::as_slice);
            let after = follow(&machine, its_keys, &nodes, times);
            if after != machine {
                let used = nodes.of(&machine, its_keys).and_then(|node| node.key.clone());
                let used = used.and_then(|number| {
                    its_keys.iter().find(|key| key.key_id.as_ref() == Some(&number.0))
                });
                let used = used.filter(|key| key.state == KeyState::Issued);
                changes.push((machine.state, after, used.map(|key| key.id.clone())));
            }
        }
        self.write_changes(changes).await
    }

    async fn write_changes(
        &self,
        changes: Vec<(State, Machine, Option<String>)>,
    ) -> Result<(), RoundError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::new();
        for (before, machine, used) in changes {
            if before != machine.state {
                let (from, to) = (before.as_str(), machine.state.as_str());
                tracing::info!(
                    machine = machine.id,
                    hostname = machine.hostname,
                    from,
                    to,
                    "machine"
                );
            }
            let event = self.event_of("machine", machine.state.as_str(), &machine);
            rows.push((before, machine, used, event));
        }
        let used: Vec<String> = rows.iter().filter_map(|(_, _, used, _)| used.clone()).collect();
        self.write_as_leader(move |session| {
            for (before, machine, used, event) in &rows {
                if let Some(row) = used {
                    keys::settle(session, row, KeyState::Used, None)?;
                }
                let is_written = machines::update(session, machine, *before)?;
                if is_written && *before != machine.state {
                    events::insert(session, event)?;
                }
            }
            Ok(())
        })
        .await?;
        let mut fresh = self.held(&self.fresh_keys);
        for row in used {
            fresh.remove(&row);
        }
        Ok(())
    }
}

/// Which node: Headscale that was restored may give its number to another machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    id: String,
    machine_key: String,
}

/// The nodes that were there, and what is doubted of the lists of them.
#[derive(Debug)]
pub(super) struct Attendance {
    there: BTreeSet<Identity>,
    doubt: Doubt<Identity>,
}

impl Attendance {
    /// No list has come yet.
    pub(super) const fn new() -> Self {
        Self { there: BTreeSet::new(), doubt: Doubt::new() }
    }

    /// Takes a list that was asked for at moment `now`. What is known of the nodes of `live`
    /// registrations is as good as a list before, and outlives a restart.
    fn take(&mut self, live: &[Machine], nodes: &[Node], now: Duration) -> Weighed<Identity> {
        let listed: BTreeSet<Identity> = nodes.iter().map(Identity::of_node).collect();
        let mut before = std::mem::replace(&mut self.there, listed.clone());
        before.extend(live.iter().filter_map(Identity::of_machine));
        self.doubt.weigh(before, &listed, now)
    }

    /// Whether nodes may be there that the last list lacks.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubt.len() > 0
    }

    /// The node of this machine was deleted on purpose.
    pub(super) fn forget(&mut self, machine: &Machine) {
        if let Some(node) = Identity::of_machine(machine) {
            self.there.remove(&node);
            self.doubt.forget(&node);
        }
    }
}

impl Identity {
    fn of_node(node: &Node) -> Self {
        Self { id: node.id.0.clone(), machine_key: node.machine_key.clone() }
    }

    fn of_machine(machine: &Machine) -> Option<Self> {
        let (id, machine_key) = (machine.node_id.clone()?, machine.machine_key.clone()?);
        Some(Self { id, machine_key })
    }
}

/// Whether `node` is the one that was seen of `machine`: by its number, and by its machine key
/// where both are known.
pub(super) fn is_node_of(machine: &Machine, node: &Node) -> bool {
    let known = machine.machine_key.as_deref().unwrap_or_default();
    let is_another = ![known, &node.machine_key].contains(&"") && known != node.machine_key;
    machine.node_id.as_ref() == Some(&node.id.0) && !is_another
}

/// Moments that decide where a machine stands, in ms since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Now.
    pub now_ms: i64,
    /// A node that was not connected since is stale.
    pub stale_ms: i64,
    /// How long a registration waits for its node, in ms.
    pub expiry_ms: i64,
}

/// Nodes, by what they are looked for by.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    by_id: BTreeMap<&'a str, &'a Node>,
    by_machine_key: BTreeMap<&'a str, &'a Node>,
    by_key: BTreeMap<&'a str, &'a Node>,
    /// Who is not among them may be there nevertheless.
    is_doubted: bool,
}

impl<'a> Nodes<'a> {
    /// Nodes as Headscale lists them.
    #[must_use]
    fn new(nodes: &'a [Node], is_doubted: bool) -> Self {
        let with_machine_key = nodes.iter().filter(|node| !node.machine_key.is_empty());
        let with_key = |node: &'a Node| Some((node.key.as_ref()?.0.as_str(), node));
        Self {
            by_id: nodes.iter().map(|node| (node.id.0.as_str(), node)).collect(),
            by_machine_key: with_machine_key
                .map(|node| (node.machine_key.as_str(), node))
                .collect(),
            by_key: nodes.iter().filter_map(with_key).collect(),
            is_doubted,
        }
    }

    /// The node of a machine. What was seen at first holds: later Headscale may show another key.
    fn of(&self, machine: &Machine, keys: &[&Key]) -> Option<&'a Node> {
        let known = || {
            let node = self.by_id.get(machine.node_id.as_deref()?).copied();
            node.filter(|node| is_node_of(machine, node))
        };
        let again = || self.by_machine_key.get(machine.machine_key.as_deref()?).copied();
        let by_key = || {
            if machine.node_id.is_some() {
                return None;
            }
            keys.iter().find_map(|key| self.by_key.get(key.key_id.as_deref()?).copied())
        };
        known().or_else(again).or_else(by_key)
    }
}

/// Where a machine stands now. No IO.
#[must_use]
pub(super) fn follow(machine: &Machine, keys: &[&Key], nodes: &Nodes<'_>, times: Times) -> Machine {
    let mut after = machine.clone();
    match nodes.of(machine, keys) {
        Some(node) => {
            after.node_id = Some(node.id.0.clone());
            if !node.machine_key.is_empty() {
                after.machine_key = Some(node.machine_key.clone());
            }
            after.tailscale_ip = node.first_address();
            let seen_ms = node.last_seen.map(millis).filter(|seen| *seen > 0);
            after.last_seen_ms = seen_ms.or(machine.last_seen_ms);
            let since_ms = after.last_seen_ms.unwrap_or(machine.registered_ms);
            after.state = if node.online {
                State::Online
            } else if since_ms < times.stale_ms {
                State::Stale
            } else {
                State::Joined
            };
        }
        None if nodes.is_doubted => {}
        None if machine.state == State::Pending => {
            let is_valid =
                |key: &&Key| key.state == KeyState::Issued && key.expires_ms > times.now_ms;
            let waits = machine.changed_ms.saturating_add(times.expiry_ms) > times.now_ms;
            if !keys.iter().any(is_valid) && !waits {
                after.state = State::Expired;
            }
        }
        None => after.state = State::Deleted,
    }
    if after.state != machine.state {
        after.changed_ms = times.now_ms;
    }
    after
}
