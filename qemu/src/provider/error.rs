//! Why there is no provider: its certificates and its port fail with one enum.

use std::io;

/// Why there is no provider.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The certificates failed.
    #[error(
        "cannot make the provider's certificates: {reason}. Check that each name is a DNS name or an address"
    )]
    MakeCertificates {
        /// What is wrong.
        reason: String,
    },
    /// The port is taken.
    #[error(
        "cannot listen on 127.0.0.1:{port} for the provider: {source}. Another program may have taken the port"
    )]
    Listen {
        /// The port; 0 is any.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
}
