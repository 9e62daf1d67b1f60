//! Answers of real Headscales, in files that the tests of `real` write.
//!
//! One file for each step of `scenario`: which program answered, which call it was, what was
//! asked and what was answered, byte for byte.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use coord_bridge::headscale::{Client, IssuedKey, Limits};
use serde::{Deserialize, Serialize};

use crate::fake::{Fake, Reply, Request};
use crate::scenario::{self, World};
use crate::{key_file, url};

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    /// What the program calls itself.
    pub(crate) headscale: String,
    /// What was called.
    pub(crate) call: String,
    pub(crate) exchanges: Vec<Exchange>,
}

/// One request with its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: String,
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) answer: String,
}

/// Where they lie.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/headscale/recorded")
}

/// The name of the file of a step.
pub(crate) fn file_name(number: usize, call: &str) -> String {
    let words: Vec<&str> = call
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|it| !it.is_empty())
        .collect();
    format!("{number:02}-{}.json", words.join("-").to_lowercase())
}

/// Every recorded release.
pub(crate) fn releases() -> Vec<PathBuf> {
    let mut releases: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    releases.sort();
    releases
}

/// Answers what was recorded, if it is asked as it was then.
pub(crate) struct Replay {
    release: PathBuf,
    steps: usize,
    left: Arc<Mutex<VecDeque<Exchange>>>,
    pub(crate) fake: Fake,
    key_file: tempfile::NamedTempFile,
}

impl Replay {
    pub(crate) fn new(release: &Path) -> Self {
        let left = Arc::new(Mutex::new(VecDeque::new()));
        let fake = Fake::start({
            let left = Arc::clone(&left);
            move |request| reply(request, &mut left.lock().unwrap())
        });
        Self { release: release.to_owned(), steps: 0, left, fake, key_file: key_file("any-key") }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&url(&self.fake.url(), self.key_file.path()), Limits::default()).unwrap()
    }
}

impl World for Replay {
    fn step(&mut self, call: &str) {
        self.steps += 1;
        let path = self.release.join(file_name(self.steps, call));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; record it anew", path.display()));
        let step: Step = serde_json::from_str(&text).unwrap();
        assert_eq!(step.call, call);
        let mut left = self.left.lock().unwrap();
        assert!(left.is_empty(), "before {call}: not asked for: {left:?}");
        left.extend(step.exchanges);
    }

    fn join(&mut self, _: &str, _: &str) {}

    fn enroll(&mut self, _: &str, _: &IssuedKey) -> bool {
        let next = format!("{:02}-", self.steps + 1);
        let mut files = std::fs::read_dir(&self.release).unwrap();
        files.any(|file| file.unwrap().file_name().to_str().unwrap().starts_with(&next))
    }

    fn spoil_key(&mut self, _: bool) -> bool {
        true
    }
}

fn reply(request: &Request, left: &mut VecDeque<Exchange>) -> Reply {
    let Some(next) = left.pop_front() else {
        return Reply::answer(599, "text/plain", "nothing more was asked for");
    };
    let asked = (&request.method, &request.path, &request.body);
    if asked != (&next.method, &next.path, &next.body) {
        crate::say(&format!("asked {request:?}, recorded is {next:?}"));
        return Reply::answer(599, "text/plain", "something else was asked for");
    }
    Reply::answer(next.status, &next.content_type, &next.answer)
}

/// Every release, as it was recorded.
#[tokio::test]
async fn recorded_answers_are_understood() {
    let releases = releases();
    assert!(releases.len() > 1, "{releases:?}");
    for release in releases {
        let mut replay = Replay::new(&release);
        let client = replay.client();

        scenario::run(&client, &mut replay).await;

        assert!(replay.left.lock().unwrap().is_empty());
        let files = std::fs::read_dir(&release).unwrap().count();
        let document = usize::from(release.join("openapi.json").exists());
        assert_eq!(files, replay.steps + document, "files of steps that are no more");
    }
}
