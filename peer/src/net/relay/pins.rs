//! Which keys a client accepts at which address: the one reason to trust a relay.
//!
//! An address can have several peers behind it, on several ports, and TLS is told the address alone; so any key pinned
//! for the address passes. Whoever pins decides whom to believe; here is only the table and its use by TLS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use iroh_relay::tls::CaTlsConfig;
use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tributary_protocol::id::PeerId;
use webpki::EndEntityCert;

use super::{certificate, names};

/// Addresses with a pinned key. A peer uses a handful of relays; the rest is room for those it has heard of.
const MAX_ADDRESSES: usize = 1024;
/// Keys of one address: relays behind one public address, on ports of their own.
const MAX_PEERS_AT_ADDRESS: usize = 16;

/// Why a key was not pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PinsFull {
    /// Too many addresses.
    #[error(
        "the relay at {0} was not noted: {MAX_ADDRESSES} addresses of relays are known already; forget some first"
    )]
    Addresses(IpAddr),
    /// Too many keys of one address.
    #[error(
        "the relay at {0} was not noted: {MAX_PEERS_AT_ADDRESS} relays of this address are known already; forget some \
         first"
    )]
    Peers(IpAddr),
}

/// The table. Cheap to clone; all clones are one table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins(Arc<RwLock<BTreeMap<IpAddr, BTreeSet<PeerId>>>>);

impl Pins {
    /// Accepts the key of `peer` at `ip` from now on.
    ///
    /// # Errors
    /// [`PinsFull`]; what was pinned stays.
    pub(crate) fn pin(&self, ip: IpAddr, peer: PeerId) -> Result<(), PinsFull> {
        let ip = ip.to_canonical();
        let mut held = self.0.write();
        if !held.contains_key(&ip) && held.len() >= MAX_ADDRESSES {
            return Err(PinsFull::Addresses(ip));
        }
        let peers = held.entry(ip).or_default();
        if !peers.contains(&peer) && peers.len() >= MAX_PEERS_AT_ADDRESS {
            return Err(PinsFull::Peers(ip));
        }
        peers.insert(peer);
        Ok(())
    }

    /// Accepts it no more. Connections that stand are not ended.
    pub(crate) fn unpin(&self, ip: IpAddr, peer: &PeerId) {
        let ip = ip.to_canonical();
        let mut held = self.0.write();
        if let Some(peers) = held.get_mut(&ip) {
            peers.remove(peer);
            if peers.is_empty() {
                held.remove(&ip);
            }
        }
    }

    /// How an iroh endpoint checks relays, for `iroh::endpoint::Builder::ca_tls_config`. It takes relays of peers and
    /// nothing else: servers with a domain (public relays, DNS over HTTPS) are refused.
    pub(crate) fn tls(&self) -> CaTlsConfig {
        let pins = self.clone();
        CaTlsConfig::custom_server_cert_verifier(Arc::new(move |provider| {
            let pins = pins.clone();
            Ok(Arc::new(Verifier { pins, provider }))
        }))
    }

    /// Whether the certificate is one of a peer that is pinned for the address in `name`.
    fn check(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), String> {
        let ip = address(name)?;
        let held = self.0.read();
        let peers = held.get(&ip).ok_or_else(|| {
            format!(
                "no peer is known to relay at {ip}; take its address from a ticket or from a peer, which name its key"
            )
        })?;
        let certificate = EndEntityCert::try_from(certificate)
            .map_err(|why| format!("the certificate of the relay at {ip} cannot be read: {why}"))?;
        let shown = certificate.subject_public_key_info();
        if (peers.iter()).any(|peer| certificate::public_key_info(peer) == *shown) {
            return Ok(());
        }
        let expected: Vec<String> = peers.iter().map(PeerId::short).collect();
        Err(format!(
            "the relay at {ip} has another key than {}; somebody else answers there now: ask its owner for a new ticket",
            expected.join(" or ")
        ))
    }
}

fn address(name: &ServerName<'_>) -> Result<IpAddr, String> {
    match name {
        ServerName::IpAddress(ip) => Ok(IpAddr::from(*ip).to_canonical()),
        ServerName::DnsName(name) => names::read(name.as_ref()).map(IpAddr::V6).ok_or_else(|| {
            format!(
                "{} is a domain, and relays of peers have none; give the relay's address and PeerId",
                name.as_ref()
            )
        }),
        _ => Err("the relay is named by neither an address nor a domain; give its address".to_owned()),
    }
}

#[derive(Debug)]
struct Verifier {
    pins: Pins,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        // A clock that is wrong by years does not matter: the key never changes its owner.
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.pins.check(end_entity, server_name) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(why) => {
                tracing::debug!("a relay is refused: {why}");
                Err(Error::General(why))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let why = "relays of peers speak TLS 1.3, and this one speaks an older version";
        Err(Error::General(why.to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_protocol::test_utils::fixture::peer;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn the_table_is_bounded_and_what_was_pinned_stays() {
        let pins = Pins::default();
        for n in 0..MAX_PEERS_AT_ADDRESS {
            pins.pin(HERE, peer(1 + n as u8)).unwrap();
        }
        assert_eq!(pins.pin(HERE, peer(1)), Ok(()));
        assert_eq!(pins.pin(HERE, peer(99)), Err(PinsFull::Peers(HERE)));
        pins.unpin(HERE, &peer(1));
        assert_eq!(pins.pin(HERE, peer(99)), Ok(()));
        for n in 1..MAX_ADDRESSES as u32 {
            pins.pin(std::net::Ipv4Addr::from(n).into(), peer(1))
                .unwrap();
        }
        let one_more = IpAddr::from([9, 9, 9, 9]);
        let full = Err(PinsFull::Addresses(one_more));
        assert_eq!(pins.pin(one_more, peer(1)), full);
        pins.unpin(std::net::Ipv4Addr::from(1).into(), &peer(1));
        assert_eq!(pins.pin(one_more, peer(1)), Ok(()));
    }

    #[test]
    fn domains_and_unpinned_addresses_are_refused_with_a_sentence() {
        let pins = Pins::default();
        let certificate = CertificateDer::from(vec![0x30, 0]);
        let refusal = |name: &str| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            pins.check(&certificate, &name).unwrap_err()
        };
        assert!(refusal("relay.example.org").contains("is a domain"));
        assert!(refusal("10.0.0.1").contains("no peer is known to relay at 10.0.0.1"));
        pins.pin(HERE, peer(1)).unwrap();
        assert!(refusal("127.0.0.1").contains("cannot be read"));
        let six = names::of(std::net::Ipv6Addr::LOCALHOST);
        assert!(refusal(&six).contains("no peer is known to relay at ::1"));
    }

    #[test]
    fn an_address_of_the_other_family_that_means_the_same_is_the_same() {
        let pins = Pins::default();
        pins.pin("::ffff:127.0.0.1".parse().unwrap(), peer(1))
            .unwrap();
        assert!(pins.0.read().contains_key(&HERE));
    }
}
