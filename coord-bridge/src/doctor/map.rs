//! The map as the bridge serves it, and as Headscale has it.
//!
//! Does: fetches both, where they can be seen, and looks for our regions in them.
//! Does not: see what single clients have; `tailscale debug derp-map` there says it.

use std::net::SocketAddr;
use std::path::Path;

use derp::map::DerpMap;
use derp_relay::probe::{Fault, http};
use hyper::{Method, Uri};

use super::ports::Running;
use super::{Finding, Part};
use crate::config::{Config, MapLogin, reachable};
use crate::headscale::transport::{Ask, Transport};
use crate::headscale_file::HeadscaleFile;
use crate::publication::upstream::{basic, read_bounded};

/// Most bytes of a map, or of what Headscale says of it.
const MAX_MAP_LEN: usize = 2 * 1024 * 1024;

/// Where Headscale's debug listener shows its map: since 0.27, and in 0.26.
const MAP_PAGES: [&str; 2] = ["/debug/derp", "/debug/derpmap"];

/// Most bytes of a password's file.
const MAX_PASSWORD_LEN: u64 = 1_024;

/// Looks at both; gives the map that is served, if one is.
pub(super) async fn look(
    config: &Config,
    bridge: &Running,
    headscale: Option<&HeadscaleFile>,
) -> (Vec<Finding>, Option<DerpMap>) {
    let (mut findings, mut map) = (Vec::new(), None);
    let login = config.map_login.as_ref().map(header);
    match bridge.map {
        None => findings.push(Finding::not_tried(
            Part::Map,
            "map_listen",
            "no bridge answers there: start `serve` and check again",
        )),
        Some(address) => {
            let login = login.clone();
            let own = config.clone();
            let work = tokio::task::spawn_blocking(move || served(&own, address, login));
            if let Ok((found, served)) = work.await {
                findings.extend(found);
                map = served;
            }
        }
    }
    let public = config.registration.settings.as_ref().and_then(|it| it.map_url.clone());
    if let Some(url) = public {
        findings.push(public_map(config, &url, login).await);
    }
    findings.push(of_headscale(config, headscale).await);
    (findings, map)
}

/// What the header `Authorization` says; none where the password cannot be read, which `files`
/// tells.
fn header(login: &MapLogin) -> Option<hyper::header::HeaderValue> {
    let path = login.password_file.locate().ok()?;
    let bytes = read_bounded(Path::new(&path), MAX_PASSWORD_LEN).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    basic(&login.user, text.lines().next()?)
}

/// Blocks.
fn served(
    config: &Config,
    address: SocketAddr,
    login: Option<Option<hyper::header::HeaderValue>>,
) -> (Vec<Finding>, Option<DerpMap>) {
    let part = Part::Map;
    let at = reachable(address);
    let mut findings = Vec::new();
    match http::get(at, "/ready", "") {
        Ok(answer) if answer.status() == 200 => {
            findings.push(Finding::good(part, format!("{address}/ready"), "ready"));
        }
        Ok(answer) => {
            let said = String::from_utf8_lossy(&answer.body).trim().to_owned();
            let remedy = "see the lines below, and the bridge's log";
            findings.push(Finding::wrong(part, format!("{address}/ready"), said, remedy));
        }
        Err(fault) => {
            let remedy = "see the bridge's log";
            findings.push(Finding::wrong(part, "/ready", fault.to_string(), remedy));
        }
    }
    let tried = format!("{address}/derpmap.json");
    let login = match login {
        None => String::new(),
        Some(None) => {
            let said = "needs map_password_file, which this user cannot read";
            findings.push(Finding::not_tried(part, tried, said));
            return (findings, None);
        }
        Some(Some(value)) => {
            format!("Authorization: {}\r\n", value.to_str().unwrap_or_default())
        }
    };
    let map = http::get(at, "/derpmap.json", &login).map_err(|fault| fault.to_string());
    let map = map.and_then(|answer| match answer.status() {
        200 => DerpMap::parse(&answer.body).map_err(|error| error.to_string()),
        status => Err(format!("answers {status}")),
    });
    findings.push(judge(config, tried, map.as_ref()));
    (findings, map.ok())
}

async fn public_map(
    config: &Config,
    url: &str,
    login: Option<Option<hyper::header::HeaderValue>>,
) -> Finding {
    let tried = format!("public_map_url {url}");
    if matches!(login, Some(None)) {
        let said = "needs map_password_file, which this user cannot read";
        return Finding::not_tried(Part::Map, tried, said);
    }
    let map = fetch(url, login.flatten().as_ref()).await;
    let map = map.and_then(|bytes| DerpMap::parse(&bytes).map_err(|error| error.to_string()));
    judge(config, tried, map.as_ref())
}

async fn fetch(url: &str, login: Option<&hyper::header::HeaderValue>) -> Result<Vec<u8>, String> {
    let url: Uri = url.parse().map_err(|_| "no URL".to_owned())?;
    let path = url.path_and_query().map_or("/", |it| it.as_str()).to_owned();
    let base = format!(
        "{}://{}",
        url.scheme_str().unwrap_or("http"),
        url.authority().map_or("", |it| it.as_str())
    );
    let base: Uri = base.parse().map_err(|_| "no URL".to_owned())?;
    let transport = Transport::to_url(&base, None).map_err(|error| error.to_string())?;
    let ask =
        Ask { method: Method::GET, path, body: None, repeatable: true, max_answer: MAX_MAP_LEN };
    let answer = transport.exchange(&ask, login).await.map_err(|fault| fault.to_string())?;
    if answer.status.is_success() {
        Ok(answer.body.to_vec())
    } else {
        Err(format!("answers {}", answer.status))
    }
}

/// Whether our regions are in a map.
fn judge(config: &Config, tried: String, map: Result<&DerpMap, &String>) -> Finding {
    let part = Part::Map;
    let remedy = "see the bridge's log; restart it";
    let map = match map {
        Ok(map) => map,
        Err(why) => return Finding::wrong(part, tried, why, "is it the bridge that answers?"),
    };
    let missing: Vec<String> = config
        .plan
        .map
        .regions
        .keys()
        .filter(|id| !map.regions.contains_key(id))
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        let said = format!("region {} is not in it", missing.join(", "));
        return Finding::wrong(part, tried, said, remedy);
    }
    if map.regions.is_empty() {
        let said = "no region in it: Headscale would not start with it alone";
        return Finding::wrong(part, tried, said, "start a relay that registers, or add nodes");
    }
    let nodes: usize = map.regions.values().map(|region| region.nodes.len()).sum();
    Finding::good(part, tried, format!("{} regions, {nodes} nodes", map.regions.len()))
}

/// What Headscale has, as its debug listener tells those who are near.
async fn of_headscale(config: &Config, file: Option<&HeadscaleFile>) -> Finding {
    let part = Part::Map;
    let tried = "the map that Headscale has";
    let elsewhere = "`tailscale debug derp-map` on a client shows it";
    let Some(file) = file else {
        let said = format!("cannot be seen without its configuration; {elsewhere}");
        return Finding::not_tried(part, tried, said);
    };
    let Some(address) = file.metrics_address() else {
        let said = format!("cannot be seen without metrics_listen_addr; {elsewhere}");
        return Finding::not_tried(part, tried, said);
    };
    let at = reachable(address);
    let tried = format!("{tried}, at {at}{}", MAP_PAGES[0]);
    let text = match tokio::task::spawn_blocking(move || shown(at)).await {
        Ok(Ok(answer)) if answer.status() == 200 => {
            String::from_utf8_lossy(&answer.body).into_owned()
        }
        Ok(Ok(answer)) => {
            let said = format!("answers {}: not Headscale; {elsewhere}", answer.status());
            return Finding::not_tried(part, tried, said);
        }
        Ok(Err(_)) | Err(_) => {
            let said = format!("nobody answers: Headscale is down, or elsewhere; {elsewhere}");
            return Finding::not_tried(part, tried, said);
        }
    };
    let nodes = config.plan.map.regions.values().flat_map(|region| &region.nodes);
    let missing: Vec<&str> =
        nodes.map(|node| node.host_name.as_str()).filter(|host| !text.contains(host)).collect();
    if missing.is_empty() {
        return Finding::good(part, tried, "has our relays");
    }
    let said = format!("lacks {}", missing.join(", "));
    let remedy = "does derp.urls or derp.paths name our map, and is auto_update_enabled true? \
                  Restart Headscale to have it read at once";
    Finding::wrong(part, tried, said, remedy)
}

/// What Headscale shows of its map. Blocks.
fn shown(at: SocketAddr) -> Result<http::Answer, Fault> {
    let [page, page_before] = MAP_PAGES;
    let answer = http::get(at, page, "")?;
    if answer.status() == 404 { http::get(at, page_before, "") } else { Ok(answer) }
}
