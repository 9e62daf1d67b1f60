//! The map that is published now, in every form, and whether all is well with it.
//!
//! Does: renders a map once, so that every answer and the file hold the same bytes until the map
//! changes, and replaces it as a whole.
//! Does not: listen, or write the file; those are `http` and `map_file`.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use derp::map::DerpMap;
use hyper::header::HeaderValue;

use crate::publication::embedded::Collision;

/// A form of the map.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For `derp.urls` of Headscale, and for clients.
    Json,
    /// For `derp.paths` of Headscale.
    Yaml,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
        })
    }
}

/// One map in one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// The bytes.
    pub bytes: Bytes,
    /// What an `ETag` header says of them.
    pub tag: HeaderValue,
}

/// One map in every form.
#[derive(Clone, Debug, PartialEq)]
pub struct Edition {
    map: DerpMap,
    json: Rendering,
    yaml: Rendering,
}

/// What is published now. Shared by all listeners.
#[derive(Debug)]
pub struct Published {
    edition: ArcSwap<Edition>,
    /// The configuration could not be read again.
    reload_refused: AtomicBool,
    /// The map cannot be written to its file.
    file_refused: AtomicBool,
    /// What Headscale's embedded relay does, in words for strangers.
    collision: ArcSwapOption<&'static str>,
    /// The process is about to end.
    stopping: AtomicBool,
}

impl Edition {
    /// Renders `map`, which must be without faults.
    #[must_use]
    pub fn new(map: DerpMap) -> Self {
        let json = Rendering::new(map.to_json());
        let yaml = Rendering::new(map.to_yaml());
        Self { map, json, yaml }
    }

    /// The map.
    #[must_use]
    pub const fn map(&self) -> &DerpMap {
        &self.map
    }

    /// The map in this form.
    #[must_use]
    pub const fn rendering(&self, format: Format) -> &Rendering {
        match format {
            Format::Json => &self.json,
            Format::Yaml => &self.yaml,
        }
    }
}

impl Rendering {
    fn new(text: String) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        // Digits in quotes always are a header's value.
        let tag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish()))
            .unwrap_or(HeaderValue::from_static("\"\""));
        Self { bytes: Bytes::from(text), tag }
    }
}

impl Published {
    /// Begins with `edition`.
    #[must_use]
    pub fn new(edition: Edition) -> Self {
        Self {
            edition: ArcSwap::from_pointee(edition),
            reload_refused: AtomicBool::new(false),
            file_refused: AtomicBool::new(false),
            collision: ArcSwapOption::empty(),
            stopping: AtomicBool::new(false),
        }
    }

    /// What is published now.
    #[must_use]
    pub fn edition(&self) -> Arc<Edition> {
        self.edition.load_full()
    }

    /// Publishes `edition` from now on.
    pub fn replace(&self, edition: Arc<Edition>) {
        self.edition.store(edition);
    }

    /// Notes that the configuration is the one that was read last.
    pub fn accept_reload(&self) {
        self.reload_refused.store(false, Ordering::Relaxed);
    }

    /// Notes that a newer configuration was refused, and that the old map stays.
    pub fn refuse_reload(&self) {
        self.reload_refused.store(true, Ordering::Relaxed);
    }

    /// Notes whether the map cannot be written to its file, and what stands between the map
    /// and Headscale's clients.
    pub fn set_findings(&self, file_refused: bool, collision: Option<&Collision>) {
        self.file_refused.store(file_refused, Ordering::Relaxed);
        self.collision.store(collision.map(|it| Arc::new(it.finding())));
    }

    /// Notes that the process is about to end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// What keeps `/ready` from saying yes, without anything that strangers should not read.
    #[must_use]
    pub fn finding(&self) -> Option<&'static str> {
        if self.stopping.load(Ordering::Relaxed) {
            Some("stopping")
        } else if self.reload_refused.load(Ordering::Relaxed) {
            Some("the new configuration is refused, the old map stays; the log says why")
        } else if self.file_refused.load(Ordering::Relaxed) {
            Some("the map cannot be written to its file, which stays as it was; the log says why")
        } else {
            self.collision.load().as_deref().copied()
        }
    }
}
