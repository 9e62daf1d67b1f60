//! A Headscale of release 0.30 with nodes that a test adds and takes away.

use std::sync::{Arc, Mutex};

use derp::key::NodePublic;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, Request};

/// The key that its API takes.
pub(crate) const API_KEY: &str = "hskey-api-test";

/// The Headscale. It ends with the test.
pub(crate) struct Tailnet {
    fake: Fake,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Inside {
    is_down: bool,
    keys: Vec<Key>,
    nodes: Vec<Value>,
    made: usize,
}

/// A pre-auth key.
struct Key {
    expiration: Value,
    is_ended: bool,
}

impl Tailnet {
    pub(crate) fn start() -> Self {
        let inside = Arc::new(Mutex::new(Inside::default()));
        let answering = Arc::clone(&inside);
        let fake = Fake::start(move |request| answer(&mut answering.lock().unwrap(), request));
        Self { fake, inside }
    }

    pub(crate) fn url(&self) -> String {
        self.fake.url()
    }

    /// A node comes in, with the pre-auth key of this number if it has one.
    pub(crate) fn join(&self, key: &NodePublic, pre_auth_key: Option<usize>) -> String {
        let mut inside = self.inside.lock().unwrap();
        inside.made += 1;
        let id = inside.made.to_string();
        inside.nodes.push(json!({
            "id": id,
            "machineKey": format!("mkey:{id}"),
            "nodeKey": key.to_string(),
            "name": "one",
            "givenName": "one",
            "ipAddresses": ["100.64.0.1"],
            "online": true,
            "expiry": null,
            "preAuthKey": pre_auth_key.map(|id| json!({ "id": id.to_string() })),
        }));
        id
    }

    /// Numbers of the keys that were made and not ended.
    pub(crate) fn valid_keys(&self) -> Vec<String> {
        let inside = self.inside.lock().unwrap();
        let valid = inside.keys.iter().enumerate().filter(|(_, key)| !key.is_ended);
        valid.map(|(place, _)| (place + 1).to_string()).collect()
    }

    /// Somebody removes a node by other means than the bridge.
    pub(crate) fn remove(&self, id: &str) {
        self.inside.lock().unwrap().nodes.retain(|node| node["id"] != id);
    }

    /// The node with this key is gone.
    pub(crate) fn remove_key(&self, key: &NodePublic) {
        let key = key.to_string();
        self.inside.lock().unwrap().nodes.retain(|node| node["nodeKey"] != key);
    }

    /// Its database is empty.
    pub(crate) fn remove_all(&self) {
        self.inside.lock().unwrap().nodes.clear();
    }

    /// The key of a node ends.
    pub(crate) fn expire(&self, id: &str) {
        let mut inside = self.inside.lock().unwrap();
        let node = inside.nodes.iter_mut().find(|node| node["id"] == id).unwrap();
        node["expiry"] = json!("2020-01-01T00:00:00Z");
    }

    /// From now on it hangs up on everybody, or answers again.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.inside.lock().unwrap().is_down = is_down;
    }

    /// How often it was asked for its nodes.
    pub(crate) fn lists(&self) -> usize {
        self.fake.count("GET", "/api/v1/node")
    }
}

fn answer(inside: &mut Inside, request: &Request) -> Reply {
    if inside.is_down {
        return Reply::HangUp;
    }
    if request.key.as_deref() != Some(API_KEY) {
        let body = r#"{"title":"Unauthorized","status":401,"detail":"unauthorized"}"#;
        return Reply::answer(401, "application/problem+json", body);
    }
    let user = json!({ "id": "1", "name": "sovran-deploy" });
    let path = request.path.split('?').next().unwrap();
    let said = match (request.method.as_str(), path) {
        ("GET", "/api/v1/user") => json!({ "users": [user] }),
        ("POST", "/api/v1/user") => json!({ "user": user }),
        ("POST", "/api/v1/preauthkey") => {
            let asked = serde_json::from_str::<Value>(&request.body).unwrap();
            inside.keys.push(Key { expiration: asked["expiration"].clone(), is_ended: false });
            let id = inside.keys.len();
            json!({ "preAuthKey": {
                "user": user, "id": id.to_string(), "key": format!("hskey-auth-{id}"),
                "used": false, "expiration": asked["expiration"],
            } })
        }
        ("GET", "/api/v1/preauthkey") => {
            let keys = inside.keys.iter().enumerate().map(|(place, key)| {
                json!({ "user": user, "id": (place + 1).to_string(), "key": "hskey-auth-***",
                        "used": false, "expiration": key.expiration })
            });
            json!({ "preAuthKeys": keys.collect::<Vec<_>>() })
        }
        ("POST", "/api/v1/preauthkey/expire") => {
            let asked = serde_json::from_str::<Value>(&request.body).unwrap();
            let id = asked["id"].as_str().unwrap().parse::<usize>().unwrap();
            inside.keys[id - 1].is_ended = true;
            json!({})
        }
        ("GET", "/api/v1/apikey") => json!({ "apiKeys": [
            { "id": "1", "prefix": "other", "expiration": "2020-01-01T00:00:00Z" },
            { "id": "2", "prefix": "hskey-api-te-***", "expiration": "2099-01-01T00:00:00Z" },
        ] }),
        ("GET", "/api/v1/node") => json!({ "nodes": inside.nodes }),
        ("POST", path) if path.ends_with("/expire") => json!({ "node": {} }),
        ("DELETE", path) => {
            let id = path.rsplit('/').next().unwrap();
            inside.nodes.retain(|node| node["id"] != id);
            json!({})
        }
        (method, path) => panic!("{method} {path}"),
    };
    Reply::json(&said.to_string())
}
