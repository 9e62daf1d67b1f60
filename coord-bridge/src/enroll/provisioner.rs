//! Asking the provisioner for a key, until it gives one or never will.
//!
//! Does: one bounded `POST /register` per try, says in words what came of each, and tells what
//! time heals (nobody there, overload, Headscale away) from what it does not (the token, the URL).
//! Does not: follow redirects, which would carry the token elsewhere; or show token or key,
//! should anybody send them back.
//!
//! What the provisioner says: `docs/provisioning.md`, sections API and Errors.

use std::net::IpAddr;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{EnrollError, Machine, Order, ProvisionerUrl};
use crate::headscale::transport::{Answer, Ask, Fault, Transport};
use crate::headscale::{Secret, one_line};
use crate::provisioning::request::checked_hostname;

/// Most bytes of an answer. Ours have some 400.
const MAX_ANSWER_LEN: usize = 16 * 1024;

/// Most characters of a key. Headscale's longest have 87.
const MAX_KEY_LEN: usize = 512;

/// A key, and what goes with it.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) key: Secret,
    /// An `http` or `https` URL without white space.
    pub(super) login_server: String,
    /// A DNS label.
    pub(super) hostname: String,
    pub(super) machine_id: Option<String>,
    pub(super) expires_at: Option<String>,
    pub(super) derp_map_url: Option<String>,
}

/// What comes of one try.
#[derive(Debug)]
enum Verdict {
    Granted(Box<Grant>),
    /// It may be otherwise the next time.
    Again {
        words: String,
        retry_after: Option<String>,
    },
    /// Somebody has to change something.
    Refused(String),
}

/// Asks until there is a key.
pub(super) async fn register(
    order: &Order,
    report: &mut (dyn FnMut(&str) + Send),
) -> Result<Grant, EnrollError> {
    let url = order.provisioner.uri();
    let place = url.to_string().trim_end_matches('/').to_owned();
    if is_in_clear(url) {
        report(&format!("{place} is no https: others on the way can read the token and the key"));
    }
    let transport = Transport::to_url(url, order.ca_file.as_deref())?;
    let ask = question(&order.machine);
    let header = authorization(&order.token);
    let tries = order.schedule.tries.max(1);
    let mut done = 1;
    loop {
        let answered =
            timeout(order.schedule.try_time, transport.exchange(&ask, Some(&header))).await;
        let verdict = match answered {
            Ok(Ok(answer)) => judge(&blotted(answer, &order.token), &order.machine),
            Ok(Err(fault)) => again(explain(&fault)),
            Err(_) => {
                let time = order.schedule.try_time.as_secs();
                again(format!("does not answer within {time} s"))
            }
        };
        let (words, retry_after) = match verdict {
            Verdict::Granted(grant) => return Ok(*grant),
            Verdict::Refused(words) => return Err(EnrollError::Refused { place, words }),
            Verdict::Again { words, .. } if done == tries => {
                return Err(EnrollError::GaveUp { place, tries, words });
            }
            Verdict::Again { words, retry_after } => (words, retry_after),
        };
        let random = getrandom::u32().map_err(std::io::Error::other)?;
        let pause = order.schedule.pause(done, retry_after.as_deref(), random);
        report(&format!(
            "try {done} of {tries}: {place} {words}; again in {:.1} s",
            pause.as_secs_f64()
        ));
        sleep(pause).await;
        done += 1;
    }
}

fn question(machine: &Machine) -> Ask {
    let mut body = json!({ "hostname": machine.hostname, "mac": machine.mac });
    if let Some(id) = &machine.id {
        body["machine_id"] = json!(id);
    }
    Ask {
        method: Method::POST,
        path: "/register".to_owned(),
        body: Some(body.to_string()),
        // The provisioner knows a repeat; a connection of its own all the same, for the few tries.
        repeatable: false,
        max_answer: MAX_ANSWER_LEN,
    }
}

fn authorization(token: &Secret) -> HeaderValue {
    // `inputs` lets ASCII through only, and nothing else makes a token.
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.reveal()))
        .unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
    header.set_sensitive(true);
    header
}

/// Whether strangers could read along. Loopback has none.
fn is_in_clear(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    url.scheme_str() != Some("https") && !is_here
}

/// The answer without the token, should somebody have sent it back where it would be quoted.
fn blotted(answer: Answer, token: &Secret) -> Answer {
    let blot = |text: &str| text.replace(token.reveal(), "…");
    if answer.status == StatusCode::OK {
        return answer;
    }
    Answer {
        body: Bytes::from(blot(&String::from_utf8_lossy(&answer.body))),
        location: answer.location.as_deref().map(blot),
        ..answer
    }
}

fn judge(answer: &Answer, machine: &Machine) -> Verdict {
    let (status, said) = (answer.status, said(answer));
    let refused = |words: String| Verdict::Refused(words);
    match status.as_u16() {
        200 => match grant(&answer.body, machine) {
            Some(grant) => Verdict::Granted(Box::new(grant)),
            None => again(
                "answers 200 without a key and a login server: is it a provisioner?".to_owned(),
            ),
        },
        300..400 => refused(format!(
            "answers {} and leads to {}: redirects are not followed; write that address, if it is \
             right, as the provisioner's URL",
            status.as_u16(),
            one_line(answer.location.as_deref().unwrap_or("nowhere"))
        )),
        400 => refused(format!("finds a fault in the request ({said}); try another --hostname")),
        401 => refused(format!(
            "does not know the token ({said}); write the one of `coord-bridge token show`, or of \
             `token create`, into the token file"
        )),
        403 => refused(format!(
            "does not take the token for this ({said}); see `coord-bridge token list` for its bounds"
        )),
        404 | 405 => refused(format!("has no /register there ({said}); is the URL right?")),
        408 | 425 | 429 | 500.. => Verdict::Again {
            words: format!("answers {} ({said})", status.as_u16()),
            retry_after: answer.retry_after.clone(),
        },
        other => refused(format!("answers {other} ({said}); is the URL right?")),
    }
}

/// What the provisioner says of a failure, on one line.
fn said(answer: &Answer) -> String {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    match body.as_ref().and_then(|body| body["error"].as_str()) {
        Some(words) => one_line(words),
        None => answer.status.canonical_reason().unwrap_or("no words").to_owned(),
    }
}

/// The key of an answer, if it can be used. Nothing in it may end in arguments or on a terminal
/// as anything but what it is.
fn grant(body: &[u8], machine: &Machine) -> Option<Grant> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| body[name].as_str().map(str::trim).filter(|text| !text.is_empty());
    let line = |name: &str| text(name).map(one_line);
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let key = text("headscale_key")?;
    let login_server = text("login_server")?;
    let is_usable = key.len() <= MAX_KEY_LEN && is_plain(key) && is_plain(login_server);
    if !is_usable || ProvisionerUrl::parse(login_server).is_err() {
        return None;
    }
    Some(Grant {
        key: Secret::new(key.to_owned()),
        login_server: login_server.to_owned(),
        // A random name is random each time; the record of a machine that comes again has one.
        hostname: text("hostname")
            .filter(|_| !machine.is_named)
            .and_then(|name| checked_hostname(name).ok())
            .unwrap_or_else(|| machine.hostname.clone()),
        machine_id: line("machine_id"),
        expires_at: line("expires_at"),
        derp_map_url: line("derp_map_url"),
    })
}

fn explain(fault: &Fault) -> String {
    let advice = match fault {
        Fault::Connect(words) if words.contains("certificate") => {
            "if an authority of your own has signed it, give --ca-file; is the clock right?"
        }
        Fault::Connect(_) => "is it running, and is the URL right?",
        Fault::CutOff(_) => "see its log, and that of a proxy before it",
        Fault::NotHttp(_) | Fault::TooLong(_) | Fault::NoRequest(_) => "is the URL right?",
    };
    format!("gives no answer: {fault}; {advice}")
}

const fn again(words: String) -> Verdict {
    Verdict::Again { words, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { hostname: "one".to_owned(), is_named: false, mac: "unknown".to_owned(), id: None }
    }

    fn granted(body: &Value) -> Option<Grant> {
        grant(body.to_string().as_bytes(), &machine())
    }

    #[test]
    fn what_would_do_harm_is_no_grant() {
        let good = json!({"headscale_key": "hskey-auth-x", "login_server": "https://hs"});
        let grant = granted(&good).unwrap();
        assert_eq!((grant.key.reveal(), grant.hostname.as_str()), ("hskey-auth-x", "one"));
        assert!(!format!("{grant:?}").contains("hskey"), "{grant:?}");
        for (name, value) in [
            ("headscale_key", json!("")),
            ("headscale_key", json!(null)),
            ("headscale_key", json!(7)),
            ("headscale_key", json!("a b")),
            ("headscale_key", json!("a\u{1b}b")),
            ("headscale_key", json!("x".repeat(MAX_KEY_LEN + 1))),
            ("login_server", json!(null)),
            ("login_server", json!("null")),
            ("login_server", json!("https://hs\u{7}")),
            ("login_server", json!("https://hs --operator=x")),
            ("login_server", json!("file:///etc")),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert!(granted(&bad).is_none(), "{bad}");
        }
        for body in ["", "[]", "null", "<html>", "{", "7"] {
            assert!(super::grant(body.as_bytes(), &machine()).is_none(), "{body}");
        }
    }

    #[test]
    fn only_a_name_that_is_one_is_taken_over() {
        for (name, taken) in [
            (json!("Older-Name"), "older-name"),
            (json!("x --ssh"), "one"),
            (json!("\u{1b}"), "one"),
            (json!([]), "one"),
        ] {
            let body = json!({
                "headscale_key": "k", "login_server": "http://hs", "hostname": name,
                "expires_at": "a\u{1b}b",
            });
            let grant = granted(&body).unwrap();
            assert_eq!(grant.hostname, taken);
            assert_eq!(grant.expires_at.as_deref(), Some("a b"));
            let named = Machine { is_named: true, ..machine() };
            let grant = super::grant(body.to_string().as_bytes(), &named).unwrap();
            assert_eq!(grant.hostname, "one", "a name that was chosen stays");
        }
    }

    #[test]
    fn strangers_are_where_the_way_leaves_the_machine() {
        for (text, is_clear) in [
            ("http://127.0.0.1:9090", false),
            ("http://[::1]:9090", false),
            ("http://localhost", false),
            ("https://bridge.example.org", false),
            ("http://bridge.example.org", true),
            ("http://192.0.2.1", true),
        ] {
            assert_eq!(is_in_clear(ProvisionerUrl::parse(text).unwrap().uri()), is_clear, "{text}");
        }
    }
}
