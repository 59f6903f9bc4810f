//! `[chain]` of `config.toml`: how this peer reaches the real chain on which the money of its runs lies, and what that may
//! cost.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use tributary_attribution::settlement::ChainId;
use tributary_settlement::{Config, Wallet};

use crate::identity::Identity;
use crate::keeper;
use crate::terminal::Failure;

/// How a real chain is reached.
#[derive(Args, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSettings {
    /// URL of a node of the chain on which the money of runs lies, as `[chain]` of the home's config.toml holds it.
    #[arg(id = "chain_rpc", long = "chain-rpc", value_name = "URL")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc: Option<String>,
    /// File with the key of the account that is paid, stakes and sends transactions there: 64 hexadecimal digits that nobody
    /// else can read. Default: the account that follows from this peer's key.
    #[arg(id = "chain_key", long = "chain-key", value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The most that a unit of gas may cost, base fee and tip together, in wei.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_per_gas_wei: Option<u64>,
    /// The most of it that goes to whoever makes the block, in wei.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_tip_wei: Option<u64>,
    /// Seconds between two looks at the chain.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_s: Option<u32>,
}

/// How a daemon reaches the real chain on which the money of its runs lies.
#[derive(Clone, Debug, Default)]
pub struct ChainAccess {
    /// Where it is asked. Without a URL the daemon follows what others read.
    pub settings: ChainSettings,
    /// The key of the account there; None: the one that follows from the peer's.
    pub wallet: Option<Wallet>,
}

/// Seconds between two looks at a chain, unless the settings say otherwise: about a block.
const LOOK_S: u32 = 4;

/// Shows no URL, because it may hold a password.
impl fmt::Debug for ChainSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainSettings")
            .field("has_rpc", &self.rpc.is_some())
            .field("key", &self.key)
            .field("most_per_gas_wei", &self.most_per_gas_wei)
            .field("most_tip_wei", &self.most_tip_wei)
            .field("look_s", &self.look_s)
            .finish()
    }
}

impl ChainSettings {
    /// Whether nothing was set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and where one is not set that of `rest`. The place of a key file no longer depends on the working folder.
    ///
    /// # Errors
    /// When the working folder is gone.
    pub fn or(self, rest: Self) -> Result<Self, Failure> {
        let key = self.key.map(std::path::absolute).transpose();
        let key = key.map_err(|e| {
            Failure::environment(format!("the working folder cannot be found: {e}"))
                .hint("change to a folder that exists, or give the whole path")
        })?;
        Ok(Self {
            rpc: self.rpc.or(rest.rpc),
            key: key.or(rest.key),
            most_per_gas_wei: self.most_per_gas_wei.or(rest.most_per_gas_wei),
            most_tip_wei: self.most_tip_wei.or(rest.most_tip_wei),
            look_s: self.look_s.or(rest.look_s),
        })
    }

    /// Between two looks at the chain.
    pub fn every(&self) -> Duration {
        Duration::from_secs(self.look_s.unwrap_or(LOOK_S).max(1).into())
    }

    /// How `chain` is reached; none without a URL.
    pub fn config(&self, chain: ChainId) -> Option<Config> {
        let usual = Config::new(self.rpc.clone()?, chain);
        let most = |set: Option<u64>, usual: u128| set.map_or(usual, u128::from);
        Some(Config {
            every: self.every(),
            most_per_gas_wei: most(self.most_per_gas_wei, usual.most_per_gas_wei),
            most_tip_wei: most(self.most_tip_wei, usual.most_tip_wei),
            ..usual
        })
    }

    /// The account's key: that of the file, else the one that follows from the peer's.
    ///
    /// # Errors
    /// When the file cannot be read, is open to others, or holds no key.
    pub fn wallet(&self, identity: &Identity) -> Result<Wallet, Failure> {
        match &self.key {
            Some(path) => Ok(Wallet::open(path)?),
            None => Ok(keeper::account(identity).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_counts_before_the_file_and_the_url_is_never_shown() {
        let text = "rpc = \"https://user:secret@node\"\nmost_per_gas_wei = 5\nlook_s = 0\n";
        let file: ChainSettings = toml::from_str(text).unwrap();
        let option = ChainSettings {
            rpc: Some("http://127.0.0.1:1".into()),
            ..ChainSettings::default()
        };
        let both = option.or(file.clone()).unwrap();
        let config = both.config(ChainId(1612)).unwrap();
        assert_eq!(
            (config.url.as_str(), config.most_per_gas_wei),
            ("http://127.0.0.1:1", 5)
        );
        assert_eq!(config.every, Duration::from_secs(1));
        assert_eq!(
            config.most_tip_wei,
            Config::new("", ChainId(1)).most_tip_wei
        );
        assert!(!format!("{file:?}").contains("secret"), "{file:?}");
        assert!(ChainSettings::default().config(ChainId(1)).is_none());
        assert!(toml::from_str::<ChainSettings>("url = \"x\"\n").is_err());
    }

    #[test]
    fn without_a_key_file_the_account_follows_from_the_peers_key() {
        let identity = Identity::generate();
        let wallet = ChainSettings::default().wallet(&identity).unwrap();
        assert_eq!(wallet.account(), keeper::account_of(&identity));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = Wallet::create(&path).unwrap();
        let named = ChainSettings {
            key: Some(path),
            ..ChainSettings::default()
        };
        assert_eq!(named.wallet(&identity).unwrap().account(), made.account());
    }
}
