// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// What a run agrees on before anybody pays. Its hash is the run's key, so nobody opens a RunId with other terms: other
/// terms are another key, with other money.
struct Terms {
    /// The RunId (BLAKE3).
    bytes32 run;
    /// Takes back the deposit that no root promised, and of a halted run the fees; the only account that may halt.
    address sponsor;
    /// Decides challenges instead of the stake; 0: none.
    address arbiter;
    /// Base units a second by which promises out of the deposit may rise.
    uint128 rate;
    /// Base units that a challenger puts up.
    uint128 challengeBond;
    /// Base units of counting stake without which no root is posted and no challenge answered: two thirds of a handful
    /// are no quorum.
    uint128 minStake;
    /// Seconds in which a posted root can be challenged, new stake does not count, and a slash waits.
    uint64 window;
    /// Seconds from unbond to withdraw.
    uint64 cooldown;
    /// Seconds without an accepted root after which the sponsor may halt.
    uint64 halt;
}

/// What members sign at every height.
struct Root {
    /// The run's key, not its RunId.
    bytes32 run;
    uint64 height;
    /// Hash of the root node of a Merkle-sum tree over cumulative balances.
    bytes32 balances;
    /// Sum of that tree: everything that the run ever promised, base units.
    uint128 total;
    /// The part of `total` that fees cover, base units; the rest is promised out of the deposit.
    uint128 fees;
    /// Root of the Merkle tree over statement lines; the contract only publishes it.
    bytes32 lines;
    /// Closes the deposit: no root promises anything of it after this one is accepted. Later roots promise fees alone,
    /// whether or not they say so too.
    bool closed;
}

/// A sibling on the way from a leaf to the root.
struct Step {
    bytes32 hash;
    uint128 sum;
}

/// A leaf of a Merkle-sum tree with its way to the root.
struct Leaf {
    address account;
    uint128 balance;
    /// Bit k is set where the node at level k, from the bottom, is the right one.
    uint256 index;
    Step[] proof;
}

/// One payment out of one run.
struct Claim {
    bytes32 run;
    address account;
    /// Cumulative, as in the leaf.
    uint128 balance;
    uint256 index;
    Step[] proof;
    /// Pay in the native coin; only the account itself may ask for it.
    bool unwrap;
}

/// An accepted or pending root as readers see it.
struct RootView {
    uint64 height;
    bytes32 balances;
    uint128 total;
    /// The part of `total` that fees cover, as it was signed.
    uint128 fromFees;
    /// When it was posted, seconds; for the accepted root of a run without any, when the first deposit came.
    uint40 time;
    /// Of the accepted root: whether it or one before closed the run. Of the pending one: whether it says so.
    bool closed;
}

/// A run as readers see it now, whether or not a transaction has written it down yet.
struct RunView {
    uint128 deposited;
    uint128 fees;
    uint128 paid;
    uint128 reclaimed;
    /// Stake that counts.
    uint128 stake;
    uint40 haltedAt;
    RootView accepted;
    /// `height` 0: none.
    RootView pending;
    /// EIP-712 digest of the pending root.
    bytes32 digest;
    /// When the pending root is accepted, or void if it is challenged.
    uint40 due;
    bool challenged;
    bool confirmed;
    address challenger;
}

/// Stake of one account in one run.
struct Stake {
    uint128 counting;
    /// Not counting before `matureAt` and `activate`.
    uint128 maturing;
    uint128 leaving;
    uint40 matureAt;
    uint40 leavesAt;
}

/// A slash that the quorum signed and that waits.
struct Sentence {
    uint128 amount;
    uint40 due;
}

/// `Settlement`, as others call it. Amounts are base units of the token, signatures 65 bytes each (r, s, v) with signers
/// in ascending order. What each function does stands where it is written, in `Settlement.sol` and `Stakes.sol`.
interface ISettlement {
    function token() external view returns (IERC20);
    function wrapped() external view returns (bool);

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
    function slashFork(Root calldata one, bytes calldata signedOne, Root calldata other, bytes calldata signedOther)
        external;
    function slashLowered(
        Root calldata root,
        bytes calldata signatures,
        Leaf calldata accepted,
        Leaf[] calldata shown
    ) external;

    function bond(Terms calldata terms, uint128 amount) external;
    function activate(bytes32 run, address account) external;
    function unbond(Terms calldata terms, uint128 amount) external;
    function withdraw(bytes32 run) external;
    function slash(
        Terms calldata terms,
        address account,
        uint128 amount,
        bytes32 evidence,
        bytes calldata signatures
    ) external;
    function executeSlash(bytes32 run, address account) external;

    function keyOf(Terms calldata terms) external pure returns (bytes32);
    function rootDigest(Root calldata root) external view returns (bytes32);
    function confirmDigest(bytes32 key, uint64 height, bytes32 digest) external view returns (bytes32);
    function slashDigest(bytes32 run, address account, uint128 amount, bytes32 evidence)
        external
        view
        returns (bytes32);
    function till(bytes32 key) external view returns (address);
    function runs(bytes32 key) external view returns (RunView memory);
    function stakes(bytes32 run, address account) external view returns (Stake memory, Sentence memory);
    function claimed(bytes32 run, address account) external view returns (uint128);
    function dropped(bytes32 digest) external view returns (bool);
    function credits(address account) external view returns (uint256);

    event Opened(bytes32 indexed run, Terms terms);
    event Deposited(bytes32 indexed run, address indexed from, uint128 amount);
    event Swept(bytes32 indexed run, uint128 amount);
    event Bonded(bytes32 indexed run, address indexed account, uint128 amount, uint40 matureAt);
    event Activated(bytes32 indexed run, address indexed account, uint128 amount);
    event Unbonded(bytes32 indexed run, address indexed account, uint128 amount, uint40 leavesAt);
    event Withdrawn(bytes32 indexed run, address indexed account, uint128 amount);
    event Posted(
        bytes32 indexed run,
        uint64 height,
        bytes32 balances,
        uint128 total,
        uint128 fees,
        bytes32 lines,
        bool closed,
        bytes32 digest
    );
    event Accepted(bytes32 indexed run, uint64 height, bytes32 balances, uint128 total);
    /// The pending root was replaced by a greater height, or is void.
    event Dropped(bytes32 indexed run, uint64 height, bytes32 digest);
    event Claimed(bytes32 indexed run, address indexed account, uint128 amount, uint128 claimed);
    event Challenged(bytes32 indexed run, uint64 height, address indexed challenger, uint128 bond);
    event Confirmed(bytes32 indexed run, uint64 height);
    event Credited(bytes32 indexed run, address indexed account, uint128 amount);
    event Collected(address indexed account, uint256 amount);
    event Sentenced(bytes32 indexed run, address indexed account, uint128 amount, bytes32 evidence, uint40 due);
    event Slashed(bytes32 indexed run, address indexed account, uint128 amount);
    event Rewarded(bytes32 indexed run, address indexed prover, uint128 amount);
    event Burned(bytes32 indexed run, uint128 amount);
    event Halted(bytes32 indexed run, uint40 until);
    event Reclaimed(bytes32 indexed run, address indexed sponsor, uint128 amount);

    /// The terms have no sponsor, or times that would make stake leave before it can be slashed.
    error BadTerms();
    /// The amount is zero.
    error NoAmount();
    /// The token delivered another amount than was asked for.
    error Inexact(uint256 arrived);
    error NothingToSweep();
    /// The run takes no deposit and is not halted: its closing root is accepted, or it is halted. Or it takes no root:
    /// it was halted a window ago and never closed.
    error RunEnded();
    error RunNotEnded();
    error NothingToReclaim();
    /// The statement names another run.
    error WrongRun();
    error HeightTooLow(uint64 height);
    /// A pending root whose first window is over is not replaced any more; post again when it is accepted.
    error PendingIsFixed();
    error PendingIsChallenged();
    /// Fees cover less of the root than of the accepted one.
    error FeesFell(uint128 accepted);
    /// Fees cannot cover more than the root's total.
    error FeesAboveTotal(uint128 total);
    /// Fees cannot cover more than was swept.
    error FeesAboveMoney(uint256 fees);
    /// The root promises less of the deposit than the accepted one.
    error TotalFell(uint128 accepted);
    /// The root promises more of the deposit than there is.
    error TotalAboveMoney(uint256 deposited);
    /// The root promises more of the deposit than the accepted one and what the rate has released since: of a closed run,
    /// nothing.
    error TotalRoseTooFast(uint256 allowed);
    /// The signatures are not a multiple of 65 bytes.
    error BadSignatures();
    error SignersNotAscending(address signer);
    error NoQuorum(uint256 signed, uint256 all);
    error StakeTooLow(uint256 all, uint256 least);
    error BadProof();
    /// The leaves shown do not prove that the root lowers or drops the account.
    error NotLowered();
    /// The root was never posted, or is not above the accepted one.
    error NotEvidence();
    error NotAFork();
    error NothingPending();
    error NotChallenged();
    error AlreadyConfirmed();
    /// A halted run without an arbiter takes no challenge unless it is closed.
    error NobodyToAnswer();
    error NotArbiter();
    /// The terms name an arbiter, who decides instead of the stake.
    error ArbiterDecides();
    error NotSponsor();
    error TooEarly(uint256 due);
    error NoStake();
    error SlashPending();
    error AlreadySigned();
    error NotYours();
    error NotWrapped();
    error NativeRefused();
}
