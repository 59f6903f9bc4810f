//! An account as JSON: amounts as text in micro-OPEN, hashes and signatures in hexadecimal.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tributary_attribution::settlement::Signature;
use tributary_protocol::id::MicroOpen;

use super::{Account, Attempt, Channel, Salt};

/// An [`Account`] on the disk.
#[derive(Serialize, Deserialize)]
pub(in crate::serve) struct AccountFile {
    schema: String,
    charged: String,
    closed: Option<String>,
    channels: Vec<ChannelFile>,
}

#[derive(Serialize, Deserialize)]
struct ChannelFile {
    salt: String,
    charged: String,
    highest: String,
    signature: Option<String>,
    requests: Vec<RequestFile>,
}

#[derive(Serialize, Deserialize)]
struct RequestFile {
    total: String,
    body: String,
    charged: String,
    repeats: u8,
    answered: bool,
}

const SCHEMA: &str = "account/1";

impl AccountFile {
    /// Of an account.
    pub(in crate::serve) fn of(account: &Account) -> Self {
        let request = |(total, one): (&MicroOpen, &Attempt)| RequestFile {
            total: total.0.to_string(),
            body: one.body.to_string(),
            charged: one.charged.0.to_string(),
            repeats: one.repeats,
            answered: one.was_answered,
        };
        let channel = |(salt, channel): (&Salt, &Channel)| ChannelFile {
            salt: HEXLOWER.encode(salt),
            charged: channel.charged.0.to_string(),
            highest: channel.highest.0.to_string(),
            signature: channel
                .signature
                .map(|signature| HEXLOWER.encode(signature.as_bytes())),
            requests: channel.attempts.iter().map(request).collect(),
        };
        Self {
            schema: SCHEMA.into(),
            charged: account.charged.0.to_string(),
            closed: account.closed.map(|salt| HEXLOWER.encode(&salt)),
            channels: account.channels.iter().map(channel).collect(),
        }
    }

    /// The account.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(in crate::serve) fn read(self) -> Result<Account, String> {
        if self.schema != SCHEMA {
            return Err(format!("it says `{}`, not {SCHEMA}", self.schema));
        }
        let channels = self
            .channels
            .into_iter()
            .map(|channel| Ok((salt(&channel.salt)?, channel.read()?)));
        Ok(Account {
            granted: MicroOpen(0),
            charged: amount(&self.charged)?,
            closed: self.closed.as_deref().map(salt).transpose()?,
            channels: channels.collect::<Result<_, String>>()?,
        })
    }
}

impl ChannelFile {
    fn read(self) -> Result<Channel, String> {
        let request = |one: RequestFile| {
            let attempt = Attempt {
                body: one.body.parse().map_err(|_| "a hash is none".to_owned())?,
                reserved: MicroOpen(0),
                charged: amount(&one.charged)?,
                repeats: one.repeats,
                is_open: false,
                was_answered: one.answered,
            };
            Ok((amount(&one.total)?, attempt))
        };
        let channel = Channel {
            charged: amount(&self.charged)?,
            highest: amount(&self.highest)?,
            signature: self.signature.as_deref().map(signature).transpose()?,
            attempts: self
                .requests
                .into_iter()
                .map(request)
                .collect::<Result<_, String>>()?,
        };
        match channel.charged <= channel.highest {
            true => Ok(channel),
            false => Err("a channel is charged more than its voucher".into()),
        }
    }
}

fn amount(text: &str) -> Result<MicroOpen, String> {
    text.parse()
        .map(MicroOpen)
        .map_err(|_| "an amount is no number".into())
}

fn salt(text: &str) -> Result<Salt, String> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    let salt = bytes.and_then(|bytes| bytes.try_into().ok());
    salt.ok_or_else(|| "a channel's salt is none".into())
}

fn signature(text: &str) -> Result<Signature, String> {
    let bytes = HEXLOWER
        .decode(text.as_bytes())
        .map_err(|e| e.to_string())?;
    Signature::from_bytes(&bytes).map_err(|e| e.to_string())
}
