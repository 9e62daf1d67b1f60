//! Everything that the bridge does with a Headscale, once, with what has to come of it.
//!
//! The same steps run against recorded answers and against real programs of every release.

use std::time::{Duration, SystemTime};

use coord_bridge::headscale::{
    Client, FailureKind, Headscale, IssuedKey, KeyId, NewKey, NodeId, User, UserId,
};

/// Whom the steps are done with.
pub(crate) trait World {
    /// What follows is this call.
    fn step(&mut self, call: &str);

    /// A machine of this name joins as one of this user's.
    fn join(&mut self, user: &str, name: &str);

    /// A machine of this name joins with this key, and stays; `false` where no client is at hand.
    fn enroll(&mut self, name: &str, key: &IssuedKey) -> bool;

    /// From now on the API key is none of Headscale's, or is one again; `false` where none is
    /// needed.
    fn spoil_key(&mut self, is_spoiled: bool) -> bool;
}

/// When keys end here. Always the same, so that requests are.
pub(crate) fn far_off() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(4_070_908_800)
}

/// All steps, against a Headscale that has nothing in it.
pub(crate) async fn run(client: &Client, world: &mut dyn World) {
    let deploy = users(client, world).await;
    keys(client, world, &deploy.id).await;
    nodes(client, world).await;
    refused_key(client, world).await;
    enrolled(client, world, &deploy.id).await;
}

async fn users(client: &Client, world: &mut dyn World) -> User {
    world.step("check of a Headscale that nobody has asked yet");
    client.check().await.unwrap();

    world.step("user that is not there");
    assert_eq!(client.user("deploy").await.unwrap(), None);

    world.step("ensure_user that is not there");
    let deploy = client.ensure_user("deploy").await.unwrap();
    assert_eq!(deploy.name, "deploy");

    world.step("ensure_user that is there");
    assert_eq!(client.ensure_user("deploy").await.unwrap(), deploy);

    world.step("ensure_user of another name");
    let other = client.ensure_user("a.b-c").await.unwrap();
    assert_ne!(other.id, deploy.id);

    world.step("user that is there");
    assert_eq!(client.user("deploy").await.unwrap(), Some(deploy.clone()));
    deploy
}

async fn keys(client: &Client, world: &mut dyn World, deploy: &UserId) {
    let wanted = |ephemeral, tags: &[&str]| NewKey {
        user: deploy.clone(),
        ephemeral,
        expiration: far_off(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    };

    world.step("keys of a user without any");
    assert_eq!(client.keys(deploy).await.unwrap(), []);

    world.step("create_key");
    let plain = client.create_key(&wanted(false, &[])).await.unwrap();
    assert!(plain.secret.reveal().len() >= 48);

    world.step("create_key with a tag, for an ephemeral node");
    let tagged = client.create_key(&wanted(true, &["tag:deploy"])).await.unwrap();
    assert_ne!(tagged.secret, plain.secret);

    world.step("create_key with a tag that is none");
    let failure = client.create_key(&wanted(false, &["deploy"])).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(failure.detail.contains("tag"), "{failure}");

    world.step("create_key for a user that is not there");
    let nobody = NewKey { user: UserId("999999".to_owned()), ..wanted(false, &[]) };
    let failure = client.create_key(&nobody).await.unwrap_err();
    assert!(
        matches!(failure.kind, FailureKind::Refused | FailureKind::Faulty),
        "up to 0.29 the status does not tell: {failure}"
    );

    world.step("keys of a user with two");
    let listed = client.keys(deploy).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|key| &key.id).collect();
    assert_eq!(ids, [&plain.id, &tagged.id]);
    for key in &listed {
        assert!(!key.used && key.created.is_some(), "{key:?}");
        assert_eq!(key.expiration, Some(far_off()));
    }

    world.step("expire_key");
    client.expire_key(deploy, &plain.id).await.unwrap();

    world.step("expire_key that has ended");
    client.expire_key(deploy, &plain.id).await.unwrap();

    world.step("expire_key that is not there");
    client.expire_key(deploy, &KeyId("999999".to_owned())).await.unwrap();

    world.step("keys after one has ended");
    let listed = client.keys(deploy).await.unwrap();
    assert!(listed[0].expiration.unwrap() < far_off(), "{listed:?}");
    assert_eq!(listed[1].expiration, Some(far_off()));
}

async fn nodes(client: &Client, world: &mut dyn World) {
    world.step("nodes where there are none");
    assert_eq!(client.nodes().await.unwrap(), []);

    world.join("deploy", "machine-one");
    world.step("nodes");
    let nodes = client.nodes().await.unwrap();
    let [node] = nodes.as_slice() else { panic!("{nodes:?}") };
    assert_eq!((node.name.as_str(), node.user.as_deref()), ("machine-one", Some("deploy")));
    assert_eq!(node.given_name, "machine-one");
    assert!(node.machine_key.starts_with("mkey:") && node.node_key.is_some(), "{node:?}");
    assert_eq!(node.addresses.len(), 2);
    assert!(node.tags.is_empty() && node.key.is_none(), "{node:?}");

    world.step("expire_node");
    client.expire_node(&node.id).await.unwrap();

    world.step("nodes after one has expired");
    let expired = client.nodes().await.unwrap();
    assert!(expired[0].expiry.is_some_and(|end| end < far_off()), "{expired:?}");

    world.step("expire_node that is not there");
    let unknown = NodeId("999999".to_owned());
    let failure = client.expire_node(&unknown).await.unwrap_err();
    assert!(matches!(failure.kind, FailureKind::Refused | FailureKind::Faulty), "{failure}");

    world.step("delete_node");
    client.delete_node(&node.id).await.unwrap();

    world.step("delete_node that is not there");
    client.delete_node(&unknown).await.unwrap();

    world.step("nodes after one was deleted");
    assert_eq!(client.nodes().await.unwrap(), []);
}

async fn refused_key(client: &Client, world: &mut dyn World) {
    world.step("check with an API key that Headscale does not know");
    if !world.spoil_key(true) {
        return;
    }
    let failure = client.check().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unauthorized, "{failure}");
    assert!(failure.detail.contains("headscale apikeys create"), "{failure}");

    world.step("check after the file of the API key was replaced");
    world.spoil_key(false);
    client.check().await.unwrap();
}

/// Must hold: which node came from which key is seen by the key's number.
async fn enrolled(client: &Client, world: &mut dyn World, deploy: &UserId) {
    world.step("create_key for a machine that joins");
    let wanted = NewKey {
        user: deploy.clone(),
        ephemeral: false,
        expiration: far_off(),
        tags: vec!["tag:deploy".to_owned()],
    };
    let key = client.create_key(&wanted).await.unwrap();
    if !world.enroll("machine-two", &key) {
        return;
    }

    world.step("nodes after a machine has joined with a key");
    let nodes = client.nodes().await.unwrap();
    let [node] = nodes.as_slice() else { panic!("{nodes:?}") };
    assert_eq!((node.key.as_ref(), node.name.as_str()), (Some(&key.id), "machine-two"));
    assert_eq!(node.tags, ["tag:deploy"]);
    assert!(node.online && node.node_key.is_some() && node.addresses.len() == 2, "{node:?}");

    world.step("keys after one was used");
    let keys = client.keys(deploy).await.unwrap();
    let used: Vec<_> = keys.iter().filter(|key| key.used).map(|key| &key.id).collect();
    assert_eq!(used, [&key.id]);
}
