// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Claim, Leaf, Root, RootView, RunView, Terms} from "./ISettlement.sol";
import {MerkleSum} from "./MerkleSum.sol";
import {Stakes} from "./Stakes.sol";
import {Till} from "./Till.sol";

/// What a wrapper of the native coin offers beside ERC-20, as WETH9 does.
interface IWrapped {
    function withdraw(uint256 amount) external;
}

/// Holds the money of runs, and pays what a run's members signed.
///
/// Members sign one `Root` at every height. Anyone posts any greater height that more than two thirds of the run's stake
/// signed. After a window in which it can be challenged or refuted it is accepted, and everybody named in it can be paid,
/// by a call of anybody. Without owner, proxy and pause; the README's table says who can take what, and when.
///
/// Acceptance costs no transaction: every call first writes down what time has decided (`_advance`).
contract Settlement is Stakes {
    using SafeERC20 for IERC20;

    bytes32 internal constant ROOT_TYPEHASH = keccak256(
        "Root(bytes32 run,uint64 height,bytes32 balances,uint128 total,uint128 fees,bytes32 lines,bool closed)"
    );
    bytes32 internal constant CONFIRM_TYPEHASH = keccak256("Confirm(bytes32 run,uint64 height,bytes32 root)");

    // What is true of a run's head.
    uint8 private constant SIDE = 1; // which of the two stored roots is the accepted one
    uint8 private constant PENDING = 2;
    uint8 private constant CHALLENGED = 4;
    uint8 private constant CONFIRMED = 8;
    uint8 private constant PENDING_CLOSES = 16;
    uint8 private constant CLOSED = 32; // for good: no root promises anything of the deposit any more
    uint8 private constant OF_PENDING = PENDING | CHALLENGED | CONFIRMED | PENDING_CLOSES;

    /// One word, because every claim reads it.
    struct Head {
        uint64 height; // accepted
        uint64 pendingHeight;
        uint40 time; // when the accepted root was posted; before any, of the first deposit
        uint40 pendingTime; // when the pending root was posted
        uint40 due; // when it is accepted, or void if challenged
        uint8 flags;
    }

    struct Stored {
        bytes32 balances;
        uint128 total;
        uint128 fromFees; // the part of `total` that fees cover
    }

    struct Run {
        Head head;
        Stored[2] roots;
        bytes32 digest; // of the pending root
        uint128 deposited;
        uint128 fees;
        uint128 paid;
        uint128 reclaimed;
        uint128 stake; // counting
        uint40 since; // when the place of the pending root was last taken while free
        uint40 haltedAt;
        address challenger;
        uint128 challengeBond; // of the open challenge
    }

    /// Whether the token wraps the native coin.
    bool public immutable wrapped;

    mapping(bytes32 run => Run) private runOf;
    /// What each account was paid out of each run, ever.
    mapping(bytes32 run => mapping(address account => uint128)) public claimed;
    /// Digests of roots that were posted with a quorum and then replaced or void: they stay evidence.
    mapping(bytes32 digest => bool) public dropped;
    /// Bonds of challenges that the stake did not answer.
    mapping(address account => uint256) public credits;

    constructor(IERC20 token_, bool wrapped_) Stakes(token_) {
        wrapped = wrapped_;
    }

    /// Native coin comes from unwrapping alone.
    receive() external payable {
        if (msg.sender != address(token) || !wrapped) revert NativeRefused();
    }

    // Money in.

    /// Pays into a run; the first deposit starts the clock of its rate. Anyone may.
    function deposit(Terms calldata terms, uint128 amount) external nonReentrant {
        _check(terms);
        if (amount == 0) revert NoAmount();
        bytes32 key = keyOf(terms);
        Head memory head = _advance(key);
        Run storage run = runOf[key];
        // A deposit that no root can promise any more would be the sponsor's at once.
        if (head.flags & CLOSED != 0 || run.haltedAt != 0) revert RunEnded();
        if (head.time == 0) {
            run.head.time = uint40(block.timestamp);
            emit Opened(key, terms);
        }
        run.deposited += amount;
        emit Deposited(key, msg.sender, amount);
        _pull(amount);
    }

    /// Moves what lies in the run's till into its fees. Anyone may.
    function sweep(bytes32 key) external nonReentrant returns (uint128 amount) {
        address place = till(key);
        if (place.code.length == 0) new Till{salt: key}();
        uint256 before = token.balanceOf(address(this));
        Till(place).empty(token);
        uint256 arrived = token.balanceOf(address(this)) - before;
        if (arrived == 0) revert NothingToSweep();
        if (arrived > type(uint128).max) revert Inexact(arrived);
        amount = uint128(arrived);
        runOf[key].fees += amount;
        emit Swept(key, amount);
    }

    // Roots.

    /// Posts a root of a greater height. `signatures`: 65 bytes each (r, s, v), signers ascending.
    ///
    /// A pending root can be replaced by a greater height while its place has been taken for less than a window. Without
    /// that, whoever holds old signed roots could post one after the other and keep the newest out; with it and without
    /// the limit, a post an hour would keep every root from being accepted.
    ///
    /// A run whose closing root is accepted goes on with fees alone: what answers pay after training is its members'.
    /// Whether it was halted before it closed matters no more.
    function post(Terms calldata terms, Root calldata root, bytes calldata signatures) external nonReentrant {
        bytes32 key = keyOf(terms);
        if (root.run != key) revert WrongRun();
        Head memory head = _advance(key);
        Run storage run = runOf[key];
        bool closed = head.flags & CLOSED != 0;
        uint40 haltedAt = closed ? 0 : run.haltedAt;
        if (haltedAt != 0 && block.timestamp >= haltedAt + terms.window) revert RunEnded();
        if (head.flags & PENDING != 0) {
            if (head.flags & CHALLENGED != 0) revert PendingIsChallenged();
            if (root.height <= head.pendingHeight) revert HeightTooLow(head.pendingHeight);
            // In a halted run the last window is the limit: otherwise an old root, posted just before, would fill it.
            if (haltedAt == 0 && block.timestamp >= run.since + terms.window) revert PendingIsFixed();
            _drop(key, run, head);
        } else {
            if (root.height <= head.height) revert HeightTooLow(head.height);
            run.since = uint40(block.timestamp);
        }
        uint8 side = head.flags & SIDE;
        _requirePromise(run, run.roots[side], head, terms.rate, root);
        bytes32 digest = rootDigest(root);
        _requireQuorum(key, run, terms.minStake, digest, signatures);
        Stored storage stored = run.roots[1 - side];
        stored.balances = root.balances;
        (stored.total, stored.fromFees) = (root.total, root.fees);
        run.digest = digest;
        head.pendingHeight = root.height;
        head.pendingTime = uint40(block.timestamp);
        head.due = uint40(block.timestamp + terms.window);
        head.flags = (head.flags & (SIDE | CLOSED)) | PENDING | (root.closed ? PENDING_CLOSES : 0);
        run.head = head;
        emit Posted(key, root.height, root.balances, root.total, root.fees, root.lines, root.closed, digest);
    }

    /// Whether the run can promise what a root does.
    ///
    /// The root says itself which part of its total fees cover. That part rises by fees that no root has promised yet,
    /// whenever they arrived. The rest is the deposit's and bounded by the rate: a dishonest quorum takes no more of it than
    /// that, and nothing once the run is closed. So a sweep changes nothing of what a signed root promises, and takes from
    /// nobody, whenever it comes.
    function _requirePromise(Run storage run, Stored storage accepted, Head memory head, uint128 rate, Root calldata root)
        private
        view
    {
        (uint128 total, uint128 fees) = (root.total, root.fees);
        (uint128 before, uint128 covered) = (accepted.total, accepted.fromFees);
        if (fees < covered) revert FeesFell(covered);
        if (fees > total) revert FeesAboveTotal(total);
        (uint128 deposited, uint128 swept) = (run.deposited, run.fees);
        if (fees > swept) revert FeesAboveMoney(swept);
        // From here on: of the deposit.
        (total, before) = (total - fees, before - covered);
        if (total < before) revert TotalFell(before);
        // What was reclaimed needs no part in this: no root raises it in a closed run, and none is taken by any other run
        // whose sponsor could reclaim.
        if (total > deposited) revert TotalAboveMoney(deposited);
        uint256 released = 0;
        if (head.flags & CLOSED == 0 && head.time != 0) released = uint256(rate) * (block.timestamp - head.time);
        if (total - before > released) revert TotalRoseTooFast(released);
    }

    // Challenges.

    /// Freezes the pending root for up to a window, for the terms' bond. The run's stake confirms the root and burns the
    /// bond, or the root is void and the bond comes back. A challenge of every root costs a bond each and holds each for
    /// no longer than the stake takes to answer.
    function challenge(Terms calldata terms) external nonReentrant {
        bytes32 key = keyOf(terms);
        Head memory head = _advance(key);
        Run storage run = runOf[key];
        if (head.flags & PENDING == 0) revert NothingPending();
        if (head.flags & CHALLENGED != 0) revert PendingIsChallenged();
        if (head.flags & CONFIRMED != 0) revert AlreadyConfirmed();
        // Otherwise a sponsor whose run's stake is gone would void the last root by challenging it. In a closed run it
        // gains nothing by that.
        if (head.flags & CLOSED == 0 && run.haltedAt != 0 && terms.arbiter == address(0)) revert NobodyToAnswer();
        head.flags |= CHALLENGED;
        head.due = uint40(block.timestamp + terms.window);
        run.head = head;
        (run.challenger, run.challengeBond) = (msg.sender, terms.challengeBond);
        emit Challenged(key, head.pendingHeight, msg.sender, terms.challengeBond);
        if (terms.challengeBond != 0) _pull(terms.challengeBond);
    }

    /// Answers a challenge by the stake's signatures of `Confirm` over the pending root's digest.
    function confirm(Terms calldata terms, Root calldata root, bytes calldata signatures) external nonReentrant {
        if (terms.arbiter != address(0)) revert ArbiterDecides();
        bytes32 key = keyOf(terms);
        Head memory head = _advance(key);
        Run storage run = runOf[key];
        if (head.flags & CHALLENGED == 0) revert NotChallenged();
        bytes32 digest = rootDigest(root);
        if (digest != run.digest) revert WrongRun();
        _requireQuorum(key, run, terms.minStake, confirmDigest(key, root.height, digest), signatures);
        _uphold(key, run, head, terms.window);
    }

    /// Answers a challenge by the arbiter that the terms name.
    function decide(Terms calldata terms, bool uphold) external nonReentrant {
        if (terms.arbiter == address(0) || msg.sender != terms.arbiter) revert NotArbiter();
        bytes32 key = keyOf(terms);
        Head memory head = _advance(key);
        Run storage run = runOf[key];
        if (head.flags & CHALLENGED == 0) revert NotChallenged();
        if (uphold) _uphold(key, run, head, terms.window);
        else _void(key, run, head);
    }

    /// The root stands, and waits for the rest of its own window: a challenge must not shorten the time for a proof.
    function _uphold(bytes32 key, Run storage run, Head memory head, uint64 window) private {
        uint256 due = head.pendingTime + window;
        head.due = uint40(due > block.timestamp ? due : block.timestamp);
        head.flags = (head.flags & ~CHALLENGED) | CONFIRMED;
        run.head = head;
        uint128 amount = run.challengeBond;
        (run.challenger, run.challengeBond) = (address(0), 0);
        emit Confirmed(key, head.pendingHeight);
        if (amount != 0) _burn(key, amount);
    }

    // Money out.

    /// Pays what accepted roots promise, for anyone, out of several runs at once. All is written down before anything is
    /// paid. A claim that somebody else sent first is skipped, so that it does not undo the rest of a batch.
    function claim(Claim[] calldata claims) external nonReentrant {
        uint128[] memory amounts = new uint128[](claims.length);
        for (uint256 i = 0; i < claims.length; ++i) {
            amounts[i] = _claim(claims[i]);
        }
        for (uint256 i = 0; i < claims.length; ++i) {
            if (amounts[i] != 0) _pay(claims[i].account, amounts[i], claims[i].unwrap);
        }
    }

    function _claim(Claim calldata one) private returns (uint128 amount) {
        // Native coin for an account that only handles the token could be lost, so nobody asks for it for another.
        if (one.unwrap && one.account != msg.sender) revert NotYours();
        Head memory head = _advance(one.run);
        Run storage run = runOf[one.run];
        Stored storage root = run.roots[head.flags & SIDE];
        uint128 total = root.total;
        if (!MerkleSum.holds(one.account, one.balance, one.index, one.proof, root.balances, total)) revert BadProof();
        uint128 before = claimed[one.run][one.account];
        if (one.balance <= before) return 0;
        // The cap: a tree that was signed although its sums lie still reaches no other run's money.
        uint128 paid = run.paid;
        amount = _least(one.balance - before, total - paid);
        if (amount == 0) return 0;
        run.paid = paid + amount;
        claimed[one.run][one.account] = before + amount;
        emit Claimed(one.run, one.account, amount, before + amount);
    }

    /// Starts the end of a run that has accepted no root for the terms' time. For one more window signed roots can be
    /// posted; no challenge holds them unless there is an arbiter. The sponsor's alone: only the sponsor gains by it.
    function halt(Terms calldata terms) external nonReentrant {
        if (msg.sender != terms.sponsor) revert NotSponsor();
        bytes32 key = keyOf(terms);
        Head memory head = _advance(key);
        Run storage run = runOf[key];
        if (head.flags & CLOSED != 0 || run.haltedAt != 0) revert RunEnded();
        uint256 from = uint256(head.time) + terms.halt;
        if (head.time == 0 || block.timestamp < from) revert TooEarly(from);
        // The same sponsor could otherwise challenge just before and halt with the root frozen.
        if (head.flags & CHALLENGED != 0 && terms.arbiter == address(0)) {
            head.flags &= ~CHALLENGED;
            head.due = uint40(block.timestamp + terms.window);
            run.head = head;
            _credit(key, run);
        }
        run.haltedAt = uint40(block.timestamp);
        emit Halted(key, uint40(block.timestamp + terms.window));
    }

    /// Gives the sponsor of an ended run what no root promised: of a closed run the rest of the deposit and never a fee,
    /// of one that was halted and never closed the fees too. Anyone may call it.
    function reclaim(Terms calldata terms, bool unwrap) external nonReentrant {
        if (unwrap && msg.sender != terms.sponsor) revert NotYours();
        bytes32 key = keyOf(terms);
        Head memory head = _advance(key);
        Run storage run = runOf[key];
        Stored storage root = run.roots[head.flags & SIDE];
        uint128 most = run.deposited;
        if (head.flags & CLOSED != 0) {
            // No later root changes this difference, so it does not matter what is pending.
            most -= root.total - root.fromFees;
        } else {
            bool over = run.haltedAt != 0 && block.timestamp >= run.haltedAt + terms.window;
            if (!over || head.flags & PENDING != 0) revert RunNotEnded();
            most = most + run.fees - root.total;
        }
        uint128 amount = most - run.reclaimed;
        if (amount == 0) revert NothingToReclaim();
        run.reclaimed += amount;
        emit Reclaimed(key, terms.sponsor, amount);
        _pay(terms.sponsor, amount, unwrap);
    }

    /// Pays an account what came back to it. Anyone may call it. Bonds are credited and fetched, so that a challenger
    /// that cannot be paid stops nobody.
    function collect(address account) external nonReentrant {
        uint256 amount = credits[account];
        if (amount == 0) revert NoAmount();
        credits[account] = 0;
        emit Collected(account, amount);
        token.safeTransfer(account, amount);
    }

    function _pay(address to, uint128 amount, bool unwrap) private {
        if (!unwrap) {
            token.safeTransfer(to, amount);
            return;
        }
        if (!wrapped) revert NotWrapped();
        IWrapped(address(token)).withdraw(amount);
        (bool done,) = to.call{value: amount}("");
        if (!done) revert NativeRefused();
    }

    // Slashing from bytes.

    /// Slashes who signed two roots of one height of one run, posted or not. Whoever comes back with that key after this
    /// can be slashed by the same bytes again.
    function slashFork(Root calldata one, bytes calldata signedOne, Root calldata other, bytes calldata signedOther)
        external
        nonReentrant
    {
        (bytes32 a, bytes32 b) = (rootDigest(one), rootDigest(other));
        if (one.run != other.run || one.height != other.height || a == b) revert NotAFork();
        address signer = ECDSA.recoverCalldata(a, signedOne);
        if (signer != ECDSA.recoverCalldata(b, signedOther)) revert NotAFork();
        uint128 taken = _take(one.run, signer, type(uint128).max);
        if (taken == 0) revert NoStake();
        _reward(one.run, taken);
    }

    /// Voids a posted root that promises an account less than the accepted one does, and slashes those of its signers
    /// whose signatures are shown. It may take several calls, so the number of signers is no hiding place.
    ///
    /// `accepted`: the account in the accepted root. `shown`: in the other root, the account's lower leaf; or two
    /// neighbours between which it is missing; or the first or last leaf, if the account would stand outside of it. Any
    /// tree that lacks the account shows one of these, however its leaves are ordered.
    function slashLowered(
        Root calldata root,
        bytes calldata signatures,
        Leaf calldata accepted,
        Leaf[] calldata shown
    ) external nonReentrant {
        bytes32 key = root.run;
        Head memory head = _advance(key);
        Run storage run = runOf[key];
        bytes32 digest = rootDigest(root);
        bool pending = head.flags & PENDING != 0 && run.digest == digest;
        // Below an accepted height lower leaves are no fault.
        if (root.height <= head.height || (!pending && !dropped[digest])) revert NotEvidence();
        Stored storage stored = run.roots[head.flags & SIDE];
        _requireLeaf(accepted, stored.balances, stored.total);
        for (uint256 i = 0; i < shown.length; ++i) {
            _requireLeaf(shown[i], root.balances, root.total);
        }
        if (!_isLowered(accepted, shown)) revert NotLowered();
        if (pending) _void(key, run, head);
        uint128 taken = 0;
        address last = address(0);
        uint256 count = _count(signatures);
        for (uint256 i = 0; i < count; ++i) {
            last = _signer(digest, signatures, i, last);
            taken += _take(key, last, type(uint128).max);
        }
        if (taken != 0) _reward(key, taken);
        else if (!pending) revert NoStake();
    }

    function _requireLeaf(Leaf calldata leaf, bytes32 balances, uint128 total) private pure {
        if (!MerkleSum.holds(leaf.account, leaf.balance, leaf.index, leaf.proof, balances, total)) revert BadProof();
    }

    function _isLowered(Leaf calldata accepted, Leaf[] calldata shown) private pure returns (bool) {
        address account = accepted.account;
        // An account that was promised nothing may be left out.
        if (accepted.balance == 0 || shown.length == 0 || shown.length > 2) return false;
        Leaf calldata first = shown[0];
        (uint256 from, uint256 to) = MerkleSum.span(first.index, first.proof.length);
        if (shown.length == 1) {
            if (first.account == account) return first.balance < accepted.balance;
            bool before = from == 0 && account < first.account;
            bool behind = to == 1 << MerkleSum.MAX_LEVELS && account > first.account;
            return before || behind;
        }
        Leaf calldata second = shown[1];
        (uint256 next,) = MerkleSum.span(second.index, second.proof.length);
        return to == next && first.account < account && account < second.account;
    }

    // Time.

    /// Writes down what time has decided about the pending root.
    function _advance(bytes32 key) private returns (Head memory head) {
        Run storage run = runOf[key];
        head = run.head;
        if (head.flags & PENDING == 0 || block.timestamp < head.due) return head;
        if (head.flags & CHALLENGED != 0) {
            _void(key, run, head);
            return head;
        }
        _accept(head);
        run.head = head;
        Stored storage root = run.roots[head.flags & SIDE];
        emit Accepted(key, head.height, root.balances, root.total);
    }

    /// The pending root becomes the accepted one: the two stored roots change places.
    function _accept(Head memory head) private pure {
        uint8 closed = head.flags & PENDING_CLOSES != 0 ? CLOSED : 0;
        head.flags = ((head.flags ^ SIDE) & ~OF_PENDING) | closed;
        (head.height, head.time) = (head.pendingHeight, head.pendingTime);
        (head.pendingHeight, head.pendingTime, head.due) = (0, 0, 0);
    }

    /// The pending root is nothing any more; a challenger gets the bond back.
    function _void(bytes32 key, Run storage run, Head memory head) private {
        _drop(key, run, head);
        if (head.flags & CHALLENGED != 0) _credit(key, run);
        head.flags &= ~OF_PENDING;
        (head.pendingHeight, head.pendingTime, head.due) = (0, 0, 0);
        run.head = head;
    }

    function _drop(bytes32 key, Run storage run, Head memory head) private {
        bytes32 digest = run.digest;
        dropped[digest] = true;
        emit Dropped(key, head.pendingHeight, digest);
    }

    function _credit(bytes32 key, Run storage run) private {
        (address challenger, uint128 amount) = (run.challenger, run.challengeBond);
        (run.challenger, run.challengeBond) = (address(0), 0);
        if (amount == 0) return;
        credits[challenger] += amount;
        emit Credited(key, challenger, amount);
    }

    // Stake.

    function _requireQuorum(bytes32 key, Run storage run, uint128 least, bytes32 digest, bytes calldata signatures)
        private
        view
    {
        uint256 all = run.stake;
        // Where honest stake has left, or none has come yet, a little of it must not promise itself what the rate releases.
        if (all < least) revert StakeTooLow(all, least);
        uint256 signed = _signedStake(key, digest, signatures, address(0));
        if (3 * signed <= 2 * all) revert NoQuorum(signed, all);
    }

    function _addCounting(bytes32 key, uint128 amount) internal override {
        runOf[key].stake += amount;
    }

    function _subCounting(bytes32 key, uint128 amount) internal override {
        runOf[key].stake -= amount;
    }

    function _counting(bytes32 key) internal view override returns (uint128) {
        return runOf[key].stake;
    }

    // What readers see.

    /// The EIP-712 digest that members sign.
    function rootDigest(Root calldata root) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(ROOT_TYPEHASH, root)));
    }

    /// What members sign to answer a challenge; `digest` is the root's.
    function confirmDigest(bytes32 key, uint64 height, bytes32 digest) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(CONFIRM_TYPEHASH, key, height, digest)));
    }

    /// Where the run's fees arrive, whether or not anything is deployed there.
    function till(bytes32 key) public view returns (address) {
        return Create2.computeAddress(key, keccak256(type(Till).creationCode));
    }

    /// The run now: with what time has decided, even if no transaction has written it down.
    function runs(bytes32 key) external view returns (RunView memory view_) {
        Run storage run = runOf[key];
        Head memory head = run.head;
        if (head.flags & PENDING != 0 && block.timestamp >= head.due) {
            if (head.flags & CHALLENGED == 0) _accept(head);
            else head.flags &= ~OF_PENDING;
        }
        (view_.deposited, view_.fees, view_.paid, view_.reclaimed) =
            (run.deposited, run.fees, run.paid, run.reclaimed);
        (view_.stake, view_.haltedAt) = (run.stake, run.haltedAt);
        uint8 side = head.flags & SIDE;
        Stored storage root = run.roots[side];
        view_.accepted =
            RootView(head.height, root.balances, root.total, root.fromFees, head.time, head.flags & CLOSED != 0);
        if (head.flags & PENDING == 0) return view_;
        root = run.roots[1 - side];
        view_.pending = RootView(
            head.pendingHeight,
            root.balances,
            root.total,
            root.fromFees,
            head.pendingTime,
            head.flags & PENDING_CLOSES != 0
        );
        (view_.digest, view_.due) = (run.digest, head.due);
        (view_.challenged, view_.confirmed) = (head.flags & CHALLENGED != 0, head.flags & CONFIRMED != 0);
        if (view_.challenged) view_.challenger = run.challenger;
    }
}
