//! What one thread of the generator plays: clients, and the flows between them.

use std::sync::Arc;

use derp::key::NodePublic;

use super::link::Dialing;
use super::pace::Pace;
use super::tally::Arrivals;
use super::target::Target;

/// Clients and flows of one thread.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// The clients; flows name them by their index.
    pub clients: Vec<Client>,
    /// The flows.
    pub flows: Vec<FlowPlan>,
}

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    /// The server that it connects to.
    pub target: Arc<Target>,
    /// How.
    pub dialing: Dialing,
    /// How fast it reads.
    pub reads: Reads,
    /// Whether it sends every packet back to where it came from.
    pub echoes: bool,
    /// Whether the server may close the connection without that being a fault.
    pub expendable: bool,
}

/// How fast a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// As soon as something has come.
    Everything,
    /// So many bytes a second, framing included.
    AtRate(u64),
    /// Nothing, once it is logged in.
    Nothing,
}

/// A flow that is to be.
#[derive(Clone, Debug)]
pub struct FlowPlan {
    /// The client that sends; each sends one flow at most.
    pub from: usize,
    /// The clients that it sends to, in turn.
    pub to: Vec<usize>,
    /// The client at which packets are verified and counted, if any.
    pub counted_at: Option<usize>,
    /// The tally that counts them: flows of a group are counted together.
    pub group: usize,
    /// The phase in which it starts.
    pub phase: usize,
    /// When packets are due, from the start of that phase.
    pub pace: Pace,
    /// Bytes in a packet.
    pub size: usize,
}

/// A flow that runs.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) from: usize,
    pub(super) source: NodePublic,
    pub(super) destinations: Vec<NodePublic>,
    pub(super) counted_at: Option<usize>,
    pub(super) group: usize,
    pub(super) pace: Pace,
    pub(super) size: usize,
    /// Packets sent, which is also the number of the next.
    pub(super) sent: u64,
    pub(super) arrivals: Arrivals,
    /// The socket has refused bytes; the flow goes on when they are gone.
    pub(super) waiting: bool,
    /// Packets that were due before this were held up by the socket, not by the generator.
    pub(super) held_until: u64,
}

impl Client {
    /// A client of `target` that reads everything.
    #[must_use]
    pub fn new(target: &Arc<Target>) -> Self {
        Self {
            target: Arc::clone(target),
            dialing: Dialing::default(),
            reads: Reads::Everything,
            echoes: false,
            expendable: false,
        }
    }
}

impl Workload {
    /// Adds a client; returns its index.
    pub fn add(&mut self, client: Client) -> usize {
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// Adds a receiver at `there`, and a flow to it from a client that is here already.
    pub fn add_receiver(&mut self, from: usize, there: &Arc<Target>, flow: PairFlow) {
        let to = self.add(Client::new(there));
        let PairFlow { group, phase, pace, size } = flow;
        let counted_at = Some(to);
        self.flows.push(FlowPlan { from, to: vec![to], counted_at, group, phase, pace, size });
    }

    /// Adds a client whose packets come back from an echo, so that the latency is a round trip.
    pub fn add_echo(&mut self, target: &Arc<Target>, flow: PairFlow) {
        let from = self.add(Client::new(target));
        let to = self.add(Client { echoes: true, ..Client::new(target) });
        let PairFlow { group, phase, pace, size } = flow;
        let counted_at = Some(from);
        self.flows.push(FlowPlan { from, to: vec![to], counted_at, group, phase, pace, size });
    }
}

/// What is sent between two clients.
#[derive(Clone, Copy, Debug)]
pub struct PairFlow {
    /// The tally.
    pub group: usize,
    /// The phase in which it starts.
    pub phase: usize,
    /// When packets are due.
    pub pace: Pace,
    /// Bytes in a packet.
    pub size: usize,
}
