//! `tidegate config`: what the running gateway goes by, key by key, and where each stands.

use super::{
    Global,
    admin_client::AdminClient,
    exit::{self, Failure},
    output,
};
use clap::Args;
use std::process::ExitCode;
use tidegate_schemas::{
    effective::{EffectiveConfig, EffectiveKey},
    id::DestinationId,
};

/// Which part.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// This destination alone, with the defaults that hold for it
    #[arg(long, value_name = "NAME")]
    destination: Option<DestinationId>,
}

/// Shows it.
pub(super) async fn run(global: &Global, args: &ConfigArgs) -> Result<ExitCode, Failure> {
    let part = args.destination.as_ref().map(|name| format!("?destination={name}")).unwrap_or_default();
    let config: EffectiveConfig = AdminClient::new(global)?.get(&format!("/api/v1/config{part}")).await?;
    if global.json {
        output::json(&config)?;
    } else {
        config.keys.iter().try_for_each(|key| output::line(&line(key)))?;
    }
    Ok(ExitCode::from(exit::OK))
}

fn line(EffectiveKey { key, value, origin, .. }: &EffectiveKey) -> String {
    match value {
        Some(value) => format!("{key} = {value}    # {origin}"),
        None => format!("{key} is not shown    # {origin}"),
    }
}
