//! What a gateway leans on: Tor, a Matrix homeserver; and the running gateway's own word.

use super::{Finding, broker::answers};
use crate::{
    admin::{status::StatusView, token::TOKEN_FILE},
    cli::{Global, admin_client::AdminClient, exit, paths, status},
};
use tidegate_schemas::config::file::{Config, Homeserver, TorTransport};

pub(super) async fn tor(config: &Config) -> Vec<Finding> {
    match &config.tor.transport {
        // The running gateway tells how it is.
        TorTransport::Arti => Vec::new(),
        TorTransport::Socks(address) => vec![
            answers(
                "tor",
                *address,
                "start it: systemctl start tor; or transport = \"arti\" in [tor], which needs none",
            )
            .await,
        ],
    }
}

pub(super) async fn matrix(config: &Config) -> Vec<Finding> {
    let Some(matrix) = &config.matrix else {
        return vec![Finding::good("matrix", "no room is told of deliveries: there is no [matrix] in the config")];
    };
    match &matrix.homeserver {
        Homeserver::Address(address) => {
            vec![
                answers("matrix", *address, "start the homeserver; deliveries go on without it, and are told later")
                    .await,
            ]
        }
        // It is reached through the gateway's own Tor.
        Homeserver::Onion(_) => Vec::new(),
    }
}

fn not_running(seen: &str) -> Finding {
    Finding::look("gateway", seen, "start it with `tidegate run`, or `systemctl start tidegate`")
}

/// What the gateway says of itself, if it runs.
pub(super) async fn gateway(global: &Global) -> Vec<Finding> {
    let begun = paths::settings(global).is_ok_and(|settings| settings.state_dir.join(TOKEN_FILE).exists());
    if !begun && global.token_file.is_none() {
        return vec![not_running("it has never run: it has made no token yet")];
    }
    let asked = async { AdminClient::new(global)?.get::<StatusView>("/api/v1/status").await };
    let status = match asked.await {
        Ok(status) => status,
        Err(failure) if failure.code == exit::UNREACHABLE => {
            return vec![not_running("it does not run: how Tor and the deliveries are can't be seen")];
        }
        Err(failure) => return vec![Finding::look("gateway", failure.message, "")],
    };
    let mut findings = Vec::new();
    for view in &status.lines {
        if !view.line.up {
            let seen = format!("{} does not run: {}", view.line.name, status::describe(view));
            findings.push(Finding::wrong("gateway", seen, "its log says more; it is tried again by itself"));
        }
    }
    findings.extend(status::warnings(&status).into_iter().map(|warning| Finding::wrong("gateway", warning, "")));
    findings.extend(status::troubles(&status).into_iter().map(|trouble| Finding::wrong("gateway", trouble, "")));
    if findings.is_empty() {
        findings
            .push(Finding::good("gateway", format!("it runs, version {}, and complains of nothing", status.version)));
    }
    findings
}
