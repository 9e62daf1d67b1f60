//! Files that the bridge needs: secrets, tokens, the map, the store.
//!
//! Does: opens each as `serve` does, and looks at who else may read it.
//! Does not: make one, or keep or show what is in it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Finding, Part, Patient};
use crate::config::{Config, Reach, SecretFile};
use crate::provisioning::token_file;
use crate::publication::upstream::{Source, read_bounded};
use crate::store;

/// Most bytes of a secret's file: far more than any has.
const MAX_SECRET_LEN: u64 = 64 * 1024;

/// All files of secrets and tokens, and the folder of the map's file.
pub(super) fn secrets(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        files_of(config).into_iter().map(|(key, file)| secret(&key, &file)).collect();
    findings.extend(tokens(config).into_iter().map(|(key, path)| token(key, &path)));
    if let Some(path) = &config.map_file {
        findings.push(map_file(path));
    }
    findings
}

/// The store as it lies there.
pub(super) fn store(patient: &Patient) -> Vec<Finding> {
    let part = Part::Configuration;
    let location = match &patient.store {
        Ok(location) => location,
        Err(why) => return vec![Finding::wrong(part, "store", why, "mend that file")],
    };
    let tried = format!("store {location}");
    vec![match store::look(location) {
        Ok(Some(schema)) => Finding::good(part, tried, format!("opens; schema {schema}")),
        Ok(None) => Finding::not_tried(part, tried, "there is none yet; `serve` makes it"),
        Err(error) => {
            let remedy = "see docs/disaster-recovery.md; the map is published all the same";
            Finding::wrong(part, tried, error.to_string(), remedy)
        }
    }]
}

fn files_of(config: &Config) -> Vec<(String, SecretFile)> {
    let mut files = Vec::new();
    for (name, headscale, _) in &config.verify.headscales {
        if let Reach::Url { api_key, .. } = &headscale.reach {
            files.push((format!("api_key_file of {name}"), api_key.clone()));
        }
    }
    if let Some(login) = &config.map_login {
        files.push(("map_password_file".to_owned(), login.password_file.clone()));
    }
    if let Some(file) = &config.registration.store_password_file {
        files.push(("store_password_file".to_owned(), file.clone()));
    }
    for upstream in &config.plan.upstreams {
        if let Source::Url { login: Some((_, file)), .. } = &upstream.source {
            files.push((format!("password_file of upstream {}", upstream.name()), file.clone()));
        }
    }
    for webhook in &config.events.webhooks {
        files.push((
            format!("secret_file of webhook {}", webhook.name),
            webhook.secret_file.clone(),
        ));
    }
    files
}

fn tokens(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let mut files = Vec::new();
    if let Some(settings) = &config.registration.settings
        && config.registration.headscale.is_some()
    {
        files.push(("provisioning.token_file", settings.token_file.clone()));
        files.push(("provisioning.admin_token_file", settings.admin_token_file.clone()));
    }
    if !config.listen.verify.is_empty() {
        files.push(("relay_token_file", config.verify.relay_token_file.clone()));
    }
    files
}

fn secret(key: &str, file: &SecretFile) -> Finding {
    let part = Part::Configuration;
    let tried = format!("{key} {file}");
    let Ok(path) = file.locate() else {
        let said = "systemd hands it to the unit only; there it is tried by `serve`";
        return Finding::not_tried(part, tried, said);
    };
    match read_bounded(&path, MAX_SECRET_LEN) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => {
            Finding::wrong(part, tried, "it is empty", "write the secret into it")
        }
        Ok(_) => by_mode(part, tried, &path),
        Err(error) => unreadable(part, tried, &path, &error),
    }
}

fn token(key: &str, path: &Path) -> Finding {
    let part = Part::Configuration;
    let tried = format!("{key} {}", path.display());
    match token_file::read(path) {
        Ok(Some(_)) => by_mode(part, tried, path),
        Ok(None) => Finding::not_tried(part, tried, "there is none yet; `serve` makes it"),
        Err(error) => {
            Finding::wrong(part, tried, error.to_string(), "run as the bridge's user, or mend it")
        }
    }
}

fn by_mode(part: Part, tried: String, path: &Path) -> Finding {
    if token_file::is_open_to_others(path) {
        let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode() & 0o7777);
        let remedy = format!("chmod 600 {}", path.display());
        return Finding::wrong(part, tried, format!("others may read it: mode {mode:04o}"), remedy);
    }
    Finding::good(part, tried, "readable, and by nobody else")
}

fn unreadable(part: Part, tried: String, path: &Path, error: &io::Error) -> Finding {
    let remedy = if error.kind() == io::ErrorKind::PermissionDenied {
        "run `check` as the bridge's user; if it is, make that the owner of the file".to_owned()
    } else {
        format!("put the secret into {}", path.display())
    };
    Finding::wrong(part, tried, format!("cannot be read: {error}"), remedy)
}

fn map_file(path: &Path) -> Finding {
    let part = Part::Configuration;
    let tried = format!("map_file {}", path.display());
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (std::fs::metadata(path), folder.is_dir()) {
        (Ok(file), _) if file.permissions().mode() & 0o044 == 0o044 => {
            Finding::good(part, tried, "Headscale may read it, if it may enter the folder")
        }
        (Ok(_), _) => {
            let remedy = "chmod 644: a map is no secret, and Headscale has another user";
            Finding::notice(part, tried, "others may not read it", remedy)
        }
        (Err(_), true) => Finding::not_tried(part, tried, "there is none yet; `serve` makes it"),
        (Err(_), false) => {
            let remedy = format!("make the folder {} for the bridge's user", folder.display());
            Finding::wrong(part, tried, "its folder cannot be found", remedy)
        }
    }
}
