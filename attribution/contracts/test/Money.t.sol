// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Claim, ISettlement, Leaf, Root, RunView, Terms} from "../src/ISettlement.sol";
import {Base} from "./Base.sol";
import {FeeToken, ReentrantToken, WrappedOpen} from "./Tokens.sol";
import {Tree, Trees} from "./Trees.sol";
import {ITestOpen, create, vm} from "./Vm.sol";

/// Takes native coin, and asks for everything again while it does.
contract Greedy {
    ISettlement private settlement;
    bytes private again;
    bool public cameThrough;

    constructor(ISettlement settlement_) {
        settlement = settlement_;
    }

    function arm(bytes calldata again_) external {
        again = again_;
    }

    function claim(Claim[] calldata claims) external {
        settlement.claim(claims);
    }

    function reclaim(Terms calldata terms) external {
        settlement.reclaim(terms, true);
    }

    receive() external payable {
        (cameThrough,) = address(settlement).call(again);
    }
}

/// Deposits, fees, claims and what the sponsor takes back.
contract MoneyTest is Base {
    using Trees for Tree;

    function test_a_deposit_is_counted_and_told() public {
        Terms memory other = terms;
        other.run = keccak256("other");
        bytes32 run = settlement.keyOf(other);
        give(stranger, 3 * OPEN);
        vm.expectEmit();
        emit ISettlement.Opened(run, other);
        vm.expectEmit();
        emit ISettlement.Deposited(run, stranger, OPEN);
        vm.prank(stranger);
        settlement.deposit(other, OPEN);
        pass(7);
        vm.prank(stranger);
        settlement.deposit(other, 2 * OPEN);
        RunView memory now_ = settlement.runs(run);
        eq(now_.deposited, 3 * OPEN, "deposited");
        eq(now_.accepted.time, time - 7, "the first deposit starts the clock");
        eq(token.balanceOf(stranger), 0, "paid");
    }

    function test_other_terms_are_another_key() public view {
        for (uint256 field = 0; field < 8; ++field) {
            Terms memory other =
                Terms(terms.run, sponsor, address(0), terms.rate, terms.challengeBond, 0, DAY, 14 * DAY, 30 * DAY);
            eq(settlement.keyOf(other), key, "the same terms");
            if (field == 0) other.run = bytes32(0);
            if (field == 1) other.sponsor = stranger;
            if (field == 2) other.arbiter = stranger;
            if (field == 3) ++other.rate;
            if (field == 4) ++other.challengeBond;
            if (field == 5) ++other.window;
            if (field == 6) ++other.cooldown;
            if (field == 7) ++other.halt;
            yes(settlement.keyOf(other) != key, "a field is not in the key");
        }
    }

    function test_senseless_terms_take_no_money() public {
        give(stranger, OPEN);
        for (uint256 i = 0; i < 8; ++i) {
            Terms memory bad = Terms(terms.run, sponsor, address(0), 1, 1, 0, DAY, 3 * DAY, 3 * DAY);
            if (i == 0) bad.sponsor = address(0);
            if (i == 1) bad.window = 0;
            if (i == 2) bad.cooldown = 3 * DAY - 1;
            if (i == 3) bad.halt = 3 * DAY - 1;
            if (i == 4) bad.cooldown = 3650 days + 1;
            if (i == 5) bad.halt = type(uint64).max;
            if (i == 6) (bad.window, bad.cooldown, bad.halt) = (1300 days, 3650 days, 3650 days);
            if (i == 7) bad.window = type(uint64).max / 3 + 2;
            vm.prank(stranger);
            vm.expectRevert(ISettlement.BadTerms.selector);
            settlement.deposit(bad, OPEN);
            vm.prank(stranger);
            vm.expectRevert(ISettlement.BadTerms.selector);
            settlement.bond(bad, OPEN);
        }
        Terms memory good = Terms(terms.run, sponsor, address(0), 0, 0, 0, 1, 3, 3);
        vm.prank(stranger);
        settlement.deposit(good, OPEN);
    }

    function test_nothing_is_no_deposit() public {
        vm.expectRevert(ISettlement.NoAmount.selector);
        settlement.deposit(terms, 0);
    }

    function test_tokens_that_keep_a_fee_are_refused() public {
        FeeToken fee = new FeeToken();
        ISettlement other = ISettlement(create("Settlement", abi.encode(fee, false)));
        fee.mint(stranger, 100 * OPEN);
        vm.prank(stranger);
        fee.approve(address(other), type(uint256).max);
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.Inexact.selector, 99 * OPEN));
        other.deposit(terms, 100 * OPEN);
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.Inexact.selector, 99 * OPEN));
        other.bond(terms, 100 * OPEN);
    }

    function test_fees_are_swept_from_the_till_of_the_run_alone() public {
        address till = settlement.till(key);
        eq(till.code.length, 0, "nothing is there before the first sweep");
        vm.expectRevert(ISettlement.NothingToSweep.selector);
        settlement.sweep(key);
        token.mint(till, 5 * OPEN);
        settlement.sweep(key);
        eq(view_().fees, 5 * OPEN, "fees");
        eq(token.balanceOf(till), 0, "empty");
        yes(till.code.length > 0, "deployed");
        token.mint(till, OPEN);
        vm.expectEmit();
        emit ISettlement.Swept(key, OPEN);
        settlement.sweep(key);
        eq(view_().fees, 6 * OPEN, "and again");
        yes(settlement.till(bytes32(uint256(key) ^ 1)) != till, "another run, another till");
        (bool done,) = till.call(abi.encodeWithSignature("empty(address)", token));
        yes(!done, "only Settlement empties a till");
    }

    function test_claims_pay_what_is_new_since_the_last() public {
        pass(DAY);
        Tree memory first = pairTree(OPEN, 2 * OPEN);
        accept(1, first);
        vm.expectEmit();
        emit ISettlement.Claimed(key, ALICE, 2 * OPEN, 2 * OPEN);
        vm.prank(stranger);
        claimOne(key, first, ALICE);
        eq(token.balanceOf(ALICE), 2 * OPEN, "by a stranger, to Alice");
        claimOne(key, first, ALICE);
        eq(token.balanceOf(ALICE), 2 * OPEN, "once");
        Tree memory second = pairTree(OPEN, 5 * OPEN);
        accept(2, second);
        claimOne(key, second, ALICE);
        claimOne(key, second, BOB);
        eq(token.balanceOf(ALICE), 5 * OPEN, "the rest");
        eq(token.balanceOf(BOB), OPEN, "Bob");
        eq(view_().paid, 6 * OPEN, "paid");
        eq(settlement.claimed(key, ALICE), 5 * OPEN, "claimed");
    }

    function test_a_pending_root_pays_nothing_and_an_old_one_nothing_more() public {
        pass(DAY);
        Tree memory first = pairTree(OPEN, 2 * OPEN);
        post(1, first);
        Claim[] memory claims = new Claim[](1);
        claims[0] = claimOf(key, first.leaf(2));
        vm.expectRevert(ISettlement.BadProof.selector);
        settlement.claim(claims);
        pass(DAY);
        accept(2, pairTree(OPEN, 3 * OPEN));
        vm.expectRevert(ISettlement.BadProof.selector);
        settlement.claim(claims);
    }

    function test_a_changed_claim_is_refused() public {
        pass(DAY);
        Tree memory tree = pairTree(OPEN, 2 * OPEN);
        accept(1, tree);
        for (uint256 i = 0; i < 4; ++i) {
            Claim[] memory claims = new Claim[](1);
            claims[0] = claimOf(key, tree.leaf(2));
            if (i == 0) claims[0].account = stranger;
            if (i == 1) claims[0].balance += 1;
            if (i == 2) claims[0].index = 1;
            if (i == 3) claims[0].run = bytes32(uint256(key) ^ 1);
            vm.expectRevert(ISettlement.BadProof.selector);
            settlement.claim(claims);
        }
    }

    function test_one_call_claims_out_of_several_runs() public {
        Terms memory other = terms;
        other.run = keccak256("other");
        bytes32 second = settlement.keyOf(other);
        for (uint256 i = 0; i < 7; ++i) {
            bondAs(other, vm.addr(members[i]), OPEN);
        }
        depositAs(other, sponsor, 10 * OPEN);
        pass(DAY);
        for (uint256 i = 0; i < 7; ++i) {
            settlement.activate(second, vm.addr(members[i]));
        }
        Tree memory tree = pairTree(OPEN, 2 * OPEN);
        Root memory root = rootOf(second, 1, tree);
        settlement.post(other, root, signed(settlement.rootDigest(root), 7));
        accept(1, tree);
        Claim[] memory claims = new Claim[](4);
        claims[0] = claimOf(key, tree.leaf(1));
        claims[1] = claimOf(second, tree.leaf(1));
        claims[2] = claimOf(second, tree.leaf(2));
        claims[3] = claims[0];
        settlement.claim(claims);
        eq(token.balanceOf(BOB), 2 * OPEN, "out of both");
        eq(token.balanceOf(ALICE), 2 * OPEN, "out of one");
        eq(settlement.runs(second).paid, 3 * OPEN, "each run pays its own");
        eq(view_().paid, OPEN, "each run pays its own");
    }

    /// A dishonest stake moved Bob's balance to Alice after he was paid, and nobody proved it in time.
    function test_a_run_never_pays_more_than_its_accepted_total() public {
        pass(DAY);
        Tree memory first = pairTree(5 * OPEN, OPEN);
        accept(1, first);
        claimOne(key, first, BOB);
        Tree memory second = pairTree(0, 7 * OPEN);
        accept(2, second);
        claimOne(key, second, ALICE);
        eq(token.balanceOf(ALICE), 2 * OPEN, "what Bob left of 7");
        eq(settlement.claimed(key, ALICE), 2 * OPEN, "the rest stays open");
        eq(view_().paid, view_().accepted.total, "all paid");
        Tree memory third = pairTree(5 * OPEN, 7 * OPEN);
        accept(3, third);
        claimOne(key, third, ALICE);
        eq(token.balanceOf(ALICE), 7 * OPEN, "and comes when it is promised");
    }

    function test_the_sponsor_takes_back_what_no_root_promised() public {
        pass(DAY);
        token.mint(settlement.till(key), 20 * OPEN);
        settlement.sweep(key);
        vm.expectRevert(ISettlement.RunNotEnded.selector);
        settlement.reclaim(terms, false);
        Tree memory tree = pairTree(3 * OPEN, 4 * OPEN);
        Root memory root = rootOf(key, 1, tree);
        (root.fees, root.closed) = (7 * OPEN, true);
        postAs(root, 7);
        vm.expectRevert(ISettlement.RunNotEnded.selector);
        settlement.reclaim(terms, false);
        pass(DAY);
        vm.expectEmit();
        emit ISettlement.Reclaimed(key, sponsor, 1000 * OPEN);
        vm.prank(stranger);
        settlement.reclaim(terms, false);
        eq(token.balanceOf(sponsor), 1000 * OPEN, "the deposit: fees cover what was promised");
        vm.expectRevert(ISettlement.NothingToReclaim.selector);
        settlement.reclaim(terms, false);
        claimOne(key, tree, ALICE);
        claimOne(key, tree, BOB);
        eq(token.balanceOf(ALICE) + token.balanceOf(BOB), 7 * OPEN, "claims go on for ever");
        // Fees that come late are never the sponsor's: a later root promises them.
        token.mint(settlement.till(key), 2 * OPEN);
        settlement.sweep(key);
        vm.expectRevert(ISettlement.NothingToReclaim.selector);
        settlement.reclaim(terms, false);
        eq(token.balanceOf(address(settlement)), 715 * OPEN, "stake and fees are left");
    }

    function wrappedRun() private returns (ISettlement native, WrappedOpen open, Terms memory its, Tree memory tree) {
        open = new WrappedOpen();
        native = ISettlement(create("Settlement", abi.encode(open, true)));
        its = terms;
        vm.deal(address(this), 200 * OPEN);
        open.deposit{value: 200 * OPEN}();
        open.approve(address(native), type(uint256).max);
        address member = vm.addr(members[0]);
        open.transfer(member, 10 * OPEN);
        vm.prank(member);
        open.approve(address(native), type(uint256).max);
        vm.prank(member);
        native.bond(its, 10 * OPEN);
        native.deposit(its, 100 * OPEN);
        pass(DAY);
        native.activate(key, member);
        tree = pairTree(3 * OPEN, 4 * OPEN);
        Root memory root = rootOf(key, 1, tree);
        root.closed = true;
        native.post(its, root, sign(members[0], native.rootDigest(root)));
        pass(DAY);
    }

    function test_an_account_may_unwrap_what_it_claims_for_itself() public {
        (ISettlement native, WrappedOpen open, Terms memory its, Tree memory tree) = wrappedRun();
        Claim[] memory claims = new Claim[](1);
        claims[0] = claimOf(key, tree.leaf(2));
        claims[0].unwrap = true;
        vm.expectRevert(ISettlement.NotYours.selector);
        native.claim(claims);
        vm.prank(ALICE);
        native.claim(claims);
        eq(ALICE.balance, 4 * OPEN, "native");
        claims[0] = claimOf(key, tree.leaf(1));
        native.claim(claims);
        eq(open.balanceOf(BOB), 3 * OPEN, "wrapped");
        vm.expectRevert(ISettlement.NotYours.selector);
        native.reclaim(its, true);
        vm.prank(sponsor);
        native.reclaim(its, true);
        eq(sponsor.balance, 93 * OPEN, "sponsor");
        eq(open.balanceOf(address(native)), 10 * OPEN, "stake is left");
    }

    function test_native_coin_comes_from_the_wrapper_alone() public {
        (ISettlement native,,,) = wrappedRun();
        vm.deal(address(this), 2 * OPEN);
        (bool done,) = address(native).call{value: OPEN}("");
        yes(!done, "taken by the wrapped one");
        (done,) = address(settlement).call{value: OPEN}("");
        yes(!done, "taken by the other");
    }

    function test_a_token_that_wraps_nothing_is_not_unwrapped() public {
        pass(DAY);
        Tree memory tree = pairTree(OPEN, OPEN);
        accept(1, tree);
        Claim[] memory claims = new Claim[](1);
        claims[0] = claimOf(key, tree.leaf(2));
        claims[0].unwrap = true;
        vm.prank(ALICE);
        vm.expectRevert(ISettlement.NotWrapped.selector);
        settlement.claim(claims);
    }

    function test_unwrapping_lets_nobody_in_twice() public {
        (ISettlement native, WrappedOpen open, Terms memory its,) = wrappedRun();
        Greedy greedy = new Greedy(native);
        its.run = keccak256("greedy");
        bytes32 run = native.keyOf(its);
        open.transfer(vm.addr(members[1]), 10 * OPEN);
        address member = vm.addr(members[1]);
        vm.prank(member);
        open.approve(address(native), type(uint256).max);
        vm.prank(member);
        native.bond(its, 10 * OPEN);
        native.deposit(its, 50 * OPEN);
        pass(DAY);
        native.activate(run, member);
        address[] memory accounts = new address[](1);
        uint128[] memory balances = new uint128[](1);
        (accounts[0], balances[0]) = (address(greedy), 5 * OPEN);
        Tree memory tree = Trees.build(accounts, balances);
        Root memory root = rootOf(run, 1, tree);
        native.post(its, root, sign(members[1], native.rootDigest(root)));
        pass(DAY);
        Claim[] memory claims = new Claim[](1);
        claims[0] = claimOf(run, tree.leaf(1));
        claims[0].unwrap = true;
        greedy.arm(abi.encodeCall(ISettlement.claim, (claims)));
        greedy.claim(claims);
        yes(!greedy.cameThrough(), "it came through");
        eq(address(greedy).balance, 5 * OPEN, "once");
    }

    function test_a_sponsor_that_calls_back_takes_the_deposit_once() public {
        (ISettlement native, WrappedOpen open, Terms memory its,) = wrappedRun();
        Greedy greedy = new Greedy(native);
        (its.run, its.sponsor) = (keccak256("greedy"), address(greedy));
        bytes32 run = native.keyOf(its);
        open.transfer(vm.addr(members[1]), 10 * OPEN);
        address member = vm.addr(members[1]);
        vm.prank(member);
        open.approve(address(native), type(uint256).max);
        vm.prank(member);
        native.bond(its, 10 * OPEN);
        native.deposit(its, 20 * OPEN);
        pass(DAY);
        native.activate(run, member);
        Root memory root = rootOf(run, 1, pairTree(OPEN, 4 * OPEN));
        root.closed = true;
        native.post(its, root, sign(members[1], native.rootDigest(root)));
        pass(DAY);
        open.transfer(native.till(run), 3 * OPEN);
        native.sweep(run);
        greedy.arm(abi.encodeCall(ISettlement.reclaim, (its, true)));
        greedy.reclaim(its);
        yes(!greedy.cameThrough(), "it came through");
        eq(address(greedy).balance, 15 * OPEN, "once, and no fee");
        vm.expectRevert(ISettlement.NothingToReclaim.selector);
        greedy.reclaim(its);
    }

    function test_a_token_that_calls_back_comes_nowhere() public {
        ReentrantToken bad = new ReentrantToken();
        ISettlement other = ISettlement(create("Settlement", abi.encode(bad, false)));
        bad.mint(address(this), 1000 * OPEN);
        bad.approve(address(other), type(uint256).max);
        bytes[] memory calls = new bytes[](5);
        calls[0] = abi.encodeCall(ISettlement.deposit, (terms, 1));
        calls[1] = abi.encodeCall(ISettlement.sweep, (key));
        calls[2] = abi.encodeCall(ISettlement.bond, (terms, 1));
        calls[3] = abi.encodeCall(ISettlement.claim, (new Claim[](0)));
        calls[4] = abi.encodeCall(ISettlement.collect, (address(this)));
        bad.arm(address(other), calls);
        other.deposit(terms, 10 * OPEN);
        other.bond(terms, 10 * OPEN);
        bad.mint(other.till(key), OPEN);
        other.sweep(key);
        eq(other.runs(key).deposited, 10 * OPEN, "deposited");
        eq(other.runs(key).fees, OPEN, "fees");
        yes(bad.tried() >= 15, "it tried");
        eq(bad.came(), 0, "came through");
    }
}
