//! Cryptography that TLS uses.

/// Has TLS use *ring*. Another part of this program may have been first, and then chose the same.
pub(crate) fn install_crypto() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
