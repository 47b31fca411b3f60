//! What a caller may choose about a connection.

use std::fmt;
use std::time::Duration;

/// Who asks.
#[derive(Clone)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl Credentials {
    /// From `ASTROMESH_REGISTRY_USER` and `ASTROMESH_REGISTRY_PASSWORD`; nobody unless both are set.
    pub fn from_environment() -> Option<Self> {
        let user = std::env::var("ASTROMESH_REGISTRY_USER").ok()?;
        let password = std::env::var("ASTROMESH_REGISTRY_PASSWORD").ok()?;
        Some(Self { user, password })
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How to speak with a registry.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who asks; `None` asks as nobody.
    pub credentials: Option<Credentials>,
    /// How long a registry may say nothing before the connection counts as broken.
    pub idle: Duration,
    /// How many broken transfers in a row, each without a single new byte, are too many.
    pub fruitless: u32,
    /// How many broken transfers of one layer are too many, even when each brought a little.
    pub attempts: u32,
    /// The wait before the first new attempt; it grows with each fruitless one.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: None,
            // A registry may have to fetch a blob from a slow store first.
            idle: Duration::from_secs(30),
            // With the pauses, a registry has about 15 s to come back: a restart, not an outage.
            fruitless: 5,
            // A layer of 1 GiB over a line that breaks every 30 MB is still a line worth using.
            attempts: 30,
            pause: Duration::from_secs(1),
        }
    }
}
