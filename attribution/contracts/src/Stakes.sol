// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {ISettlement, Sentence, Stake, Terms} from "./ISettlement.sol";

/// Stake of runs: it comes in, counts after a window, leaves after a cool-down, and can be slashed all the while.
///
/// The contract stores no terms. Whoever calls shows them, and their hash is the key under which everything of the run
/// stands, so other terms only ever reach other money.
abstract contract Stakes is ISettlement, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    bytes32 internal constant TERMS_TYPEHASH = keccak256(
        "Terms(bytes32 run,address sponsor,address arbiter,uint128 rate,uint128 challengeBond,uint128 minStake,uint64 window,uint64 cooldown,uint64 halt)"
    );
    bytes32 internal constant SLASH_TYPEHASH =
        keccak256("Slash(bytes32 run,address account,uint128 amount,bytes32 evidence)");

    /// Keeps every time below 2^40 and every run's end within reach.
    uint64 public constant MAX_SECONDS = 3650 days;
    /// A root is accepted or void two windows after its post (its own and a challenge's). Stake that signed it stays
    /// slashable for one more, so that a proof made at the last moment still finds it.
    uint64 public constant MIN_WINDOWS = 3;
    /// Where burned tokens go; nobody has its key.
    address public constant BURNED = 0x000000000000000000000000000000000000dEaD;
    /// The prover of a proof that the chain checks gets one part in this many. The rest is burned, so that slashing
    /// oneself costs nine tenths.
    uint128 public constant REWARD_PART = 10;

    /// The one token: OPEN, or wrapped OPEN where OPEN is native.
    IERC20 public immutable token;

    mapping(bytes32 run => mapping(address account => Stake)) internal stakeOf;
    mapping(bytes32 run => mapping(address account => Sentence)) internal sentenceOf;
    /// Slashes that the quorum signed are good once.
    mapping(bytes32 digest => bool) internal signedBefore;

    constructor(IERC20 token_) EIP712("Tributary Settlement", "1") {
        token = token_;
    }

    /// Adds to the counting stake of a run, or takes from it.
    function _addCounting(bytes32 run, uint128 amount) internal virtual;
    function _subCounting(bytes32 run, uint128 amount) internal virtual;
    function _counting(bytes32 run) internal view virtual returns (uint128);

    /// Puts up stake of the caller. It counts for roots one window after the last `bond` and `activate`: whoever wants to
    /// decide about a root has to have shown its stake a window before. Nobody bonds for others, so nobody can restart
    /// another account's wait with dust.
    function bond(Terms calldata terms, uint128 amount) external nonReentrant {
        _check(terms);
        if (amount == 0) revert NoAmount();
        bytes32 run = keyOf(terms);
        Stake storage stake = stakeOf[run][msg.sender];
        if (stake.maturing != 0 && block.timestamp >= stake.matureAt) _activate(run, msg.sender);
        uint40 matureAt = uint40(block.timestamp + terms.window);
        stake.maturing += amount;
        stake.matureAt = matureAt;
        emit Bonded(run, msg.sender, amount, matureAt);
        _pull(amount);
    }

    /// Makes stake count that has waited its window. Anyone may call it. Explicit, so that no call ever walks over a list
    /// that dust could fill.
    function activate(bytes32 run, address account) external nonReentrant {
        Stake storage stake = stakeOf[run][account];
        if (stake.maturing == 0) revert NoStake();
        if (block.timestamp < stake.matureAt) revert TooEarly(stake.matureAt);
        _activate(run, account);
    }

    /// Stops stake of the caller from counting, at once, and lets it leave after the cool-down. What does not count yet
    /// goes first. Another `unbond` restarts the cool-down of all that is leaving.
    function unbond(Terms calldata terms, uint128 amount) external nonReentrant {
        if (amount == 0) revert NoAmount();
        bytes32 run = keyOf(terms);
        Stake storage stake = stakeOf[run][msg.sender];
        uint128 maturing = stake.maturing;
        uint128 young = amount < maturing ? amount : maturing;
        uint128 old = amount - young;
        if (old > stake.counting) revert NoStake();
        uint40 leavesAt = uint40(block.timestamp + terms.cooldown);
        stake.maturing = maturing - young;
        if (old != 0) {
            stake.counting -= old;
            _subCounting(run, old);
        }
        stake.leaving += amount;
        stake.leavesAt = leavesAt;
        emit Unbonded(run, msg.sender, amount, leavesAt);
    }

    /// Pays out stake of the caller whose cool-down is over. A slash that waits holds it: otherwise a signed slash could
    /// be outrun by a cool-down that ends first.
    function withdraw(bytes32 run) external nonReentrant {
        Sentence storage sentence = sentenceOf[run][msg.sender];
        if (sentence.amount != 0) {
            if (block.timestamp < sentence.due) revert SlashPending();
            _executeSlash(run, msg.sender);
        }
        Stake storage stake = stakeOf[run][msg.sender];
        uint128 amount = stake.leaving;
        if (amount == 0) revert NoStake();
        if (block.timestamp < stake.leavesAt) revert TooEarly(stake.leavesAt);
        stake.leaving = 0;
        emit Withdrawn(run, msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    /// Sentences an account for what the chain cannot check, by signatures of `Slash`. It takes more than two thirds of
    /// the stake of the others, and more than a third of all: with the first alone, 7 % could slash a holder of 90 %.
    /// Everything is burned, so no voter gains.
    function slash(
        Terms calldata terms,
        address account,
        uint128 amount,
        bytes32 evidence,
        bytes calldata signatures
    ) external nonReentrant {
        if (amount == 0) revert NoAmount();
        bytes32 run = keyOf(terms);
        bytes32 digest = slashDigest(run, account, amount, evidence);
        if (signedBefore[digest]) revert AlreadySigned();
        signedBefore[digest] = true;
        Sentence storage sentence = sentenceOf[run][account];
        if (sentence.amount != 0) {
            if (block.timestamp < sentence.due) revert SlashPending();
            _executeSlash(run, account);
        }
        Stake storage stake = stakeOf[run][account];
        if (uint256(stake.counting) + stake.maturing + stake.leaving == 0) revert NoStake();
        uint256 all = _counting(run);
        uint256 others = all - stake.counting;
        uint256 signed = _signedStake(run, digest, signatures, account);
        if (3 * signed <= 2 * others || 3 * signed <= all) revert NoQuorum(signed, others);
        uint40 due = uint40(block.timestamp + terms.window);
        sentence.amount = amount;
        sentence.due = due;
        emit Sentenced(run, account, amount, evidence, due);
    }

    /// Carries out a slash that has waited its window. Anyone may call it.
    function executeSlash(bytes32 run, address account) external nonReentrant {
        Sentence storage sentence = sentenceOf[run][account];
        if (sentence.amount == 0) revert NothingPending();
        if (block.timestamp < sentence.due) revert TooEarly(sentence.due);
        _executeSlash(run, account);
    }

    /// The key of a run with these terms.
    function keyOf(Terms calldata terms) public pure returns (bytes32) {
        return keccak256(abi.encode(TERMS_TYPEHASH, terms));
    }

    /// What members sign for `slash`.
    function slashDigest(bytes32 run, address account, uint128 amount, bytes32 evidence) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(SLASH_TYPEHASH, run, account, amount, evidence)));
    }

    function stakes(bytes32 run, address account) external view returns (Stake memory, Sentence memory) {
        return (stakeOf[run][account], sentenceOf[run][account]);
    }

    /// Terms under which money could be locked for good, or stake leave before it can be slashed, take no money.
    function _check(Terms calldata terms) internal pure {
        bool sound = terms.sponsor != address(0) && terms.window != 0 && terms.window <= MAX_SECONDS / MIN_WINDOWS
            && terms.cooldown >= terms.window * MIN_WINDOWS && terms.cooldown <= MAX_SECONDS
            && terms.halt >= terms.window * MIN_WINDOWS && terms.halt <= MAX_SECONDS;
        if (!sound) revert BadTerms();
    }

    function _activate(bytes32 run, address account) private {
        Stake storage stake = stakeOf[run][account];
        uint128 amount = stake.maturing;
        stake.maturing = 0;
        stake.counting += amount;
        _addCounting(run, amount);
        emit Activated(run, account, amount);
    }

    function _executeSlash(bytes32 run, address account) private {
        uint128 amount = sentenceOf[run][account].amount;
        delete sentenceOf[run][account];
        uint128 taken = _take(run, account, amount);
        if (taken != 0) _burn(run, taken);
    }

    /// Takes up to `most` of an account's stake, what counts first: the guilty lose their votes before anything else.
    function _take(bytes32 run, address account, uint128 most) internal returns (uint128 taken) {
        Stake storage stake = stakeOf[run][account];
        uint128 counting = _least(stake.counting, most);
        uint128 maturing = _least(stake.maturing, most - counting);
        uint128 leaving = _least(stake.leaving, most - counting - maturing);
        taken = counting + maturing + leaving;
        if (taken == 0) return 0;
        stake.counting -= counting;
        stake.maturing -= maturing;
        stake.leaving -= leaving;
        if (counting != 0) _subCounting(run, counting);
        emit Slashed(run, account, taken);
    }

    /// Splits what was slashed by a proof: a tenth to the prover, the rest burned.
    function _reward(bytes32 run, uint128 taken) internal {
        uint128 part = taken / REWARD_PART;
        emit Rewarded(run, msg.sender, part);
        if (part != 0) token.safeTransfer(msg.sender, part);
        _burn(run, taken - part);
    }

    function _burn(bytes32 run, uint128 amount) internal {
        emit Burned(run, amount);
        token.safeTransfer(BURNED, amount);
    }

    /// Counting stake of the signers of a digest, without `except`. Signers stand in strictly ascending order, so none
    /// counts twice; OpenZeppelin's ECDSA refuses the upper half of s and a recovered zero address. A signer without
    /// stake adds nothing: if it were refused, one member could void a collected set by leaving before it is posted.
    function _signedStake(bytes32 run, bytes32 digest, bytes calldata signatures, address except)
        internal
        view
        returns (uint256 signed)
    {
        mapping(address => Stake) storage staked = stakeOf[run];
        uint256 count = _count(signatures);
        address last = address(0);
        for (uint256 i = 0; i < count; ++i) {
            last = _signer(digest, signatures, i, last);
            if (last != except) signed += staked[last].counting;
        }
    }

    /// Number of signatures in the bytes.
    function _count(bytes calldata signatures) internal pure returns (uint256) {
        if (signatures.length % 65 != 0) revert BadSignatures();
        return signatures.length / 65;
    }

    /// The signer at a place, which must be above the one before.
    function _signer(bytes32 digest, bytes calldata signatures, uint256 i, address last)
        internal
        pure
        returns (address signer)
    {
        signer = ECDSA.recoverCalldata(digest, signatures[i * 65:i * 65 + 65]);
        if (signer <= last) revert SignersNotAscending(signer);
    }

    /// Takes exactly `amount` from the caller. Tokens that keep a fee are refused: they would leave the run short.
    function _pull(uint128 amount) internal {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 arrived = token.balanceOf(address(this)) - before;
        if (arrived != amount) revert Inexact(arrived);
    }

    function _least(uint128 a, uint128 b) internal pure returns (uint128) {
        return a < b ? a : b;
    }
}
