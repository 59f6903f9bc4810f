//! The seal on what a home keeps for the next time: only the holder of the home's key can make it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tributary_protocol::hash::{Digest, Domain, Hasher};

/// Something sealed, as text.
#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    schema: String,
    kept: T,
    seal: String,
}

/// The seal over some bytes of a layout.
pub(crate) fn of(schema: &str, bytes: &[u8], secret: &Digest) -> Digest {
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(b"checked mark").update(secret.as_bytes());
    let length = (schema.len() as u64).to_le_bytes();
    hasher.update(&length).update(schema.as_bytes());
    hasher.update(bytes).finalize()
}

/// `kept` as text, sealed.
pub(crate) fn json<T: Serialize>(schema: &str, kept: &T, secret: &Digest) -> Vec<u8> {
    let bytes = serde_json::to_vec(kept).expect("plain data");
    let sealed = Sealed {
        schema: schema.to_owned(),
        kept,
        seal: of(schema, &bytes, secret).to_string(),
    };
    serde_json::to_vec(&sealed).expect("plain data")
}

/// What was sealed; `None` when the seal is not this secret's, or the layout is another.
pub(crate) fn from_json<T: Serialize + DeserializeOwned>(
    schema: &str,
    bytes: &[u8],
    secret: &Digest,
) -> Option<T> {
    let sealed: Sealed<T> = serde_json::from_slice(bytes).ok()?;
    let again = serde_json::to_vec(&sealed.kept).ok()?;
    let holds = sealed.schema == schema && of(schema, &again, secret).to_string() == sealed.seal;
    holds.then_some(sealed.kept)
}
