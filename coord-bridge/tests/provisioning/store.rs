//! The store: the same tests on both databases, and what only a file can suffer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coord_bridge::store::events::{self, Event};
use coord_bridge::store::keys::{self, Key, KeyState};
use coord_bridge::store::location::{ParseServerError, Server};
use coord_bridge::store::machines::{self, Machine, State};
use coord_bridge::store::schema::{MIGRATIONS, Migration};
use coord_bridge::store::tokens::{self, Profile, Token, TokenSecret};
use coord_bridge::store::{Location, Store, StoreError, backup, relay_events};
use derp::key::NodePublic;
use tempfile::TempDir;

use crate::postgres_server;

/// Runs `test` on an empty store of each kind.
pub(crate) fn on_both(test: impl Fn(Location)) {
    let folder = TempDir::new().unwrap();
    test(Location::File(folder.path().join("state/bridge.sqlite")));
    if let Some(location) = postgres_server::database() {
        test(location);
    }
}

pub(crate) fn machine(id: &str, identity: &str, state: State) -> Machine {
    Machine {
        id: id.to_owned(),
        identity: identity.to_owned(),
        hostname: "one".to_owned(),
        mac: "unknown".to_owned(),
        token: "t".to_owned(),
        remote_ip: "192.0.2.1".to_owned(),
        state,
        registered_ms: 1_000,
        changed_ms: 1_000,
        node_id: None,
        machine_key: None,
        tailscale_ip: String::new(),
        last_seen_ms: None,
        replaces: None,
    }
}

fn token(name: &str) -> Token {
    Token {
        name: name.to_owned(),
        profile: Profile::Machine,
        tags: vec!["tag:a".to_owned(), "tag:b".to_owned()],
        sources: vec!["192.0.2.0/24".to_owned()],
        quota: Some(3),
        uses: 0,
        created_ms: 5,
        expires_ms: None,
        revoked_ms: None,
        last_used_ms: None,
    }
}

fn key(id: &str, expires_ms: i64) -> Key {
    Key {
        id: id.to_owned(),
        machine: Some("m".to_owned()),
        user_id: "1".to_owned(),
        key_id: None,
        state: KeyState::Asked,
        asked_ms: 1,
        expires_ms,
    }
}

/// R-057, O4.2. What is written comes back, also over a restart.
#[test]
fn rows_come_back_as_they_were_written() {
    on_both(|location| {
        let mut before = machine("01", "t host one", State::Pending);
        before.replaces = Some("00".to_owned());
        let event = Event {
            id: "01".to_owned(),
            at_ms: 9,
            kind: "register".to_owned(),
            outcome: "ok".to_owned(),
            key_id: Some("7".to_owned()),
            ..Event::default()
        };
        let store = Store::new(location.clone()).unwrap();
        let (row, noted) = (before.clone(), event.clone());
        store
            .write_now(move |session| {
                machines::insert(session, &row)?;
                tokens::insert(session, &token("t"))?;
                tokens::count_use(session, "t", 77)?;
                events::insert(session, &noted)
            })
            .unwrap();
        drop(store);

        let store = Store::new(location).unwrap();
        assert_eq!(store.read_now(machines::all).unwrap(), [before]);
        let found = store.read_now(|session| tokens::by_name(session, "t")).unwrap().unwrap();
        assert_eq!(found, Token { uses: 1, last_used_ms: Some(77), ..token("t") });
        assert_eq!(store.read_now(|session| events::newest(session, 5)).unwrap(), [event]);
    });
}

/// What lists and outlets read: every row once, from either end.
#[test]
fn events_are_read_in_pages_from_either_end() {
    on_both(|location| {
        let store = Store::new(location).unwrap();
        store
            .write_now(|session| {
                for number in 0..7_i64 {
                    let kind = if number % 2 == 0 { "key" } else { "machine" };
                    // Ids that come too late, as of a bridge whose clock is behind.
                    let id = format!("{:026}", 9 - number);
                    let kind = kind.to_owned();
                    let event = Event { id, at_ms: number * 10, kind, ..Event::default() };
                    events::insert(session, &event)?;
                }
                Ok(())
            })
            .unwrap();
        let at = |events: &[Event]| events.iter().map(|it| it.at_ms / 10).collect::<Vec<_>>();
        let all = store.read_now(|session| events::after(session, "", 100)).unwrap();
        assert_eq!(at(&all), [0, 1, 2, 3, 4, 5, 6], "in the order of writing, whatever the ids");
        let (third, fifth) = (all[2].id.clone(), all[4].id.clone());
        let (from, to) = (third.clone(), fifth.clone());
        let found = store.read_now(move |session| {
            Ok((
                events::after(session, &from, 2)?,
                events::count_after(session, &from)?,
                events::before(session, Some(&to), None, 2)?,
                events::before(session, None, Some("key"), 2)?,
                events::last_id_before(session, 30)?,
            ))
        });
        let (after, count, before, keys, last) = found.unwrap();
        assert_eq!((at(&after), count, at(&before)), (vec![3, 4], 4, vec![3, 2]));
        assert_eq!((at(&keys), last), (vec![6, 4], Some(third.clone())));
        let late = Event { id: "0".to_owned(), at_ms: 5, ..Event::default() };
        store.write_now(move |session| events::insert(session, &late)).unwrap();
        let last = |from_ms| {
            store.read_now(move |session| events::last_id_before(session, from_ms)).unwrap()
        };
        assert_eq!(last(30), Some(third), "an old date behind a recent one is no older");
        assert_eq!(last(0), None);
        let newest = store.read_now(events::last_id).unwrap();
        assert!(newest.is_some());
        assert_eq!(last(61), newest, "nothing is recent");
        assert_eq!(store.read_now(move |s| events::count_after(s, &fifth)).unwrap(), 3);
    });
}

/// Filters and pages of machines, with what SQL could mistake for something else.
#[test]
fn machines_are_read_in_pages() {
    on_both(|location| {
        let store = Store::new(location).unwrap();
        store
            .write_now(|session| {
                for (number, name) in ["a%b", "a_b", "A!b", "axb"].into_iter().enumerate() {
                    let id = format!("0{number}");
                    let row = machine(&id, name, State::Pending);
                    machines::insert(session, &Machine { hostname: name.to_owned(), ..row })?;
                }
                machines::insert(session, &machine("09", "over", State::Deleted))
            })
            .unwrap();
        let page = |filter: machines::Filter, count| {
            let found = store.read_now(move |session| machines::page(session, &filter, count));
            found.unwrap().into_iter().map(|it| it.id).collect::<Vec<_>>()
        };
        let all = machines::Filter::default();
        assert_eq!(page(all.clone(), 2), ["00", "01"]);
        let after = Some((1_000, "01".to_owned()));
        assert_eq!(page(machines::Filter { after, ..all.clone() }, 10), ["02", "03", "09"]);
        let state = Some(State::Deleted);
        assert_eq!(page(machines::Filter { state, ..all.clone() }, 10), ["09"]);
        for (text, found) in [("a%b", "00"), ("A_B", "01"), ("a!B", "02"), ("XB", "03")] {
            let text = Some(text.to_owned());
            assert_eq!(page(machines::Filter { text, ..all.clone() }, 10), [found]);
        }
    });
}

#[test]
fn work_that_fails_leaves_nothing() {
    on_both(|location| {
        let store = Store::new(location).unwrap();
        let failed = store.write_now(|session| {
            machines::insert(session, &machine("01", "a", State::Pending))?;
            Err::<(), _>(StoreError::Failed("on purpose".to_owned()))
        });
        assert_eq!(failed, Err(StoreError::Failed("on purpose".to_owned())));
        // A statement that is wrong, too.
        let failed = store.write_now(|session| {
            machines::insert(session, &machine("02", "b", State::Pending))?;
            session.execute("INSERT INTO nowhere VALUES (1)", &[])
        });
        assert!(matches!(failed, Err(StoreError::Failed(_))), "{failed:?}");
        assert_eq!(store.read_now(machines::all).unwrap(), []);
    });
}

/// W8: the same machine has one live record, whoever writes.
#[test]
fn a_machine_has_one_live_record() {
    on_both(|location| {
        let store = Store::new(location).unwrap();
        let insert = |id: &'static str, state| {
            store.write_now(move |session| machines::insert(session, &machine(id, "same", state)))
        };
        insert("01", State::Online).unwrap();
        insert("02", State::Pending).unwrap_err();
        insert("03", State::Deleted).unwrap();
        let live = store.read_now(|session| machines::live_by_identity(session, "same")).unwrap();
        assert_eq!(live.unwrap().id, "01");
    });
}

#[test]
fn every_key_has_a_second_of_its_own() {
    on_both(|location| {
        let store = Store::new(location).unwrap();
        let ask = |id: &'static str, least| {
            store
                .write_now(move |session| {
                    let mut key = key(id, least);
                    keys::ask(session, &mut key)?;
                    Ok(key.expires_ms)
                })
                .unwrap()
        };
        assert_eq!(ask("a", 10_200), 11_000);
        assert_eq!(ask("b", 10_900), 12_000);
        assert_eq!(ask("c", 12_500), 13_000);
        assert_eq!(ask("d", 10_000), 14_000);
        store.write_now(|session| keys::settle(session, "b", KeyState::Issued, Some("7"))).unwrap();
        store.write_now(|session| keys::settle(session, "b", KeyState::Expired, None)).unwrap();
        let found = store.read_now(|session| keys::of_machine(session, "m")).unwrap();
        assert_eq!(found.len(), 4);
        let b = found.iter().find(|key| key.id == "b").unwrap();
        assert_eq!((b.state, b.key_id.as_deref()), (KeyState::Expired, Some("7")));
        assert_eq!(store.read_now(|session| keys::known_numbers(session, 0)).unwrap(), ["7"]);
    });
}

#[test]
fn secrets_of_a_token_end_when_they_are_told_to() {
    on_both(|location| {
        let store = Store::new(location).unwrap();
        store
            .write_now(|session| {
                tokens::insert(session, &token("t"))?;
                for (hash, ends_ms) in [("aa", None), ("bb", Some(50))] {
                    let (hash, token) = (hash.to_owned(), "t".to_owned());
                    tokens::add_secret(session, &TokenSecret { hash, token, ends_ms }, 1)?;
                }
                tokens::end_secrets(session, "t", 100)
            })
            .unwrap();
        let valid = |now| {
            let mut hashes: Vec<String> = store
                .read_now(move |session| tokens::valid_secrets(session, now))
                .unwrap()
                .into_iter()
                .map(|secret| secret.hash)
                .collect();
            hashes.sort();
            hashes
        };
        assert_eq!(valid(49), ["aa", "bb"]);
        assert_eq!(valid(50), ["aa"]);
        assert!(valid(100).is_empty());
        assert!(store.write_now(|session| tokens::revoke(session, "t", 60)).unwrap());
        assert!(!store.write_now(|session| tokens::revoke(session, "t", 61)).unwrap());
        assert!(valid(1).is_empty());
    });
}

/// Two processes, such as the bridge and a command, or two bridges on one server.
#[test]
fn several_handles_write_one_after_the_other() {
    on_both(|location| {
        Store::new(location.clone()).unwrap().read_now(|_| Ok(())).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let store = Store::new(location.clone()).unwrap();
                scope.spawn(move || {
                    for n in 0..25 {
                        let id = format!("{writer}-{n}");
                        store
                            .write_now(move |session| {
                                // Read, then write: a lost update would show.
                                let count = machines::all(session)?.len();
                                let mut row = machine(&id, &id, State::Pending);
                                row.hostname = format!("n{count}");
                                machines::insert(session, &row)
                            })
                            .unwrap();
                    }
                });
            }
        });
        let store = Store::new(location).unwrap();
        let mut names: Vec<String> =
            store.read_now(machines::all).unwrap().into_iter().map(|it| it.hostname).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 100);
    });
}

#[test]
fn what_is_over_is_removed_after_its_time() {
    on_both(|location| {
        let store = Store::new(location).unwrap();
        store
            .write_now(|session| {
                for (id, state) in [("01", State::Deleted), ("02", State::Online)] {
                    machines::insert(session, &machine(id, id, state))?;
                }
                let mut over = machine("03", "03", State::Expired);
                over.changed_ms = 5_000;
                machines::insert(session, &over)?;
                machines::prune(session, 5_000)
            })
            .unwrap();
        let left: Vec<String> =
            store.read_now(machines::all).unwrap().into_iter().map(|it| it.id).collect();
        assert_eq!(left, ["02", "03"]);
    });
}

/// A step that only adds.
const WITH_COLUMN: Migration =
    Migration { usable_from: 1, statements: &["ALTER TABLE machines ADD COLUMN colour TEXT"] };

/// What a release to come may have after the steps of this one.
fn steps_to_come(more: &[Migration]) -> &'static [Migration] {
    [MIGRATIONS, more].concat().leak()
}

/// O7.1. Forward by itself, back by one release, and no further.
#[test]
fn a_store_of_the_next_release_can_still_be_used() {
    let known = i64::try_from(MIGRATIONS.len()).unwrap();
    let needed = known + 2;
    let without_table = Migration { usable_from: needed, statements: &["DROP TABLE machines"] };
    on_both(|location| {
        let insert = |store: &Store, id: &'static str| {
            store.write_now(move |s| machines::insert(s, &machine(id, id, State::Online)))
        };
        insert(&Store::new(location.clone()).unwrap(), "01").unwrap();

        let with_column = steps_to_come(&[WITH_COLUMN]);
        let newer = Store::with_migrations(location.clone(), with_column).unwrap();
        newer.write_now(|s| s.execute("UPDATE machines SET colour = $1", &["red".into()])).unwrap();
        drop(newer);
        let older = Store::new(location.clone()).unwrap();
        insert(&older, "02").unwrap();
        assert_eq!(older.read_now(machines::all).unwrap().len(), 2);
        let newer = Store::with_migrations(location.clone(), with_column).unwrap();
        let red = newer.read_now(|s| s.query("SELECT id FROM machines WHERE colour = 'red'", &[]));
        assert_eq!(red.unwrap().len(), 1, "nothing is lost on the way");

        let steps = steps_to_come(&[WITH_COLUMN, without_table]);
        Store::with_migrations(location.clone(), steps).unwrap().read_now(|_| Ok(())).unwrap();
        let refused = Store::new(location).unwrap().read_now(|_| Ok(()));
        assert_eq!(refused, Err(StoreError::TooNew { found: needed, needed, known }));
    });
}

/// Must hold: the program of every schema so far can use a store of this one, and what it writes
/// there is kept.
#[test]
fn older_programs_can_use_a_store_of_this_release() {
    assert!(MIGRATIONS.len() > 1, "there is an older schema");
    on_both(|location| {
        drop(Store::new(location.clone()).unwrap().read_now(|_| Ok(())));
        for known in 1..MIGRATIONS.len() {
            let older = Store::with_migrations(location.clone(), &MIGRATIONS[..known]).unwrap();
            let id = known.to_string();
            older
                .write_now(move |s| machines::insert(s, &machine(&id, &id, State::Online)))
                .unwrap();
        }
        let store = Store::new(location).unwrap();
        assert_eq!(store.read_now(machines::all).unwrap().len(), MIGRATIONS.len() - 1);
    });
}

/// O7.1: the release before, with the store of this one.
#[test]
fn the_release_before_can_still_use_the_store() {
    on_both(|location| {
        let insert = |store: &Store, id: &'static str| {
            store.write_now(move |s| machines::insert(s, &machine(id, id, State::Online)))
        };
        let before = Store::with_migrations(location.clone(), &MIGRATIONS[..1]).unwrap();
        insert(&before, "01").unwrap();
        drop(before);
        let now = Store::new(location.clone()).unwrap();
        let node = NodePublic::from_bytes([1; 32]);
        now.write_now(move |s| relay_events::insert_close(s, &node, 1_000)).unwrap();
        drop(now);
        let before = Store::with_migrations(location.clone(), &MIGRATIONS[..1]).unwrap();
        insert(&before, "02").unwrap();
        drop(before);
        let now = Store::new(location).unwrap();
        assert_eq!(now.read_now(machines::all).unwrap().len(), 2);
        assert_eq!(now.read_now(relay_events::newest), Ok(1));
    });
}

/// W10.
#[test]
fn the_file_is_for_its_owner_only() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state/bridge.sqlite");
    let store = Store::new(Location::File(path.clone())).unwrap();
    store.write_now(|s| machines::insert(s, &machine("01", "a", State::Online))).unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let mut files = 0;
    for file in fs::read_dir(path.parent().unwrap()).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
        files += 1;
    }
    assert!(files >= 2, "the file and its log");
    // A mode that somebody has changed is mended.
    drop(store);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    Store::new(Location::File(path.clone())).unwrap().read_now(|_| Ok(())).unwrap();
    assert_eq!(mode(&path), 0o600);
}

/// W9, O8.5. Whatever is there is left as it is, byte for byte.
#[test]
fn a_damaged_file_is_refused_and_not_overwritten() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(Location::File(folder.path().join("good"))).unwrap();
    for n in 0..200 {
        store
            .write_now(move |s| {
                machines::insert(s, &machine(&n.to_string(), &n.to_string(), State::Online))
            })
            .unwrap();
    }
    let copy = folder.path().join("copy");
    backup::write(&store, &copy).unwrap();
    let bytes = fs::read(&copy).unwrap();
    let mut torn = bytes.clone();
    for byte in &mut torn[8_192..16_384] {
        *byte = 0xa5;
    }
    for (name, bytes) in [
        ("rubbish", b"this is not a database, whatever its name says".repeat(100)),
        ("json", b"{\"machines\": []}".to_vec()),
        ("torn", torn),
        ("half", bytes[..bytes.len() / 2].to_vec()),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let store = Store::new(Location::File(path.clone())).unwrap();
        for _ in 0..2 {
            let refused = store
                .write_now(|s| machines::insert(s, &machine("01", "a", State::Online)))
                .unwrap_err();
            assert!(matches!(refused, StoreError::Damaged(_)), "{name}: {refused:?}");
        }
        drop(store);
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
    }
}

#[test]
fn a_file_that_was_moved_takes_nothing_more() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store");
    let store = Store::new(Location::File(path.clone())).unwrap();
    store.write_now(|_| Ok(())).unwrap();
    fs::rename(&path, folder.path().join("elsewhere")).unwrap();
    assert_eq!(store.write_now(|_| Ok(())), Err(StoreError::Moved));
    fs::write(&path, b"").unwrap();
    assert_eq!(store.write_now(|_| Ok(())), Err(StoreError::Moved));
    assert_eq!(fs::read(&path).unwrap(), b"");
}

/// O8.5. The bound on pages is what SQLite meets on a full disk, to the same error.
#[test]
fn a_full_disk_is_an_error_and_goes_by() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(Location::File(folder.path().join("store"))).unwrap();
    let bound = |pages: &'static str| {
        store
            .write_now(move |s| s.query(&format!("PRAGMA max_page_count = {pages}"), &[]))
            .unwrap();
    };
    let fill = |n: usize| {
        store.write_now(move |s| {
            let mut row = machine(&n.to_string(), &n.to_string(), State::Online);
            row.hostname = "x".repeat(4_000);
            machines::insert(s, &row)
        })
    };
    fill(0).unwrap();
    bound("40");
    let mut taken = 1;
    let error = loop {
        match fill(taken) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1_000);
    };
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert_eq!(store.read_now(machines::all).unwrap().len(), taken, "reading goes on");
    bound("100000");
    fill(taken).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let store = Store::new(Location::File("/proc/no/store".into())).unwrap();
    store.write_now(|_| Ok(())).unwrap_err();
    let folder = TempDir::new().unwrap();
    let store = Store::new(Location::File(folder.path().to_owned())).unwrap();
    store.write_now(|_| Ok(())).unwrap_err();
}

/// O8.1.
#[test]
fn a_backup_is_a_store_and_overwrites_nothing() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(Location::File(folder.path().join("store"))).unwrap();
    store.write_now(|s| machines::insert(s, &machine("01", "a", State::Online))).unwrap();
    let copy = folder.path().join("copy");
    backup::write(&store, &copy).unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    backup::write(&store, &copy).unwrap_err();
    let restored = Store::new(Location::File(copy)).unwrap();
    assert_eq!(restored.read_now(machines::all).unwrap().len(), 1);
}

#[test]
fn a_server_that_is_not_there_is_an_error_and_not_the_end() {
    let nowhere = TempDir::new().unwrap();
    let host = nowhere.path().to_str().unwrap().replace('/', "%2F");
    let server: Server = format!("postgres://bridge@{host}/x").parse().unwrap();
    let store = Store::new(Location::Server(Box::new(server))).unwrap();
    for _ in 0..2 {
        let error = store.read_now(|_| Ok(())).unwrap_err();
        assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    }
}

/// A server that restarts costs one piece of work at most.
#[test]
fn a_connection_that_was_cut_is_made_again() {
    let Some(location) = postgres_server::database() else { return };
    let store = Store::new(location.clone()).unwrap();
    store.write_now(|s| machines::insert(s, &machine("01", "a", State::Online))).unwrap();
    let other = Store::new(location).unwrap();
    let cut = other.read_now(|session| {
        session.query(
            "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
            &[],
        )
    });
    assert_eq!(cut.unwrap()[0].number(0), Ok(1));
    let insert = || store.write_now(|s| machines::insert(s, &machine("02", "b", State::Online)));
    let error = insert().unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    insert().unwrap();
    assert_eq!(store.read_now(machines::all).unwrap().len(), 2);
}

/// No password where people and programs read it.
#[test]
fn a_url_has_no_password_in_it() {
    let parse = |text: &str| text.parse::<Server>().map(|server| format!("{server:?}"));
    assert!(parse("postgres://bridge@db.example.org/bridge").is_ok());
    assert_eq!(parse("postgres://bridge:geheim@db/x"), Err(ParseServerError::Password));
    assert_eq!(parse("postgres://db/x?sslmode=require"), Err(ParseServerError::Tls));
    for text in ["", "mysql://db/x", "postgres://db/x?port=abc&password=geheim"] {
        let error = parse(text).unwrap_err();
        assert!(matches!(error, ParseServerError::Malformed(_)), "{error:?}");
        assert!(!error.to_string().contains("geheim"));
    }
    let secret = coord_bridge::headscale::Secret::new("geheim".to_owned());
    let server: Server = "postgres://bridge@db/x".parse().unwrap();
    let location = Location::Server(Box::new(server.with_password(&secret)));
    assert!(!format!("{location:?} {location}").contains("geheim"));
}
