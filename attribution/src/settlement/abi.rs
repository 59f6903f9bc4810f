//! `Settlement` and its token as the chain's machine knows them: structs, functions and views by name, type and order.
//!
//! Tests hold every function against the ABI in `contracts/artifacts`. `Terms` and `Root` are also typed data that keys sign,
//! so they stand here once.

use alloy_primitives::U256;

use super::{Address, BalanceProof, Root, SumNode, Terms};

/// What the macro writes carries no documentation and is public to its module.
#[allow(missing_docs, unreachable_pub, clippy::too_many_arguments)]
pub(super) mod sol {
    alloy_sol_types::sol! {
        struct Terms {
            bytes32 run;
            address sponsor;
            address arbiter;
            uint128 rate;
            uint128 challengeBond;
            uint128 minStake;
            uint64 window;
            uint64 cooldown;
            uint64 halt;
        }

        struct Root {
            bytes32 run;
            uint64 height;
            bytes32 balances;
            uint128 total;
            uint128 fees;
            bytes32 lines;
            bool closed;
        }

        struct Step {
            bytes32 hash;
            uint128 sum;
        }

        struct Leaf {
            address account;
            uint128 balance;
            uint256 index;
            Step[] proof;
        }

        struct Claim {
            bytes32 run;
            address account;
            uint128 balance;
            uint256 index;
            Step[] proof;
            bool unwrap;
        }

        struct RootView {
            uint64 height;
            bytes32 balances;
            uint128 total;
            uint128 fromFees;
            uint40 time;
            bool closed;
        }

        struct RunView {
            uint128 deposited;
            uint128 fees;
            uint128 paid;
            uint128 reclaimed;
            uint128 stake;
            uint40 haltedAt;
            RootView accepted;
            RootView pending;
            bytes32 digest;
            uint40 due;
            bool challenged;
            bool confirmed;
            address challenger;
        }

        struct Stake {
            uint128 counting;
            uint128 maturing;
            uint128 leaving;
            uint40 matureAt;
            uint40 leavesAt;
        }

        struct Sentence {
            uint128 amount;
            uint40 due;
        }

        interface IToken {
            function mint(address to, uint256 amount) external;
            function approve(address spender, uint256 value) external returns (bool);
            function transfer(address to, uint256 value) external returns (bool);
            function balanceOf(address account) external view returns (uint256);
            function allowance(address owner, address spender) external view returns (uint256);
        }

        interface ISettlement {
            function deposit(Terms calldata terms, uint128 amount) external;
            function sweep(bytes32 key) external returns (uint128 amount);
            function post(Terms calldata terms, Root calldata root, bytes calldata signatures) external;
            function challenge(Terms calldata terms) external;
            function confirm(Terms calldata terms, Root calldata root, bytes calldata signatures) external;
            function decide(Terms calldata terms, bool uphold) external;
            function claim(Claim[] calldata claims) external;
            function halt(Terms calldata terms) external;
            function reclaim(Terms calldata terms, bool unwrap) external;
            function collect(address account) external;
            function slashFork(Root calldata one, bytes calldata signedOne, Root calldata other, bytes calldata signedOther) external;
            function slashLowered(Root calldata root, bytes calldata signatures, Leaf calldata accepted, Leaf[] calldata shown) external;
            function bond(Terms calldata terms, uint128 amount) external;
            function activate(bytes32 run, address account) external;
            function unbond(Terms calldata terms, uint128 amount) external;
            function withdraw(bytes32 run) external;
            function slash(Terms calldata terms, address account, uint128 amount, bytes32 evidence, bytes calldata signatures) external;
            function executeSlash(bytes32 run, address account) external;
            function till(bytes32 key) external view returns (address);
            function runs(bytes32 key) external view returns (RunView memory);
            function stakes(bytes32 run, address account) external view returns (Stake memory, Sentence memory);
            function claimed(bytes32 run, address account) external view returns (uint128);
            function dropped(bytes32 digest) external view returns (bool);
            function credits(address account) external view returns (uint256);
        }
    }
}

impl From<&Terms> for sol::Terms {
    fn from(terms: &Terms) -> Self {
        Self {
            run: (*terms.run.0.as_bytes()).into(),
            sponsor: terms.sponsor.into(),
            arbiter: terms.arbiter.unwrap_or(Address::ZERO).into(),
            rate: terms.rate_per_s.0,
            challengeBond: terms.challenge_bond.0,
            minStake: terms.min_stake.0,
            window: terms.window_s,
            cooldown: terms.cooldown_s,
            halt: terms.halt_s,
        }
    }
}

impl From<&Root> for sol::Root {
    fn from(root: &Root) -> Self {
        Self {
            run: root.run.0.into(),
            height: root.height,
            balances: root.balances.into(),
            total: root.total.0,
            fees: root.fees.0,
            lines: root.lines.into(),
            closed: root.closed,
        }
    }
}

impl From<&BalanceProof> for sol::Leaf {
    fn from(proof: &BalanceProof) -> Self {
        Self {
            account: proof.address.into(),
            balance: proof.balance.0,
            index: U256::from(proof.index),
            proof: steps(proof),
        }
    }
}

/// The siblings of a leaf, from the bottom.
pub(super) fn steps(proof: &BalanceProof) -> Vec<sol::Step> {
    let step = |node: &SumNode| sol::Step {
        hash: node.hash.into(),
        sum: node.sum.0,
    };
    proof.siblings.iter().map(step).collect()
}
