//! The files of a first set-up, as text.
//!
//! Does: writes values so that no text of Headscale's configuration can become another key.
//! Does not: decide anything; that is `facts`.

use serde_json::Value;

use super::MARK;
use super::facts::{Facts, Guess};

/// How often Headscale shall look for another map. Each time costs a small message per node.
const UPDATE_FREQUENCY: &str = "10m";

pub(super) fn relay(facts: &Facts) -> String {
    let Facts { relay, relay_metrics, verify, .. } = facts;
    format!(
        "# The relay, behind a proxy that has the certificate. STUN goes past the proxy: open UDP\n\
         # 3478 in the firewall.\n\
         {hostname}\
         tls = \"off\"\n\
         listen_derp = {relay}\n\
         listen_metrics = {relay_metrics}\n\
         # All clients come from the proxy's address.\n\
         handshakes_per_address = 0\n\
         \n\
         # Who may enter: the bridge says it, and tells at once of nodes that are gone. The token is a\n\
         # copy of the bridge's, for the relay's user.\n\
         verify_url = {verify_url}\n\
         bridge_url = {bridge_url}\n\
         bridge_token_file = \"/etc/derp-relay/relay-token\"\n\
         bridge_derp_port = 443\n",
        hostname = key("hostname", &facts.hostname),
        relay = quoted(&relay.to_string()),
        relay_metrics = quoted(&relay_metrics.to_string()),
        verify_url = quoted(&format!("http://{verify}/verify")),
        bridge_url = quoted(&format!("http://{verify}")),
    )
}

pub(super) fn bridge(facts: &Facts) -> String {
    let Facts { map, verify, admin, metrics, register, .. } = facts;
    let at = |address: &std::net::SocketAddr| quoted(&address.to_string());
    let socket = facts.socket.as_ref().map_or(String::new(), |socket| {
        format!(
            "# From Headscale 0.30 on its socket will do, without a key, in place of the two above:\n\
             # socket = {}\n",
            quoted(socket)
        )
    });
    format!(
        "map_listen = {map}\n\
         verify_listen = {verify}\n\
         admin_listen = {admin}\n\
         metrics_listen = {metrics}\n\
         {login}\
         \n\
         [headscale]\n\
         {url}\
         # Made by `headscale apikeys create --expiration 8760h`; mode 0600, for the bridge's user.\n\
         api_key_file = \"/etc/coord-bridge/headscale-api-key\"\n\
         {socket}\
         # For `coord-bridge check`, and to see a region that would replace ours:\n\
         # config_file = \"/etc/headscale/config.yaml\"\n\
         \n\
         [[region.nodes]]\n\
         {hostname}\
         {ipv4}{ipv6}\
         \n\
         [provisioning]\n\
         listen = {register}\n",
        map = at(map),
        verify = at(verify),
        admin = at(admin),
        metrics = at(metrics),
        register = at(register),
        login = key("login_server", &facts.login_server),
        url = key("url", &facts.headscale_url),
        hostname = key("hostname", &facts.hostname),
        ipv4 = literal("ipv4", facts.resolved.ipv4),
        ipv6 = literal("ipv6", facts.resolved.ipv6),
    )
}

pub(super) fn derp_block(facts: &Facts) -> String {
    let mut text = "derp:\n  server:\n".to_owned();
    if facts.had_embedded {
        text.push_str(
            "    # It was on. Clients with an old map stay on it until they hear of the new one.\n",
        );
    }
    text.push_str("    enabled: false\n  # Headscale does not start before the bridge: see the unit's Before=.\n");
    if facts.hidden_urls > 0 {
        text.push_str(&format!(
            "  {MARK}{} URLs with a password in them are left out here; keep them from your file.\n",
            facts.hidden_urls
        ));
    }
    text.push_str("  urls:\n");
    for url in &facts.urls {
        text.push_str(&format!("    - {}\n", yaml(url)));
    }
    text.push_str(&format!("    - http://{}/derpmap.json\n", facts.map));
    match facts.paths.as_slice() {
        [] => text.push_str("  paths: []\n"),
        paths => {
            text.push_str("  paths:\n");
            paths.iter().for_each(|path| text.push_str(&format!("    - {}\n", yaml(path))));
        }
    }
    text.push_str("  # Off unless set: without it the map is read once.\n");
    text.push_str("  auto_update_enabled: true\n");
    text.push_str(&format!("  update_frequency: {UPDATE_FREQUENCY}\n"));
    text
}

pub(super) fn nginx(facts: &Facts) -> String {
    let (name, relay) = (&facts.hostname.value, facts.relay);
    format!(
        "{mark}\
         map $http_upgrade $derp_connection {{ default upgrade; \"\" \"\"; }}\n\
         \n\
         server {{\n\
         \x20 listen 443 ssl;\n\
         \x20 listen [::]:443 ssl;\n\
         \x20 server_name {name};\n\
         \x20 {MARK}the certificate for this name.\n\
         \x20 ssl_certificate     /etc/nginx/tls/{name}/fullchain.pem;\n\
         \x20 ssl_certificate_key /etc/nginx/tls/{name}/privkey.pem;\n\
         \n\
         \x20 location / {{\n\
         \x20   proxy_pass http://{relay};\n\
         \x20   proxy_http_version 1.1;\n\
         \x20   proxy_set_header Host $host;\n\
         \x20   proxy_set_header Upgrade $http_upgrade;\n\
         \x20   proxy_set_header Connection $derp_connection;\n\
         \x20   proxy_buffering off;\n\
         \x20   # Idle connections are silent for up to 65 s.\n\
         \x20   proxy_read_timeout 3600s;\n\
         \x20   proxy_send_timeout 3600s;\n\
         \x20 }}\n\
         }}\n\
         \n\
         server {{\n\
         \x20 listen 80;\n\
         \x20 listen [::]:80;\n\
         \x20 server_name {name};\n\
         \x20 location = /generate_204 {{ proxy_pass http://{relay}; }}\n\
         \x20 location / {{ return 302 https://$host$request_uri; }}\n\
         }}\n\
         \n\
         # Machines register here, if they are to, at a name of its own: take the marks off.\n\
         # server {{\n\
         #   listen 443 ssl;\n\
         #   server_name register.{domain};\n\
         #   location / {{ proxy_pass http://{register}; }}\n\
         # }}\n",
        mark = proxy_marks(facts),
        domain = domain(name),
        register = facts.register,
    )
}

pub(super) fn caddy(facts: &Facts) -> String {
    let (name, relay) = (&facts.hostname.value, facts.relay);
    format!(
        "{mark}\
         {name} {{\n\
         \treverse_proxy {relay}\n\
         }}\n\
         http://{name} {{\n\
         \thandle /generate_204 {{\n\
         \t\treverse_proxy {relay}\n\
         \t}}\n\
         \thandle {{\n\
         \t\tredir https://{{host}}{{uri}}\n\
         \t}}\n\
         }}\n\
         \n\
         # Machines register here, if they are to, at a name of its own: take the marks off.\n\
         # register.{domain} {{\n\
         #\treverse_proxy {register}\n\
         # }}\n",
        mark = proxy_marks(facts),
        domain = domain(name),
        register = facts.register,
    )
}

/// What has to be looked at before a proxy takes its file.
fn proxy_marks(facts: &Facts) -> String {
    let port = match facts.proxy_doubt {
        "" => String::new(),
        doubt => format!("{MARK}{doubt}.\n"),
    };
    port + &mark(&facts.hostname)
}

fn domain(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, domain)| domain)
}

/// A line of TOML, with a mark before it where its value is a guess.
fn key(key: &str, guess: &Guess) -> String {
    format!("{}{key} = {}\n", mark(guess), quoted(&guess.value))
}

fn mark(guess: &Guess) -> String {
    if guess.doubt.is_empty() { String::new() } else { format!("{MARK}{}.\n", guess.doubt) }
}

fn literal(key: &str, address: Option<std::net::IpAddr>) -> String {
    match address {
        Some(address) => format!("{key} = {}\n", quoted(&address.to_string())),
        None => format!(
            "{MARK}DNS gives no address of this family now; clients ask DNS, or `none`.\n\
             # {key} = \"none\"\n"
        ),
    }
}

/// A text as TOML takes it, which is as JSON writes it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A text as YAML takes it, whatever is in it.
fn yaml(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
