//! Why an adapter is not served. Each reason has a stable code.

use tributary_protocol::hash::Digest;

use super::{MAX_NAME_BYTES, MAX_WAITING};

/// Why loading failed, in the words of what loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFailure {
    /// Stable, such as `adapter_unreadable`.
    pub code: &'static str,
    /// What failed, why, and what to do.
    pub text: String,
}

/// Why an adapter is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdapterError {
    /// No adapter has the name.
    #[error(
        "there is no model {name}; ask /v1/models for those that are served, or load it with /v1/load_lora_adapter"
    )]
    NotFound {
        /// The name, cut to what is readable.
        name: String,
    },
    /// The name cannot be one.
    #[error("{name} cannot be the name of an adapter: {why}")]
    Name {
        /// The name, cut to what is readable.
        name: String,
        /// What is wrong, and what is allowed.
        why: &'static str,
    },
    /// Another adapter, or the base, has the name.
    #[error("the name {name} is taken; choose another, or unload what has it")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// No further name.
    #[error("{most} adapters have names already; unload one that is not needed")]
    TooManyNames {
        /// Most names.
        most: usize,
    },
    /// The adapter alone exceeds the memory for adapters.
    #[error(
        "the adapter takes {bytes} bytes and all adapters together may take {most}; give them more memory"
    )]
    TooLarge {
        /// What it takes.
        bytes: usize,
        /// What there is.
        most: usize,
    },
    /// Pinned adapters leave no room.
    #[error(
        "pinned adapters take {held} of {most} bytes, which leaves no room to pin {bytes} more; unload one of them, or \
         load this one without a pin"
    )]
    Pinned {
        /// What pinned ones take.
        held: usize,
        /// What this one takes.
        bytes: usize,
        /// What there is.
        most: usize,
    },
    /// What is there now is not what the name stands for.
    #[error(
        "what {name} was loaded from now holds {is} and the name stands for {was}; load it again under this name to serve \
         the new one",
        was = was.short(),
        is = is.short()
    )]
    Changed {
        /// The name.
        name: String,
        /// What it stands for.
        was: Digest,
        /// What was found.
        is: Digest,
    },
    /// Too many wait for one load.
    #[error("{MAX_WAITING} requests wait for {name} to be loaded; try again in a second")]
    Busy {
        /// The name.
        name: String,
    },
    /// Loading failed.
    #[error("cannot load {name}: {}", failure.text)]
    Load {
        /// The name.
        name: String,
        /// Why.
        failure: LoadFailure,
    },
}

impl AdapterError {
    /// For programs; it never changes its meaning.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "adapter_not_found",
            Self::Name { .. } => "adapter_name_invalid",
            Self::NameTaken { .. } => "adapter_name_taken",
            Self::TooManyNames { .. } => "too_many_adapters",
            Self::TooLarge { .. } => "adapter_too_large",
            Self::Pinned { .. } => "adapter_memory_pinned",
            Self::Changed { .. } => "adapter_changed",
            Self::Busy { .. } => "adapter_busy",
            Self::Load { failure, .. } => failure.code,
        }
    }

    pub(super) fn unknown(name: &str) -> Self {
        Self::NotFound {
            name: readable(name),
        }
    }
}

/// A name is short, and safe in addresses, logs and file names.
pub(super) fn check_name(name: &str) -> Result<(), AdapterError> {
    let refused = |why| {
        let name = readable(name);
        Err(AdapterError::Name { name, why })
    };
    let starts = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let usual = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@".contains(&b);
    if name.len() > MAX_NAME_BYTES {
        return refused("it has more than 256 characters; give a shorter one");
    }
    match starts && name.bytes().all(usual) {
        true => Ok(()),
        false => refused(
            "it begins with a letter or digit and has only these and - _ . / : @; choose another",
        ),
    }
}

/// A stranger's text, as it may stand in a message.
fn readable(name: &str) -> String {
    const SHOWN: usize = 80;
    let shown = name.chars().take(SHOWN);
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let more = if name.chars().count() > SHOWN {
        "..."
    } else {
        ""
    };
    shown.map(plain).chain(more.chars()).collect()
}
