//! `token`: makes, lists and ends enrollment tokens, while the bridge runs.

use clap::{Args, Subcommand, ValueEnum};
use derp_relay::settings::Span;

use super::store::{load, now_ms};
use super::{ConfigArguments, ExitError, say, say_list, table};
use crate::headscale::Secret;
use crate::http::api::TokenBody;
use crate::provisioning::network::Network;
use crate::provisioning::tokens::{self, FILE_TOKEN, NewToken};
use crate::provisioning::{Settings, timestamp, token_file};
use crate::store::tokens::{Profile, Token, all};

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Makes a token and prints it, this once.
    Create(CreateArguments),
    /// Prints the token in the file, which the others do not have.
    Show(ConfigArguments),
    /// Lists tokens: bounds and use, never the token.
    List {
        #[command(flatten)]
        config: ConfigArguments,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Gives a token another secret and prints it; the old one holds for some time more.
    Rotate {
        #[command(flatten)]
        config: ConfigArguments,
        /// Which; the one in the file unless told otherwise.
        #[arg(default_value = FILE_TOKEN)]
        name: String,
        /// How long the old secret holds. `0s` ends it at once.
        #[arg(long, value_name = "DURATION", default_value = "1d")]
        grace: Span,
    },
    /// Ends a token at once.
    Revoke {
        #[command(flatten)]
        config: ConfigArguments,
        /// Which.
        name: String,
    },
}

#[derive(Args)]
pub(super) struct CreateArguments {
    #[command(flatten)]
    config: ConfigArguments,

    /// Its name: letters, digits and hyphens.
    name: String,

    /// What its machines are.
    #[arg(long, value_name = "PROFILE", default_value = "machine")]
    profile: ProfileArgument,

    /// Tag of their nodes, `tag:NAME`; repeatable. Tagged nodes belong to nobody and never end.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// Network that it may be used from; repeatable. Any unless told otherwise.
    #[arg(long = "source", value_name = "CIDR")]
    sources: Vec<Network>,

    /// Most machines that it may register.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    quota: Option<i64>,

    /// How long it is valid. For ever unless told otherwise.
    #[arg(long, value_name = "DURATION")]
    expiry: Option<Span>,
}

/// What machines are.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum ProfileArgument {
    /// Live systems: their nodes go when they are switched off.
    Iso,
    /// Machines that survive a restart.
    Machine,
}

impl From<ProfileArgument> for Profile {
    fn from(argument: ProfileArgument) -> Self {
        match argument {
            ProfileArgument::Iso => Self::Iso,
            ProfileArgument::Machine => Self::Machine,
        }
    }
}

pub(super) fn run(command: TokenCommand) -> Result<(), ExitError> {
    match command {
        TokenCommand::Create(arguments) => create(arguments),
        TokenCommand::Show(config) => {
            let (config, _) = load(config)?;
            let path = settings(config.registration.settings)?.token_file;
            let token = token_file::read(&path).map_err(tokens::TokenError::from)?;
            say_token(&token.ok_or_else(|| tokens::TokenError::Unknown(FILE_TOKEN.to_owned()))?)
        }
        TokenCommand::List { config, json } => {
            let (_, store) = load(config)?;
            let list = store.read_now(all)?;
            if !json {
                return say(as_table(&list).as_bytes());
            }
            say_list(&list.into_iter().map(TokenBody::from).collect::<Vec<_>>())
        }
        TokenCommand::Rotate { config, name, grace } => {
            let (config, store) = load(config)?;
            let path = settings(config.registration.settings)?.token_file;
            say_token(&tokens::rotate(&store, &name, grace.0, &path, now_ms())?)
        }
        TokenCommand::Revoke { config, name } => {
            let (_, store) = load(config)?;
            Ok(tokens::revoke(&store, &name, now_ms())?)
        }
    }
}

fn create(arguments: CreateArguments) -> Result<(), ExitError> {
    let (_, store) = load(arguments.config)?;
    let wanted = NewToken {
        name: arguments.name,
        profile: arguments.profile.into(),
        tags: arguments.tags,
        sources: arguments.sources,
        quota: arguments.quota,
        expiry: arguments.expiry.map(|span| span.0),
    };
    say_token(&tokens::create(&store, &wanted, now_ms())?)
}

fn settings(settings: Option<Settings>) -> Result<Settings, ExitError> {
    settings.ok_or(ExitError::LoginServer)
}

fn say_token(token: &Secret) -> Result<(), ExitError> {
    say(format!("{}\n", token.reveal()).as_bytes())
}

fn as_table(list: &[Token]) -> String {
    let date = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), timestamp::write);
    let rows: Vec<[String; 8]> = list
        .iter()
        .map(|token| {
            [
                token.name.clone(),
                token.profile.as_str().to_owned(),
                token.quota.map_or_else(
                    || token.uses.to_string(),
                    |quota| format!("{}/{quota}", token.uses),
                ),
                date(token.expires_ms),
                date(token.revoked_ms),
                date(token.last_used_ms),
                token.sources.join(","),
                token.tags.join(","),
            ]
        })
        .collect();
    table::render(
        ["NAME", "PROFILE", "USES", "EXPIRES", "REVOKED", "LAST USED", "SOURCES", "TAGS"],
        &rows,
    )
}
