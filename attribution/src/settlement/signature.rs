//! Signatures that contracts accept, and the keys that make them.
//!
//! A signature is 65 bytes: r, s, and v, which is 27 or 28. Of the two values of s that verify only the lower one is taken,
//! as OpenZeppelin's `ECDSA` does; so nobody can turn a signature into another one for the same statement.

use std::fmt;

use alloy_primitives::{Keccak256, hex};
use bincode::{Decode, Encode, de::Decoder, enc::Encoder, error};
use k256::ecdsa::{self, SigningKey, VerifyingKey};
use k256::elliptic_curve::ops::{Invert, LinearCombination, Reduce};
use k256::elliptic_curve::point::DecompressPoint;
use k256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar, U256};
use tributary_protocol::sign::SecretKey;
use zeroize::Zeroizing;

use super::{Address, Keccak};

/// Added to the parity of the curve point that r names.
const FIRST_V: u8 = 27;

/// A signature with the parity by which its signer is recovered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature([u8; 65]);

/// Why bytes are no signature, or nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not 65 bytes.
    #[error("a signature has 65 bytes (r, s and v), this one has {0}; send it as wallets make it")]
    Length(usize),
    /// v is neither 27 nor 28.
    #[error(
        "v of the signature is {0}, where contracts take 27 or 28; add 27 to a parity of 0 or 1"
    )]
    Parity(u8),
    /// r or s is zero or beyond the curve's order.
    #[error("r or s of the signature is no number that a signature can have; sign again")]
    Scalar,
    /// The higher of the two s.
    #[error(
        "s of the signature is the higher of its two values, which contracts refuse; use order - s and the other v"
    )]
    HighS,
    /// There is no such point on the curve.
    #[error("no key makes this signature, because its r is no point of the curve; sign again")]
    NoKey,
}

impl Signature {
    /// Reads r, s and v.
    ///
    /// # Errors
    /// [`SignatureError`], but [`SignatureError::NoKey`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        let length = SignatureError::Length(bytes.len());
        let bytes: [u8; 65] = bytes.try_into().map_err(|_| length)?;
        let signature = Self(bytes);
        let v = bytes[64];
        if v != FIRST_V && v != FIRST_V + 1 {
            return Err(SignatureError::Parity(v));
        }
        match signature.scalars()?.normalize_s() {
            Some(_) => Err(SignatureError::HighS),
            None => Ok(signature),
        }
    }

    /// r, s and v.
    pub fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// Whose key signed `digest`. Any digest gives some address: compare it with the one that was to sign.
    ///
    /// # Errors
    /// [`SignatureError::NoKey`].
    pub fn recover(&self, digest: &Keccak) -> Result<Address, SignatureError> {
        let key = recover(digest, &self.scalars()?, self.0[64] == FIRST_V + 1);
        let key = key.ok_or(SignatureError::NoKey)?;
        Ok(address(&key))
    }

    fn scalars(&self) -> Result<ecdsa::Signature, SignatureError> {
        ecdsa::Signature::from_slice(&self.0[..64]).map_err(|_| SignatureError::Scalar)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Encode for Signature {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), error::EncodeError> {
        self.0.encode(encoder)
    }
}

impl<C> Decode<C> for Signature {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, error::DecodeError> {
        let bytes = <[u8; 65]>::decode(decoder)?;
        let refused = error::DecodeError::Other("65 bytes that are no signature");
        Self::from_bytes(&bytes).map_err(|_| refused)
    }
}

bincode::impl_borrow_decode!(Signature);

/// The key Q = (s R - z G) / r, where R is the curve's point with the coordinate x = r and this parity of y (SEC 1, section
/// 4.1.6). It is what `VerifyingKey::recover_from_prehash` returns, which verifies the signature once more with the key that
/// solves its equation, and so takes twice the time; tests hold the two together.
fn recover(digest: &Keccak, signature: &ecdsa::Signature, is_odd: bool) -> Option<VerifyingKey> {
    let (r, s) = signature.split_scalars();
    let point = AffinePoint::decompress(&signature.r().to_bytes(), u8::from(is_odd).into());
    let point = ProjectivePoint::from(Option::<AffinePoint>::from(point)?);
    let z = <Scalar as Reduce<U256>>::reduce_bytes(&FieldBytes::from(digest.0));
    let inverse = *Invert::invert_vartime(&r);
    let (of_generator, of_point) = (-(inverse * z), inverse * *s);
    let generator = ProjectivePoint::GENERATOR;
    let key = ProjectivePoint::lincomb(&generator, &of_generator, &point, &of_point);
    // Refuses the point at infinity.
    VerifyingKey::from_affine(key.to_affine()).ok()
}

/// The last 20 bytes of the hash of the key's coordinates.
fn address(key: &VerifyingKey) -> Address {
    let point = key.to_encoded_point(false);
    let mut hasher = Keccak256::new();
    // Without the byte that says that both coordinates follow.
    hasher.update(&point.as_bytes()[1..]);
    let mut address = [0; 20];
    address.copy_from_slice(&hasher.finalize().0[12..]);
    Address(address)
}

/// Bytes that are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("32 bytes that are zero or beyond the order of secp256k1 are no key; draw others")]
pub struct KeyError;

/// A secret key of an EVM account (secp256k1). Its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct EvmKey(SigningKey);

impl EvmKey {
    /// The key of the account that a peer is paid at: who has the peer's key has it.
    ///
    /// # Panics
    /// For one peer of 2^128, whose key has no account.
    pub fn of_peer(key: &SecretKey) -> Self {
        let secret = key.payout_secret();
        Self::from_bytes(secret.as_bytes()).expect("a secret below the order of the curve")
    }

    /// From 32 random bytes, which the caller wipes.
    ///
    /// # Errors
    /// [`KeyError`], for one of 2^128 byte strings.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(bytes.into());
        key.map(Self).map_err(|_| KeyError)
    }

    /// The secret, to be kept where keys are kept.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// The account that the key signs for.
    pub fn address(&self) -> Address {
        address(self.0.verifying_key())
    }

    /// Signs a digest of typed data. The same key and digest give the same signature (RFC 6979).
    ///
    /// # Panics
    /// Never for a digest of 32 bytes: it fails only if a nonce of 256 bits, drawn from key and digest, is zero.
    pub fn sign(&self, digest: &Keccak) -> Signature {
        let signed = self.0.sign_prehash_recoverable(&digest.0);
        let (signature, parity) = signed.expect("a nonce that is not zero");
        // With this parity r would be beyond the order, for one nonce of 2^128.
        assert!(!parity.is_x_reduced(), "r within the order");
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = FIRST_V + u8::from(parity.is_y_odd());
        Signature(bytes)
    }
}

/// Shows the account, never the secret.
impl fmt::Debug for EvmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EvmKey({})", self.address())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn recovery_finds_the_key_that_the_library_finds(digest in any::<[u8; 32]>(), bytes in any::<[u8; 64]>(), seed in any::<[u8; 32]>(), v in 27u8..29) {
            let digest = Keccak(digest);
            // Any numbers, half of which name no point, and signatures with either parity.
            let mut any = bytes.to_vec();
            any[32] >>= 1;
            any.push(v);
            let mut signed = EvmKey::from_bytes(&seed).expect("a key").sign(&digest).0.to_vec();
            signed[64] = v;
            for bytes in [any, signed] {
                let Ok(signature) = Signature::from_bytes(&bytes) else {
                    continue;
                };
                let scalars = signature.scalars().expect("read before");
                let parity = ecdsa::RecoveryId::new(v == 28, false);
                let slow = VerifyingKey::recover_from_prehash(&digest.0, &scalars, parity);
                prop_assert_eq!(recover(&digest, &scalars, v == 28), slow.ok());
            }
        }
    }

    #[test]
    fn a_signature_whose_key_would_be_the_point_at_infinity_is_nobodys() {
        // R = G and s = z give Q = (z G - z G) / r.
        let x = ProjectivePoint::GENERATOR.to_affine();
        let x = VerifyingKey::from_affine(x)
            .expect("a point")
            .to_encoded_point(false);
        let is_odd = x.as_bytes()[64] & 1 == 1;
        let digest = Keccak([1; 32]);
        let mut bytes = [x.as_bytes()[1..33].to_vec(), digest.0.to_vec()].concat();
        bytes.push(FIRST_V + u8::from(is_odd));
        let signature = Signature::from_bytes(&bytes).expect("numbers in range");
        assert_eq!(signature.recover(&digest), Err(SignatureError::NoKey));
    }
}
