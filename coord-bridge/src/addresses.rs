//! Where the bridge listens, by what is answered there.
//!
//! Does: names each listener as the settings do. Does not: open one; that is `bridge`.

use std::net::SocketAddr;

/// Addresses by listener, in the order of the configuration. Port 0 stands for any free port
/// until the listener is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The map.
    pub map: Vec<SocketAddr>,
    /// Registration of machines.
    pub provisioning: Vec<SocketAddr>,
    /// What relays ask and hear.
    pub verify: Vec<SocketAddr>,
    /// Administrators.
    pub admin: Vec<SocketAddr>,
    /// Metrics.
    pub metrics: Vec<SocketAddr>,
}

impl Addresses {
    /// All of them, each list with its key in the configuration.
    #[must_use]
    pub fn by_key(&self) -> [(&'static str, &[SocketAddr]); 5] {
        [
            ("map_listen", &self.map),
            ("provisioning.listen", &self.provisioning),
            ("verify_listen", &self.verify),
            ("admin_listen", &self.admin),
            ("metrics_listen", &self.metrics),
        ]
    }

    /// The first address that two listeners are to have, with the keys of both.
    #[must_use]
    pub fn taken_twice(&self) -> Option<(SocketAddr, [&'static str; 2])> {
        let all = self.by_key();
        all.iter().enumerate().find_map(|(place, (later, addresses))| {
            let before = all.get(..place)?;
            before.iter().find_map(|(earlier, taken)| {
                let both =
                    addresses.iter().find(|address| address.port() != 0 && taken.contains(address));
                both.map(|&address| (address, [*later, *earlier]))
            })
        })
    }
}
