//! Who this machine is, as it tells the provisioner.
//!
//! Does: takes a random host name unless it is given one, the address of the first Ethernet card,
//! and an id that is the same each time the machine comes.
//! Does not: prove anything, or fail: what is not there is left out.

use std::fs;
use std::path::Path;

use aws_lc_rs::hmac;

use super::EnrollError;
use crate::provisioning::request::{UNKNOWN_MAC, checked_hostname, checked_mac};

/// What random host names begin with. The live system's script has the same.
pub const HOSTNAME_PREFIX: &str = "sovran-deploy-";

/// Type of Ethernet in `/sys/class/net/*/type`. Source: `ARPHRD_ETHER` of `linux/if_arp.h`.
const ETHERNET: &str = "1";

/// What ids of ours are for, so that they differ from those of other programs.
const PURPOSE: &[u8] = b"coord-bridge enroll";

/// Bytes of an id: enough never to meet another.
const ID_LEN: usize = 16;

/// Hex digits of the system's id. Source: machine-id(5).
const MACHINE_ID_LEN: usize = 32;

/// Who wants in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// A DNS label in lower case.
    pub hostname: String,
    /// Somebody has chosen the name, so it stays, whatever the machine was called before.
    pub is_named: bool,
    /// Address of the first Ethernet card, or `unknown`.
    pub mac: String,
    /// The same each time, where the system has an id.
    pub id: Option<String>,
}

impl Machine {
    /// This machine, by what the system says below `root`, which is `/` but in tests.
    ///
    /// # Errors
    ///
    /// [`EnrollError::Hostname`]; [`EnrollError::System`] without randomness for a name.
    pub fn here(hostname: Option<&str>, root: &Path) -> Result<Self, EnrollError> {
        let is_named = hostname.is_some();
        let hostname = match hostname {
            Some(name) => checked_hostname(name).map_err(|_| EnrollError::Hostname)?,
            None => {
                let random = getrandom::u64().map_err(std::io::Error::other)?;
                format!("{HOSTNAME_PREFIX}{random:016x}")
            }
        };
        let mac = mac(root).unwrap_or_else(|| UNKNOWN_MAC.to_owned());
        let id = id(root, &mac);
        Ok(Self { hostname, is_named, mac, id })
    }
}

/// The address of the Ethernet card that the system found first: real ones before bridges,
/// tunnels and the like, which come and go.
fn mac(root: &Path) -> Option<String> {
    let cards = fs::read_dir(root.join("sys/class/net")).ok()?.filter_map(|entry| {
        let card = entry.ok()?.path();
        let say = |name: &str| Some(fs::read_to_string(card.join(name)).ok()?.trim().to_owned());
        let address = checked_mac(&say("address")?).ok()?;
        let is_none = address.bytes().all(|byte| matches!(byte, b'0' | b':'));
        let is_usable = say("type")? == ETHERNET && address != UNKNOWN_MAC && !is_none;
        let index: u32 = say("ifindex")?.parse().ok()?;
        is_usable.then(|| (!card.join("device").exists(), index, address))
    });
    cards.min().map(|(_, _, address)| address)
}

/// Hex digits that are the same each time. The system's id is to stay on the machine
/// (machine-id(5)): other programs build on it, and the provisioner lists ours. So it is the key
/// of a hash. The card's address is in it too, since machines that were made from one image may
/// have one id, and would take each other's key.
fn id(root: &Path, mac: &str) -> Option<String> {
    let system = fs::read_to_string(root.join("etc/machine-id")).ok()?;
    let system = system.trim();
    // "uninitialized" is no id.
    if system.len() != MACHINE_ID_LEN || !system.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, system.as_bytes()));
    hash.update(PURPOSE);
    hash.update(mac.as_bytes());
    Some(hash.sign().as_ref().iter().take(ID_LEN).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str = "0123456789abcdef0123456789abcdef";

    /// A system with cards: name, type, index, address, and whether it is a real one.
    fn system(id: Option<&str>, cards: &[(&str, &str, u32, &str, bool)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        if let Some(id) = id {
            fs::write(root.path().join("etc/machine-id"), format!("{id}\n")).unwrap();
        }
        for (name, kind, index, address, is_real) in cards {
            let card = root.path().join("sys/class/net").join(name);
            fs::create_dir_all(&card).unwrap();
            fs::write(card.join("type"), format!("{kind}\n")).unwrap();
            fs::write(card.join("ifindex"), format!("{index}\n")).unwrap();
            fs::write(card.join("address"), format!("{address}\n")).unwrap();
            if *is_real {
                fs::create_dir(card.join("device")).unwrap();
            }
        }
        root
    }

    fn machine(root: &tempfile::TempDir) -> Machine {
        Machine::here(None, root.path()).unwrap()
    }

    #[test]
    fn the_first_real_card_is_told() {
        let lo = ("lo", "772", 1, "00:00:00:00:00:00", false);
        let bridge = ("br0", "1", 2, "02:00:00:00:00:01", false);
        let late = ("a9", "1", 11, "AA:BB:CC:00:00:11", true);
        let first = ("z0", "1", 3, "aa:bb:cc:00:00:03", true);
        let broken = ("b0", "1", 4, "\u{1b}[31m", true);
        let root = system(None, &[lo, bridge, late, first, broken]);
        assert_eq!(machine(&root).mac, "aa:bb:cc:00:00:03");
        assert_eq!(machine(&system(None, &[lo, bridge])).mac, "02:00:00:00:00:01");
        assert_eq!(machine(&system(None, &[lo])).mac, "unknown");
        assert_eq!(machine(&system(None, &[])).mac, "unknown");
    }

    #[test]
    fn the_id_stays_the_same_and_hides_the_systems() {
        let card = |address| ("eth0", "1", 2, address, true);
        let one = system(Some(SYSTEM), &[card("aa:bb:cc:00:00:01")]);
        let id = machine(&one).id.unwrap();
        assert_eq!(machine(&one).id.as_ref(), Some(&id), "each time");
        assert_eq!(id.len(), 2 * ID_LEN);
        assert!(!id.contains(&SYSTEM[..8]));
        let copy = system(Some(SYSTEM), &[card("aa:bb:cc:00:00:02")]);
        assert_ne!(machine(&copy).id, Some(id), "another machine from the same image");
        for none in [None, Some("uninitialized"), Some(""), Some("zz")] {
            assert_eq!(machine(&system(none, &[])).id, None, "{none:?}");
        }
    }

    #[test]
    fn a_name_is_given_or_random() {
        let root = system(None, &[]);
        let (one, two) = (machine(&root).hostname, machine(&root).hostname);
        assert_ne!(one, two);
        assert!(one.starts_with(HOSTNAME_PREFIX) && one.len() == 30, "{one}");
        let given = Machine::here(Some("Node-7"), root.path()).unwrap();
        assert_eq!((given.hostname.as_str(), given.is_named), ("node-7", true));
        for name in ["", "a b", "a.b", "a\n", &"a".repeat(64)] {
            assert!(matches!(Machine::here(Some(name), root.path()), Err(EnrollError::Hostname)));
        }
    }
}
