//! `tidegate drain`: the running gateway ends in order, and this waits until it has.

use super::{
    Global,
    admin_client::AdminClient,
    exit::{self, Failure},
    output,
};
use crate::admin::drain::Draining;
use http::Method;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// Longer than the gateway gives itself.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest that one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Does it.
pub(super) async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(global)?;
    let draining: Draining = client.send(Method::POST, "/api/v1/drain", None::<&()>).await?;
    if !global.json {
        output::message("it takes nothing in any more; what is under way may finish");
    }
    let begun = Instant::now();
    while begun.elapsed() < WAIT_MAX {
        match client.get_within::<serde_json::Value>("/livez", LOOK_LIMIT).await {
            Err(failure) if failure.code == exit::UNREACHABLE => {
                if global.json {
                    output::json(&Draining { phase: "ended".into() })?;
                } else {
                    output::line("the gateway has ended; what waits is on its disk")?;
                }
                return Ok(ExitCode::from(exit::OK));
            }
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    Err(Failure::later(format!("the gateway is still {} after {} s", draining.phase, WAIT_MAX.as_secs())))
}
