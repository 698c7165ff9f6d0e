//! `tidegate token`: tokens for the admin endpoint, each with a name and a scope.
//!
//! They are a file in the state folder (`tokens.toml`), which the running gateway reads again when it changes. The name is what the audit log
//! has of an act.

use super::{
    Global,
    exit::{self, Failure},
    output, paths,
    private_file::{PrivateFile, secret},
};
use crate::{adapters::system_entropy::SystemEntropy, admin::token::read_tokens};
use clap::Subcommand;
use serde_json::json;
use std::{path::Path, process::ExitCode};
use tidegate_schemas::{
    audit::Scope,
    config::{
        devices::hash_secret,
        tokens::{NAMES_TAKEN, NamedToken, TOKENS_FILE, TOKENS_MAX, Tokens},
    },
    id::TokenName,
};

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, which is shown once
    Add {
        /// Whose it is: what the audit log says of each act
        name: TokenName,
        /// How much it allows: read, operate (entries, signals, pauses, backups) or admin (agreements, reload)
        #[arg(long)]
        scope: Scope,
    },
    /// Make a new token in place of one, with the same scope
    Rotate {
        /// Whose it is
        name: TokenName,
    },
    /// List names and scopes
    List,
    /// Take a token away
    Remove {
        /// Whose it is
        name: TokenName,
    },
}

/// Does it.
pub(super) fn run(global: &Global, command: TokenCommand) -> Result<ExitCode, Failure> {
    let state_dir = paths::settings(global)?.state_dir;
    match command {
        TokenCommand::Add { name, scope } => {
            if NAMES_TAKEN.contains(&name.as_str()) {
                return Err(Failure::failed(format!(
                    "{name} stands for something else in the audit log: take another name"
                )));
            }
            let (file, tokens) = open(&state_dir)?;
            if tokens.get(&name).is_some() {
                return Err(Failure::failed(format!(
                    "{name} has a token already; `tidegate token rotate {name}` makes a new one"
                )));
            }
            if tokens.len() >= TOKENS_MAX {
                return Err(Failure::failed(format!("there are {TOKENS_MAX} tokens already, which is the limit")));
            }
            make(global, &file, tokens, name, scope)
        }
        TokenCommand::Rotate { name } => {
            let (file, tokens) = open(&state_dir)?;
            let scope = tokens.get(&name).ok_or_else(|| unknown(&name))?.scope;
            make(global, &file, tokens, name, scope)
        }
        TokenCommand::List => list(global, &read(&state_dir.join(TOKENS_FILE))?),
        TokenCommand::Remove { name } => {
            let (file, mut tokens) = open(&state_dir)?;
            tokens.remove(&name).ok_or_else(|| unknown(&name))?;
            file.write(&tokens.to_text())?;
            if global.json {
                output::json(&json!({ "removed": name }))?;
            } else {
                output::line(&format!("{name} has no token any more"))?;
            }
            Ok(ExitCode::from(exit::OK))
        }
    }
}

fn unknown(name: &TokenName) -> Failure {
    Failure::failed(format!("{name} has no token"))
}

fn read(path: &Path) -> Result<Tokens, Failure> {
    read_tokens(path).map_err(|error| Failure::failed(error.to_string()))
}

fn open(state_dir: &Path) -> Result<(PrivateFile, Tokens), Failure> {
    let file = PrivateFile::open(state_dir, TOKENS_FILE)?;
    let tokens = read(file.path())?;
    Ok((file, tokens))
}

fn make(
    global: &Global,
    file: &PrivateFile,
    mut tokens: Tokens,
    name: TokenName,
    scope: Scope,
) -> Result<ExitCode, Failure> {
    let secret = secret(&SystemEntropy);
    let token_sha256 = hash_secret(&secret).ok_or_else(|| Failure::failed("could not make a token"))?;
    tokens.put(NamedToken { name: name.clone(), scope, token_sha256 });
    file.write(&tokens.to_text())?;
    if global.json {
        output::json(&json!({ "name": name, "scope": scope, "token": secret }))?;
    } else {
        output::line(&secret)?;
        output::message(&format!(
            "This is the token of {name}, for {scope}. It is shown this once; the gateway keeps only its hash.\n  \
             Keep it in a file that is readable by its owner alone, and say --token-file FILE, or send Authorization: Bearer TOKEN"
        ));
    }
    Ok(ExitCode::from(exit::OK))
}

fn list(global: &Global, tokens: &Tokens) -> Result<ExitCode, Failure> {
    if global.json {
        let items: Vec<_> = tokens.iter().map(|it| json!({ "name": it.name, "scope": it.scope })).collect();
        output::json(&json!({ "items": items }))?;
    } else if tokens.is_empty() {
        output::message("no token beside the gateway's own; add one with `tidegate token add NAME --scope read`");
    } else {
        let mut table = output::table(&["name", "scope"]);
        for it in tokens.iter() {
            table.add_row([it.name.as_str(), it.scope.name()]);
        }
        output::print(&table)?;
    }
    Ok(ExitCode::from(exit::OK))
}
