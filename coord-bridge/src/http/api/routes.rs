//! All operations of the API.
//!
//! Does: lists them; what is not here is neither answered nor documented.

use hyper::StatusCode;

use super::route::{Parameter, Route, SchemaOf, Verb, schema};
use super::{events, keys, machines, openapi, page, state, tokens};
use crate::store::events::KINDS;
use crate::store::machines::State;

/// An operation without query, body and problems of its own.
const PLAIN: Route = Route {
    verb: Verb::Get,
    path: "",
    operation: "",
    summary: "",
    is_open: false,
    query: &[],
    body: None,
    status: StatusCode::OK,
    reply: None,
    problems: &[],
    run: |_| Box::pin(async { Err(super::Problem::internal()) }),
};

/// All of them. Where two paths match, the first counts.
pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/openapi.json",
        operation: "getOpenapi",
        summary: "This document",
        is_open: true,
        reply: Some(schema::<serde_json::Map<String, serde_json::Value>>),
        run: |asked| Box::pin(openapi::get(asked)),
        ..PLAIN
    },
    Route {
        path: "/status",
        operation: "getStatus",
        summary: "How the bridge, its store and Headscale are",
        reply: Some(schema::<state::Status>),
        run: |asked| Box::pin(state::status(asked)),
        ..PLAIN
    },
    Route {
        path: "/map",
        operation: "getMap",
        summary: "The map that is published now",
        reply: Some(schema::<state::PublishedMap>),
        run: |asked| Box::pin(state::map(asked)),
        ..PLAIN
    },
    Route {
        path: "/relays",
        operation: "listRelays",
        summary: "Relays that have registered themselves",
        reply: Some(schema::<state::RelayList>),
        run: |asked| Box::pin(state::relays(asked)),
        ..PLAIN
    },
    Route {
        path: "/machines",
        operation: "listMachines",
        summary: "Registrations, the oldest first, page by page",
        query: &[
            Parameter {
                name: "state",
                help: "Only those that stand there",
                schema: schema::<State>,
            },
            Parameter {
                name: "query",
                help: "Only those with this text in id, host name, address, MAC address or name \
                       of the token, in any case",
                schema: |_| {
                    schemars::json_schema!({
                        "type": "string",
                        "maxLength": machines::MAX_TEXT_CHARS
                    })
                },
            },
            LIMIT,
            CURSOR,
        ],
        reply: Some(schema::<machines::MachineList>),
        problems: STORE,
        run: |asked| Box::pin(machines::list(asked)),
        ..PLAIN
    },
    Route {
        path: "/machines/{id}",
        operation: "getMachine",
        summary: "One registration",
        reply: Some(schema::<machines::MachineBody>),
        problems: &[404, 503],
        run: |asked| Box::pin(machines::get(asked)),
        ..PLAIN
    },
    Route {
        verb: Verb::Delete,
        path: "/machines/{id}",
        operation: "deleteMachine",
        summary: "Deletes a machine: its keys end, its node goes",
        reply: Some(schema::<machines::EndedMachine>),
        problems: &[404, 502, 503],
        run: |asked| Box::pin(machines::delete(asked)),
        ..PLAIN
    },
    Route {
        verb: Verb::Post,
        path: "/machines/{id}/expire",
        operation: "expireMachine",
        summary: "Logs a machine out: its keys end, its node stays",
        reply: Some(schema::<machines::EndedMachine>),
        problems: &[404, 409, 502, 503],
        run: |asked| Box::pin(machines::expire(asked)),
        ..PLAIN
    },
    Route {
        path: "/tokens",
        operation: "listTokens",
        summary: "Enrollment tokens, without their secrets",
        reply: Some(schema::<tokens::TokenList>),
        problems: STORE,
        run: |asked| Box::pin(tokens::list(asked)),
        ..PLAIN
    },
    Route {
        verb: Verb::Post,
        path: "/tokens",
        operation: "createToken",
        summary: "Makes an enrollment token, and tells its secret this once",
        body: Some(schema::<tokens::NewTokenBody>),
        status: StatusCode::CREATED,
        reply: Some(schema::<tokens::TokenSecret>),
        problems: &[409, 503],
        run: |asked| Box::pin(tokens::create(asked)),
        ..PLAIN
    },
    Route {
        verb: Verb::Post,
        path: "/tokens/{name}/rotate",
        operation: "rotateToken",
        summary: "Gives a token another secret, and tells it this once",
        body: Some(schema::<tokens::Rotation>),
        reply: Some(schema::<tokens::TokenSecret>),
        problems: &[404, 409, 503],
        run: |asked| Box::pin(tokens::rotate(asked)),
        ..PLAIN
    },
    Route {
        verb: Verb::Delete,
        path: "/tokens/{name}",
        operation: "revokeToken",
        summary: "Ends a token at once",
        status: StatusCode::NO_CONTENT,
        problems: &[404, 503],
        run: |asked| Box::pin(tokens::revoke(asked)),
        ..PLAIN
    },
    Route {
        verb: Verb::Post,
        path: "/keys",
        operation: "createKey",
        summary: "Makes a single-use pre-auth key for an installer, and tells it this once",
        body: Some(schema::<keys::NewKey>),
        status: StatusCode::CREATED,
        reply: Some(schema::<keys::KeyBody>),
        problems: &[502, 503],
        run: |asked| Box::pin(keys::create(asked)),
        ..PLAIN
    },
    Route {
        verb: Verb::Post,
        path: "/keys/expire",
        operation: "expireKeys",
        summary: "Ends pre-auth keys that no node has registered with",
        body: Some(schema::<keys::KeyExpiry>),
        reply: Some(schema::<keys::EndedKeys>),
        problems: &[502, 503],
        run: |asked| Box::pin(keys::expire(asked)),
        ..PLAIN
    },
    Route {
        path: "/events",
        operation: "listEvents",
        summary: "The audit, the newest first, page by page",
        query: &[
            Parameter {
                name: "kind",
                help: "Only those of this kind",
                schema: |_| {
                    let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
                    schemars::json_schema!({ "type": "string", "enum": kinds })
                },
            },
            LIMIT,
            CURSOR,
        ],
        reply: Some(schema::<events::EventList>),
        problems: STORE,
        run: |asked| Box::pin(events::list(asked)),
        ..PLAIN
    },
];

const STORE: &[u16] = &[503];

const LIMIT: Parameter = Parameter { name: "limit", help: "Rows of a page", schema: LIMIT_SCHEMA };

const LIMIT_SCHEMA: SchemaOf = |_| {
    schemars::json_schema!({
        "type": "integer",
        "minimum": 1,
        "maximum": page::MAX_LIMIT,
        "default": page::DEFAULT_LIMIT
    })
};

const CURSOR: Parameter = Parameter {
    name: "cursor",
    help: "`next_cursor` of the page before",
    schema: |_| schemars::json_schema!({ "type": "string" }),
};
