//! Sessions of those who logged in, and codes that log in once: in memory alone, so a restart asks again.
//!
//! What is kept is the hash of each token, and what it stands for.

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
pub(crate) struct Sessions<T> {
    lasts: Duration,
    open: Mutex<HashMap<[u8; 32], (Instant, T)>>,
}

impl<T: Clone> Sessions<T> {
    /// None yet; each will last so long.
    pub(crate) fn lasting(lasts: Duration) -> Self {
        Self { lasts, open: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], (Instant, T)>> {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Opens a session and returns its token.
    pub(crate) fn open(&self, entropy: &dyn Entropy, of: T) -> String {
        let token = token(entropy);
        let now = Instant::now();
        let mut sessions = self.lock();
        sessions.retain(|_, (end, _)| *end > now);
        if sessions.len() >= SESSIONS_MAX
            && let Some(first) = sessions.iter().min_by_key(|(_, (end, _))| *end).map(|(hash, _)| *hash)
        {
            sessions.remove(&first);
        }
        sessions.insert(hash(&token), (now + self.lasts, of));
        token
    }

    /// What this token's session is of, if it is open.
    pub(crate) fn find(&self, token: &str) -> Option<T> {
        self.lock().get(&hash(token)).filter(|(end, _)| *end > Instant::now()).map(|(_, of)| of.clone())
    }

    /// Ends a session; what it was of, if it was open.
    pub(crate) fn close(&self, token: &str) -> Option<T> {
        self.lock().remove(&hash(token)).filter(|(end, _)| *end > Instant::now()).map(|(_, of)| of)
    }
}

/// 256 random bits, as text.
pub(crate) fn token(entropy: &dyn Entropy) -> String {
    let mut random = [0_u8; 32];
    entropy.fill(&mut random);
    BASE64URL_NOPAD.encode(&random)
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
        let (sessions, entropy) = (Sessions::lasting(SESSION), SeededEntropy::new(1));
        let first = sessions.open(&entropy, 7);
        assert!(
            sessions.find(&first) == Some(7) && sessions.find("").is_none() && sessions.find(&first[1..]).is_none()
        );
        tokio::time::advance(SESSION).await;
        assert!(sessions.find(&first).is_none());
        let second = sessions.open(&entropy, 7);
        assert_eq!((sessions.close(&second), sessions.close(&second)), (Some(7), None));
        assert!(sessions.find(&second).is_none());
        let oldest = sessions.open(&entropy, 7);
        for _ in 0..SESSIONS_MAX {
            tokio::time::advance(Duration::from_millis(1)).await;
            sessions.open(&entropy, 7);
        }
        assert!(sessions.find(&oldest).is_none());
    }
}
