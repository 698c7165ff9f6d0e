//! Named tokens, from the command line to the endpoint that takes them.

use super::{start, text, tidegate};
use std::{fs, os::unix::fs::PermissionsExt as _};

/// Tokens whose file has just been written are known within a second: the endpoint looks at its date.
async fn status_with(world: &super::World, token: &str, wanted: u16) {
    let bearer = format!("Bearer {token}");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let headers = [("authorization", bearer.as_str())];
        let answer =
            crate::http_support::send(world.serving.address(), "GET", "/api/v1/status", &headers, "").await.status;
        if answer == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer}, not {wanted}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[actix::test]
async fn a_token_is_shown_once_allows_what_its_scope_says_and_is_rotated_and_removed() {
    let world = start(true).await;
    let state = world.state.path();
    let first = world.shows(&["token", "add", "night-shift", "--scope", "read"]).await.trim().to_owned();
    let file = state.join("tokens.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&file).unwrap().contains(&first));
    status_with(&world, &first, 200).await;

    // The command line with that token: looking is allowed, acting is not, and says why.
    let kept = state.join("mine.token");
    fs::write(&kept, &first).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    let with = ["--token-file", kept.to_str().unwrap()];
    assert!(!world.shows(&[&with[..], &["outbox", "list"]].concat()).await.is_empty());
    let refused = tidegate(state, &[&with[..], &["outbox", "purge", "cardiology/7", "--yes"]].concat()).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains("read") && text(&refused.stderr).contains("operate"), "{refused:?}");
    assert!(world.record.lock().unwrap().operated.is_empty());

    for (arguments, said) in [
        (["token", "add", "night-shift", "--scope", "admin"], "has a token already"),
        (["token", "add", "admin", "--scope", "read"], "stands for something else"),
    ] {
        let refused = tidegate(state, &arguments).await;
        assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains(said), "{refused:?}");
    }
    let second = world.shows(&["token", "rotate", "night-shift"]).await.trim().to_owned();
    status_with(&world, &second, 200).await;
    status_with(&world, &first, 401).await;
    let listed = world.shows(&["token", "list"]).await;
    assert!(listed.contains("night-shift") && listed.contains("read") && !listed.contains(&second), "{listed}");
    world.shows(&["token", "remove", "night-shift"]).await;
    status_with(&world, &second, 401).await;
    let gone = tidegate(state, &["token", "rotate", "night-shift"]).await;
    assert!(gone.status.code() == Some(1) && text(&gone.stderr).contains("has no token"), "{gone:?}");
    world.stop().await;
}
