//! Randomness from the operating system.

use rand::{TryRngCore as _, rngs::OsRng};
use tidegate_actors::ports::entropy::Entropy;

/// The kernel's random numbers: fit for keys.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // getrandom(2) fails only where there is no such call, or for a pointer that is wrong.
        OsRng.try_fill_bytes(bytes).expect("the kernel has random numbers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(SystemEntropy.bytes16(), SystemEntropy.bytes16());
    }
}
