//! Sessions of those who gave the password: in memory alone, so a restart asks again.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};
use std::{collections::HashMap, sync::Mutex, time::Duration};
use tidegate_actors::ports::entropy::Entropy;
use tokio::time::Instant;

/// How long a session lasts.
pub(crate) const SESSION: Duration = Duration::from_secs(12 * 60 * 60);
/// Sessions at once; the one that would end first makes room.
const SESSIONS_MAX: usize = 256;

/// Open sessions, by the hash of their token.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<[u8; 32], Instant>>);

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Opens a session and returns its token.
    pub(crate) fn open(&self, entropy: &dyn Entropy) -> String {
        let mut random = [0_u8; 32];
        entropy.fill(&mut random);
        let token = BASE64URL_NOPAD.encode(&random);
        let now = Instant::now();
        let mut sessions = self.lock();
        sessions.retain(|_, end| *end > now);
        if sessions.len() >= SESSIONS_MAX
            && let Some(first) = sessions.iter().min_by_key(|(_, end)| **end).map(|(hash, _)| *hash)
        {
            sessions.remove(&first);
        }
        sessions.insert(hash(&token), now + SESSION);
        token
    }

    /// Whether this token's session is open.
    pub(crate) fn is_open(&self, token: &str) -> bool {
        self.lock().get(&hash(token)).is_some_and(|end| *end > Instant::now())
    }

    /// Ends a session.
    pub(crate) fn close(&self, token: &str) {
        self.lock().remove(&hash(token));
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_actors::testing::seeded_entropy::SeededEntropy;

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_by_time_by_log_out_and_to_make_room() {
        let (sessions, entropy) = (Sessions::default(), SeededEntropy::new(1));
        let first = sessions.open(&entropy);
        assert!(sessions.is_open(&first) && !sessions.is_open("") && !sessions.is_open(&first[1..]));
        tokio::time::advance(SESSION).await;
        assert!(!sessions.is_open(&first));
        let second = sessions.open(&entropy);
        sessions.close(&second);
        assert!(!sessions.is_open(&second));
        let oldest = sessions.open(&entropy);
        for _ in 0..SESSIONS_MAX {
            tokio::time::advance(Duration::from_millis(1)).await;
            sessions.open(&entropy);
        }
        assert!(!sessions.is_open(&oldest));
    }
}
