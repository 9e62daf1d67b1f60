//! A Headscale in memory: it can be away, refuse, fail, be slow, and lose its answers after it has
//! done what was asked.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coord_bridge::headscale::{
    Call, Failure, FailureKind, Headscale, IssuedKey, KeyId, KeyRecord, NewKey, Node, NodeId,
    Secret, User, UserId,
};
use tokio::sync::Semaphore;

/// How a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should.
    Well,
    /// It fails, and nothing is done.
    Fails(FailureKind),
    /// It is done, and the answer is lost.
    Loses(FailureKind),
    /// It takes some time.
    Slow(Duration),
    /// It never comes back, and nothing is done.
    HangsBefore,
    /// It is done, and never comes back.
    HangsAfter,
}

/// A place in a call where it waits for the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Nothing is done yet.
    Before,
    /// It is done, and not answered.
    After,
}

/// What holds calls up until the test lets one of them go on.
#[derive(Debug)]
pub(crate) struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Gate {
    /// Waits until a call is here.
    pub(crate) async fn arrived(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    /// Lets one call go on.
    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }

    async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }
}

/// A key of this Headscale.
#[derive(Clone, Debug)]
pub(crate) struct FakeKey {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) user: String,
    pub(crate) expiration: SystemTime,
    pub(crate) ephemeral: bool,
    pub(crate) tags: Vec<String>,
    pub(crate) used: bool,
    pub(crate) is_expired: bool,
}

#[derive(Debug, Default)]
struct Inside {
    moods: BTreeMap<&'static str, Mood>,
    gates: BTreeMap<(&'static str, Place), Arc<Gate>>,
    calls: BTreeMap<&'static str, usize>,
    users: Vec<String>,
    keys: Vec<FakeKey>,
    nodes: Vec<Node>,
}

/// A Headscale in memory.
#[derive(Debug, Default)]
pub(crate) struct FakeHeadscale {
    inside: Mutex<Inside>,
    /// File that outlives the process, in place of a database.
    journal: Option<PathBuf>,
}

impl FakeHeadscale {
    /// One that remembers its keys over the end of the process, in the file at `path`.
    pub(crate) fn with_journal(path: &Path) -> Self {
        let fake = Self { inside: Mutex::default(), journal: Some(path.to_owned()) };
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let mut inside = fake.inside();
            match fields.as_slice() {
                ["user", name] => inside.users.push((*name).to_owned()),
                ["made", id, user, seconds] => inside.keys.push(FakeKey {
                    id: (*id).to_owned(),
                    secret: String::new(),
                    user: (*user).to_owned(),
                    expiration: UNIX_EPOCH + Duration::from_secs(seconds.parse().unwrap()),
                    ephemeral: true,
                    tags: Vec::new(),
                    used: false,
                    is_expired: false,
                }),
                ["ended", id] => {
                    inside.keys.iter_mut().find(|key| key.id == *id).unwrap().is_expired = true;
                }
                _ => panic!("{line}"),
            }
        }
        fake
    }

    /// From now on, `call` goes so.
    pub(crate) fn set(&self, call: &'static str, mood: Mood) {
        self.inside().moods.insert(call, mood);
    }

    /// From now on, every call goes so.
    pub(crate) fn set_all(&self, mood: Mood) {
        for call in ["ensure_user", "create_key", "expire_key", "keys", "nodes", "check"] {
            self.set(call, mood);
        }
    }

    /// Every `call` waits there from now on.
    pub(crate) fn hold(&self, call: &'static str, place: Place) -> Arc<Gate> {
        let gate = Arc::new(Gate { arrived: Semaphore::new(0), open: Semaphore::new(0) });
        self.inside().gates.insert((call, place), Arc::clone(&gate));
        gate
    }

    pub(crate) fn calls(&self, call: &'static str) -> usize {
        self.inside().calls.get(call).copied().unwrap_or_default()
    }

    pub(crate) fn all_keys(&self) -> Vec<FakeKey> {
        self.inside().keys.clone()
    }

    /// Keys that a machine could still come in with.
    pub(crate) fn valid_keys(&self) -> Vec<FakeKey> {
        let is_valid = |key: &FakeKey| !key.is_expired && !key.used;
        self.all_keys().into_iter().filter(is_valid).collect()
    }

    /// A machine comes in with a key. Returns the number of its node.
    pub(crate) fn join(&self, secret: &str, hostname: &str) -> String {
        let mut inside = self.inside();
        let count = inside.nodes.len() + 1;
        let key = inside.keys.iter_mut().find(|key| key.secret == secret).unwrap();
        assert!(!key.is_expired && !key.used, "the key does not let it in");
        key.used = true;
        let node = Node {
            id: NodeId(count.to_string()),
            name: hostname.to_owned(),
            given_name: hostname.to_owned(),
            machine_key: format!("mkey:{count}"),
            node_key: None,
            addresses: vec![
                format!("fd7a:115c:a1e0::{count}").parse().unwrap(),
                format!("100.64.0.{count}").parse().unwrap(),
            ],
            user: Some("sovran-deploy".to_owned()),
            key: Some(KeyId(key.id.clone())),
            online: true,
            last_seen: None,
            expiry: None,
            tags: Vec::new(),
        };
        inside.nodes.push(node);
        count.to_string()
    }

    pub(crate) fn change_node(&self, id: &str, change: impl FnOnce(&mut Node)) {
        change(self.inside().nodes.iter_mut().find(|node| node.id.0 == id).unwrap());
    }

    pub(crate) fn remove_node(&self, id: &str) {
        self.inside().nodes.retain(|node| node.id.0 != id);
    }

    /// Other nodes in the place of those that are there, which are given.
    pub(crate) fn exchange_nodes(&self, nodes: Vec<Node>) -> Vec<Node> {
        std::mem::replace(&mut self.inside().nodes, nodes)
    }

    pub(crate) fn node_ids(&self) -> Vec<String> {
        self.inside().nodes.iter().map(|node| node.id.0.clone()).collect()
    }

    pub(crate) fn users(&self) -> Vec<String> {
        self.inside().users.clone()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    /// A call that does `work`, in the mood that it is in.
    fn call<'a, T: Send + 'a>(
        &'a self,
        name: &'static str,
        work: impl FnOnce(&mut Inside) -> T + Send + 'a,
    ) -> Call<'a, T> {
        Box::pin(async move {
            let mood = {
                let mut inside = self.inside();
                *inside.calls.entry(name).or_default() += 1;
                inside.moods.get(name).copied().unwrap_or(Mood::Well)
            };
            let failure = |kind| Failure { kind, detail: "as the test wants it".to_owned() };
            match mood {
                Mood::Fails(kind) => return Err(failure(kind)),
                Mood::HangsBefore => std::future::pending::<()>().await,
                Mood::Slow(time) => tokio::time::sleep(time).await,
                Mood::Well | Mood::Loses(_) | Mood::HangsAfter => {}
            }
            self.pass(name, Place::Before).await;
            let done = work(&mut self.inside());
            self.pass(name, Place::After).await;
            match mood {
                Mood::Loses(kind) => return Err(failure(kind)),
                Mood::HangsAfter => std::future::pending::<()>().await,
                Mood::Well | Mood::Slow(_) | Mood::Fails(_) | Mood::HangsBefore => {}
            }
            Ok(done)
        })
    }

    async fn pass(&self, call: &'static str, place: Place) {
        let gate = self.inside().gates.get(&(call, place)).cloned();
        if let Some(gate) = gate {
            gate.pass().await;
        }
    }

    fn note(&self, line: &str) {
        if let Some(path) = &self.journal {
            let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
            file.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
    }
}

impl Headscale for FakeHeadscale {
    fn user<'a>(&'a self, name: &'a str) -> Call<'a, Option<User>> {
        self.call("user", move |inside| {
            let place = inside.users.iter().position(|user| user == name)?;
            Some(User { id: UserId((place + 1).to_string()), name: name.to_owned() })
        })
    }

    fn ensure_user<'a>(&'a self, name: &'a str) -> Call<'a, User> {
        self.call("ensure_user", move |inside| {
            if !inside.users.iter().any(|user| user == name) {
                inside.users.push(name.to_owned());
                self.note(&format!("user {name}"));
            }
            let place = inside.users.iter().position(|user| user == name).unwrap();
            User { id: UserId((place + 1).to_string()), name: name.to_owned() }
        })
    }

    fn create_key<'a>(&'a self, wanted: &'a NewKey) -> Call<'a, IssuedKey> {
        self.call("create_key", move |inside| {
            let id = (inside.keys.len() + 1).to_string();
            let secret = format!("hskey-auth-{id}-secret");
            inside.keys.push(FakeKey {
                id: id.clone(),
                secret: secret.clone(),
                user: wanted.user.0.clone(),
                expiration: wanted.expiration,
                ephemeral: wanted.ephemeral,
                tags: wanted.tags.clone(),
                used: false,
                is_expired: false,
            });
            let seconds = wanted.expiration.duration_since(UNIX_EPOCH).unwrap().as_secs();
            self.note(&format!("made {id} {} {seconds}", wanted.user.0));
            IssuedKey { id: KeyId(id), secret: Secret::new(secret) }
        })
    }

    fn expire_key<'a>(&'a self, _: &'a UserId, key: &'a KeyId) -> Call<'a, ()> {
        self.call("expire_key", move |inside| {
            if let Some(key) = inside.keys.iter_mut().find(|it| it.id == key.0) {
                key.is_expired = true;
                self.note(&format!("ended {}", key.id));
            }
        })
    }

    fn keys<'a>(&'a self, user: &'a UserId) -> Call<'a, Vec<KeyRecord>> {
        self.call("keys", move |inside| {
            let of_user = inside.keys.iter().filter(|key| key.user == user.0);
            of_user
                .map(|key| KeyRecord {
                    id: KeyId(key.id.clone()),
                    used: key.used,
                    // As Headscale does: an ended key ends now.
                    expiration: Some(if key.is_expired { UNIX_EPOCH } else { key.expiration }),
                    created: None,
                })
                .collect()
        })
    }

    fn nodes(&self) -> Call<'_, Vec<Node>> {
        self.call("nodes", |inside| inside.nodes.clone())
    }

    fn delete_node<'a>(&'a self, node: &'a NodeId) -> Call<'a, ()> {
        self.call("delete_node", move |inside| inside.nodes.retain(|it| it.id != *node))
    }

    fn expire_node<'a>(&'a self, _: &'a NodeId) -> Call<'a, ()> {
        self.call("expire_node", |_| ())
    }

    fn check(&self) -> Call<'_, ()> {
        self.call("check", |_| ())
    }
}
