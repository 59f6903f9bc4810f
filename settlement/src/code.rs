//! The contracts' code, as it was compiled and committed, and whether a chain has it at an address.
//!
//! `Settlement` carries constants that its constructor filled in: its place, for signatures, and its token. Every word of them
//! is compared with what it has to be, so that code which pays out of another token than it takes is foreign.

use alloy::primitives::{U256, hex};
use serde::Deserialize;
use tributary_attribution::settlement::{Address, ChainId, Deployment, Keccak};

/// A contract of this repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    /// Holds the money of runs.
    Settlement {
        /// The ERC-20 token that it holds.
        token: Address,
        /// Whether that wraps the chain's native coin, as WETH9 does.
        wraps: bool,
    },
    /// A token that anybody mints, for test networks.
    TestOpen,
    /// Payment channels.
    Channels,
    /// Brings money into channels.
    Collector,
}

impl std::fmt::Display for Contract {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Settlement { .. } => "Settlement",
            Self::TestOpen => "TestOpen",
            Self::Channels => "Channels",
            Self::Collector => "Collector",
        })
    }
}

#[derive(Deserialize)]
struct Artifact {
    bytecode: Object,
    #[serde(rename = "deployedBytecode")]
    deployed: Object,
    immutables: Vec<Place>,
}

#[derive(Deserialize)]
struct Object {
    object: String,
}

impl Object {
    fn bytes(&self) -> Vec<u8> {
        hex::decode(&self.object).expect("an artifact's code is hexadecimal")
    }
}

/// Where the constructor wrote a word.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    start: usize,
    length: usize,
}

macro_rules! artifact {
    ($name:literal) => {
        include_str!(concat!(
            "../../attribution/contracts/artifacts/",
            $name,
            ".json"
        ))
    };
}

impl Contract {
    fn artifact(&self) -> Artifact {
        let text = match self {
            Self::Settlement { .. } => artifact!("Settlement"),
            Self::TestOpen => artifact!("TestOpen"),
            Self::Channels => artifact!("Channels"),
            Self::Collector => artifact!("Collector"),
        };
        serde_json::from_str(text).expect("an artifact has its code")
    }

    /// What a transaction without a receiver carries to deploy it.
    pub fn creation(&self) -> Vec<u8> {
        let mut code = self.artifact().bytecode.bytes();
        if let Self::Settlement { token, wraps } = self {
            code.extend(of_address(*token));
            code.extend(of_number(u64::from(*wraps)));
        }
        code
    }

    /// Whether `found` is this contract's code. Of a test token's constants, which only its own signatures need, nothing is
    /// said.
    pub(crate) fn is_at(&self, found: &[u8], deployment: &Deployment) -> bool {
        match self {
            Self::Settlement { token, wraps } => {
                read_settlement(found, deployment) == Some((*token, *wraps))
            }
            _ => {
                let artifact = self.artifact();
                let whole = artifact.deployed.bytes();
                masked(found, &artifact.immutables)
                    == Some(masked(&whole, &artifact.immutables).unwrap_or_default())
            }
        }
    }
}

/// Code with nothing where the constructor wrote; `None` if it is too short for that.
fn masked(code: &[u8], places: &[Place]) -> Option<Vec<u8>> {
    let mut code = code.to_vec();
    for place in places {
        code.get_mut(place.start..place.start + place.length)?
            .fill(0);
    }
    Some(code)
}

/// Bytes of `Settlement`'s code at which its constants stand, as the compiler put them; tests hold them against the artifact
/// and against a contract that was deployed.
const SEPARATOR: usize = 0x4bd0;
const CHAIN: usize = 0x4c87;
const SELF: usize = 0x4b9a;
const HASHED_NAME: usize = 0x4c1f;
const HASHED_VERSION: usize = 0x4c45;
const NAME_WORD: usize = 0x1cdb;
const VERSION_WORD: usize = 0x1d05;
const TOKEN: [usize; 10] = [
    0x001b, 0x0266, 0x1b16, 0x2585, 0x2b44, 0x39fa, 0x3e8a, 0x45dd, 0x46e4, 0x4b3e,
];
const WRAPS: [usize; 3] = [0x0064, 0x21d7, 0x45b7];

/// Name and version in the contract's typed data (EIP-712).
const NAME: &str = "Tributary Settlement";
const VERSION: &str = "1";
const DOMAIN: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

/// Token and whether it wraps the native coin, if `found` is `Settlement`'s code for this place, to the last bit.
pub(crate) fn read_settlement(found: &[u8], deployment: &Deployment) -> Option<(Address, bool)> {
    let word = |at: usize| found.get(at..at + 32);
    let token = Address(word(TOKEN[0])?[12..].try_into().ok()?);
    let wraps = match word(WRAPS[0])? {
        flag if flag == of_number(0) => false,
        flag if flag == of_number(1) => true,
        _ => return None,
    };
    (found == settlement(deployment, token, wraps)).then_some((token, wraps))
}

/// The code that `Settlement` has at a place.
fn settlement(deployment: &Deployment, token: Address, wraps: bool) -> Vec<u8> {
    let artifact = Contract::Settlement { token, wraps }.artifact();
    let mut code = artifact.deployed.bytes();
    let ChainId(chain) = deployment.chain;
    let (name, version) = (hash(NAME), hash(VERSION));
    let place = of_address(deployment.contract);
    let Keccak(separator) =
        Keccak::of(&[&hash(DOMAIN), &name, &version, &of_number(chain), &place]);
    let mut words = vec![
        (SEPARATOR, separator),
        (CHAIN, of_number(chain)),
        (SELF, place),
        (HASHED_NAME, name),
        (HASHED_VERSION, version),
        (NAME_WORD, of_text(NAME)),
        (VERSION_WORD, of_text(VERSION)),
    ];
    words.extend(TOKEN.map(|at| (at, of_address(token))));
    words.extend(WRAPS.map(|at| (at, of_number(u64::from(wraps)))));
    for (at, word) in words {
        code[at..at + 32].copy_from_slice(&word);
    }
    code
}

fn hash(text: &str) -> [u8; 32] {
    Keccak::of(&[text.as_bytes()]).0
}

fn of_address(address: Address) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&address.0);
    word
}

fn of_number(number: u64) -> [u8; 32] {
    U256::from(number).to_be_bytes()
}

/// A text of less than 32 bytes as OpenZeppelin keeps it: the text, and in the last byte its length.
fn of_text(text: &str) -> [u8; 32] {
    let mut word = [0; 32];
    word[..text.len()].copy_from_slice(text.as_bytes());
    word[31] = text.len() as u8;
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Deployment = Deployment {
        chain: ChainId(1612),
        contract: Address([3; 20]),
    };
    const TOKEN_ADDRESS: Address = Address([5; 20]);

    #[test]
    fn the_constants_stand_where_the_artifact_says() {
        let artifact = Contract::Settlement {
            token: Address::ZERO,
            wraps: false,
        }
        .artifact();
        let mut stated = artifact.immutables.clone();
        stated.sort();
        let one = [
            SEPARATOR,
            CHAIN,
            SELF,
            HASHED_NAME,
            HASHED_VERSION,
            NAME_WORD,
            VERSION_WORD,
        ];
        let all = one.into_iter().chain(TOKEN).chain(WRAPS);
        let mut ours: Vec<Place> = all.map(|start| Place { start, length: 32 }).collect();
        ours.sort();
        assert_eq!(
            ours, stated,
            "the contract was compiled anew: read its constants' places from the constructor"
        );
    }

    #[test]
    fn token_and_flag_are_read_of_the_right_code_alone() {
        for wraps in [false, true] {
            let code = settlement(&PLACE, TOKEN_ADDRESS, wraps);
            assert_eq!(read_settlement(&code, &PLACE), Some((TOKEN_ADDRESS, wraps)));
        }
        let code = settlement(&PLACE, TOKEN_ADDRESS, false);
        let elsewhere = [
            Deployment {
                chain: ChainId(1),
                ..PLACE
            },
            Deployment {
                contract: Address([4; 20]),
                ..PLACE
            },
        ];
        for other in elsewhere {
            assert_eq!(read_settlement(&code, &other), None, "{other:?}");
        }
        assert_eq!(read_settlement(&[], &PLACE), None);
        assert_eq!(read_settlement(&code[..code.len() - 1], &PLACE), None);
    }

    #[test]
    fn one_other_bit_anywhere_is_a_foreign_contract() {
        let code = settlement(&PLACE, TOKEN_ADDRESS, false);
        // Also where it pays out, which no view shows.
        let constants =
            TOKEN
                .iter()
                .chain(&WRAPS)
                .map(|at| at + 31)
                .chain([SEPARATOR, CHAIN + 31, SELF + 31]);
        for at in constants.chain((0..code.len()).step_by(97)) {
            let mut other = code.clone();
            other[at] ^= 1;
            assert_eq!(read_settlement(&other, &PLACE), None, "byte {at}");
        }
    }
}
