//! Replays the committed corpora on stable, in every `cargo test`, and feeds each driver some
//! random bytes besides.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use proptest::prelude::*;

/// One test per driver: its corpus, then random bytes.
macro_rules! drivers {
    ($($driver:ident),+ $(,)?) => {
        mod corpus {
            $(
                #[test]
                fn $driver() {
                    super::replay(stringify!($driver), fuzz::$driver);
                }
            )+
        }

        mod random {
            use super::*;

            proptest! {
                $(
                    #[test]
                    fn $driver(data in prop::collection::vec(any::<u8>(), 0..300)) {
                        fuzz::$driver(&data);
                    }
                )+
            }
        }

        /// Every target has a driver here, and the other way round.
        #[test]
        fn every_target_is_replayed() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz_targets");
            let mut targets: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            targets.sort();
            let mut drivers = vec![$(stringify!($driver)),+];
            drivers.sort_unstable();
            assert_eq!(targets, drivers);
        }
    };
}

drivers!(
    bridge_config,
    client_info,
    derp_map,
    frame_decode,
    headscale_answer,
    login_server,
    relay_config,
    relay_event,
    relay_registration,
    shard_script,
    stun_message,
    tls_record,
    upgrade_request,
);

fn replay(driver: &str, run: fn(&[u8])) {
    let folder = format!("{}/corpus/{driver}", env!("CARGO_MANIFEST_DIR"));
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 0, "an empty corpus proves nothing: {folder}");
}
