//! The relay's certificate: self-signed with the peer's own ed25519 key, TLS 1.3 only.
//!
//! No name, address or date in it means anything. A client compares the key with the PeerId that it already knows
//! ([`super::pins`]), and the handshake proves that the relay has the key.

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tributary_protocol::id::PeerId;
use zeroize::Zeroizing;

/// What PKCS #8 (RFC 8410) puts before the 32 bytes of an ed25519 seed.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// What X.509 (RFC 8410) puts before the 32 bytes of an ed25519 public key.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// The subject, for people that look at the certificate.
const SUBJECT: &str = "tributary relay";

/// Why there is no certificate. The key is right by construction, so that only a fault of a library leads here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// Making it.
    #[error(
        "the relay's certificate could not be made from this peer's key: {0}; please report this"
    )]
    Make(#[from] rcgen::Error),
    /// Using it.
    #[error("TLS does not take the relay's certificate: {0}; please report this")]
    Use(#[from] rustls::Error),
}

/// The TLS configuration of the relay of this key.
pub(super) fn server(seed: &[u8; 32]) -> Result<ServerConfig, CertificateError> {
    let key = Zeroizing::new([&PKCS8_PREFIX[..], seed].concat());
    let pair = KeyPair::try_from(key.as_slice())?;
    // rcgen's dates, from 1975 to 4096, outlive every key.
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, SUBJECT);
    let certificate = params.self_signed(&pair)?;
    let key = PrivatePkcs8KeyDer::from(key.to_vec());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())?;
    Ok(config)
}

/// A peer's key as it stands in its certificate.
pub(super) fn public_key_info(peer: &PeerId) -> Vec<u8> {
    [&SPKI_PREFIX[..], peer.as_bytes()].concat()
}
