// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISettlement, Root, RunView, Terms} from "../src/ISettlement.sol";
import {Base} from "./Base.sol";
import {Tree, Trees} from "./Trees.sol";
import {vm} from "./Vm.sol";

/// Challenges, their answers, and a run whose stake is gone.
contract ChallengeTest is Base {
    using Trees for Tree;

    address private constant BURNED = 0x000000000000000000000000000000000000dEaD;

    function challenge() private {
        give(stranger, 5 * OPEN);
        vm.prank(stranger);
        settlement.challenge(terms);
    }

    function confirm(Root memory root, uint256 count) private {
        bytes32 digest = settlement.confirmDigest(key, root.height, settlement.rootDigest(root));
        settlement.confirm(terms, root, signed(digest, count));
    }

    function test_an_unanswered_challenge_voids_the_root_and_the_bond_comes_back() public {
        pass(DAY);
        Tree memory tree = pairTree(OPEN, OPEN);
        Root memory root = post(3, tree);
        challenge();
        yes(view_().challenged, "challenged");
        eq(view_().challenger, stranger, "by whom");
        eq(token.balanceOf(stranger), 0, "bond");
        pass(DAY - 1);
        eq(view_().pending.height, 3, "frozen");
        pass(1);
        eq(view_().pending.height, 0, "void");
        eq(view_().accepted.height, 0, "nothing accepted");
        // The same root may be posted again: the stake may have been away.
        postAs(root, 7);
        settlement.collect(stranger);
        eq(token.balanceOf(stranger), 5 * OPEN, "the bond came back");
        vm.expectRevert(ISettlement.NoAmount.selector);
        settlement.collect(stranger);
        pass(DAY);
        eq(view_().accepted.height, 3, "accepted in the end");
    }

    function test_a_confirmed_root_is_accepted_when_its_own_window_is_over_and_the_bond_burns() public {
        pass(DAY);
        Root memory root = post(3, pairTree(OPEN, OPEN));
        pass(3600);
        challenge();
        pass(3600);
        confirm(root, 5);
        eq(token.balanceOf(BURNED), 5 * OPEN, "burned");
        yes(view_().confirmed, "confirmed");
        eq(view_().due, time - 7200 + DAY, "its own window");
        vm.prank(stranger);
        vm.expectRevert(ISettlement.AlreadyConfirmed.selector);
        settlement.challenge(terms);
        pass(DAY - 7200);
        eq(view_().accepted.height, 3, "accepted");
    }

    function test_a_root_challenged_at_the_last_moment_is_accepted_when_confirmed() public {
        pass(DAY);
        Root memory root = post(3, pairTree(OPEN, OPEN));
        pass(DAY - 1);
        challenge();
        pass(DAY - 1);
        eq(view_().accepted.height, 0, "frozen beyond its window");
        confirm(root, 5);
        eq(view_().accepted.height, 3, "at once");
    }

    function test_a_confirmation_needs_the_quorum_over_the_same_root() public {
        pass(DAY);
        Root memory root = post(3, pairTree(OPEN, OPEN));
        bytes32 digest = settlement.confirmDigest(key, 3, settlement.rootDigest(root));
        bytes memory signatures = signed(digest, 7);
        vm.expectRevert(ISettlement.NotChallenged.selector);
        settlement.confirm(terms, root, signatures);
        challenge();
        signatures = signed(digest, 4);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 400 * OPEN, 700 * OPEN));
        settlement.confirm(terms, root, signatures);
        Root memory other = rootOf(key, 3, pairTree(OPEN, 2 * OPEN));
        signatures = signed(settlement.confirmDigest(key, 3, settlement.rootDigest(other)), 7);
        vm.expectRevert(ISettlement.WrongRun.selector);
        settlement.confirm(terms, other, signatures);
        // Signatures of the root itself are no confirmation.
        signatures = signed(settlement.rootDigest(root), 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 0, 700 * OPEN));
        settlement.confirm(terms, root, signatures);
        pass(DAY);
        signatures = signed(digest, 7);
        vm.expectRevert(ISettlement.NotChallenged.selector);
        settlement.confirm(terms, root, signatures);
    }

    function test_nothing_replaces_a_challenged_root_and_nothing_is_challenged_twice() public {
        pass(DAY);
        vm.expectRevert(ISettlement.NothingPending.selector);
        settlement.challenge(terms);
        post(3, pairTree(OPEN, OPEN));
        challenge();
        Root memory root = rootOf(key, 4, pairTree(OPEN, OPEN));
        bytes memory signatures = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(ISettlement.PendingIsChallenged.selector);
        settlement.post(terms, root, signatures);
        vm.expectRevert(ISettlement.PendingIsChallenged.selector);
        settlement.challenge(terms);
        pass(DAY);
        settlement.post(terms, root, signatures);
        pass(DAY);
        vm.expectRevert(ISettlement.NothingPending.selector);
        settlement.challenge(terms);
    }

    function test_who_cannot_pay_the_bond_cannot_challenge() public {
        pass(DAY);
        post(3, pairTree(OPEN, OPEN));
        vm.prank(stranger);
        (bool done,) = address(settlement).call(abi.encodeCall(ISettlement.challenge, (terms)));
        yes(!done && !view_().challenged, "challenged for nothing");
    }

    function withArbiter() private returns (address arbiter, Root memory root) {
        arbiter = address(0xA4B);
        terms.arbiter = arbiter;
        key = settlement.keyOf(terms);
        bondAs(terms, vm.addr(members[0]), 100 * OPEN);
        depositAs(terms, sponsor, 1000 * OPEN);
        pass(DAY);
        settlement.activate(key, vm.addr(members[0]));
        root = rootOf(key, 3, pairTree(OPEN, OPEN));
        settlement.post(terms, root, sign(members[0], settlement.rootDigest(root)));
        challenge();
    }

    function test_an_arbiter_decides_instead_of_the_stake() public {
        (address arbiter, Root memory root) = withArbiter();
        bytes memory signatures =
            sign(members[0], settlement.confirmDigest(key, 3, settlement.rootDigest(root)));
        vm.expectRevert(ISettlement.ArbiterDecides.selector);
        settlement.confirm(terms, root, signatures);
        vm.expectRevert(ISettlement.NotArbiter.selector);
        settlement.decide(terms, true);
        vm.prank(arbiter);
        settlement.decide(terms, true);
        eq(token.balanceOf(BURNED), 5 * OPEN, "burned");
        vm.prank(arbiter);
        vm.expectRevert(ISettlement.NotChallenged.selector);
        settlement.decide(terms, false);
        pass(DAY);
        eq(view_().accepted.height, 3, "accepted");
    }

    function test_an_arbiter_voids_at_once() public {
        (address arbiter,) = withArbiter();
        vm.prank(arbiter);
        settlement.decide(terms, false);
        eq(view_().pending.height, 0, "void");
        settlement.collect(stranger);
        eq(token.balanceOf(stranger), 5 * OPEN, "the bond came back");
    }

    function test_terms_without_an_arbiter_have_none() public {
        vm.prank(address(0));
        vm.expectRevert(ISettlement.NotArbiter.selector);
        settlement.decide(terms, true);
    }

    function test_only_the_sponsor_halts_and_only_after_silence() public {
        vm.expectRevert(ISettlement.NotSponsor.selector);
        settlement.halt(terms);
        vm.prank(sponsor);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TooEarly.selector, time + 30 * DAY));
        settlement.halt(terms);
        pass(20 * DAY);
        accept(1, pairTree(OPEN, OPEN));
        pass(20 * DAY);
        vm.prank(sponsor);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TooEarly.selector, time + 9 * DAY));
        settlement.halt(terms);
        pass(9 * DAY);
        vm.prank(sponsor);
        settlement.halt(terms);
        vm.prank(sponsor);
        vm.expectRevert(ISettlement.RunEnded.selector);
        settlement.halt(terms);
    }

    function test_a_run_that_nobody_paid_into_is_not_halted() public {
        Terms memory other = terms;
        other.run = keccak256("other");
        pass(1000 * DAY);
        vm.prank(sponsor);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TooEarly.selector, 30 * DAY));
        settlement.halt(other);
    }

    function halt() private {
        pass(30 * DAY);
        vm.prank(sponsor);
        settlement.halt(terms);
    }

    function test_after_a_halt_the_last_roots_can_be_posted_for_one_window() public {
        halt();
        vm.expectRevert(ISettlement.RunNotEnded.selector);
        settlement.reclaim(terms, false);
        post(1, pairTree(OPEN, OPEN));
        pass(DAY - 1);
        Tree memory last = pairTree(2 * OPEN, 3 * OPEN);
        post(50, last);
        pass(1);
        Root memory late = rootOf(key, 51, pairTree(2 * OPEN, 4 * OPEN));
        bytes memory signatures = signed(settlement.rootDigest(late), 7);
        vm.expectRevert(ISettlement.RunEnded.selector);
        settlement.post(terms, late, signatures);
        vm.expectRevert(ISettlement.RunNotEnded.selector);
        settlement.reclaim(terms, false);
        pass(DAY - 1);
        settlement.reclaim(terms, false);
        eq(token.balanceOf(sponsor), 995 * OPEN, "all but what was promised");
        claimOne(key, last, BOB);
        eq(token.balanceOf(BOB), 2 * OPEN, "Bob");
        vm.expectRevert(ISettlement.RunEnded.selector);
        settlement.post(terms, late, signatures);
        vm.expectRevert(ISettlement.RunEnded.selector);
        settlement.deposit(terms, OPEN);
    }

    /// An old root, posted just before the halt, must not fill the last window.
    function test_old_roots_do_not_fill_the_last_window() public {
        pass(30 * DAY - 2 * 3600);
        post(1, pairTree(OPEN, OPEN));
        pass(2 * 3600);
        vm.prank(sponsor);
        settlement.halt(terms);
        pass(DAY - 2 * 3600 - 1);
        post(2, pairTree(OPEN, OPEN));
        // More than a window after the first of them.
        pass(2 * 3600);
        post(100, pairTree(5 * OPEN, OPEN));
        pass(DAY);
        eq(view_().accepted.height, 100, "the newest");
    }

    function test_without_an_arbiter_nothing_is_challenged_after_a_halt() public {
        halt();
        post(1, pairTree(OPEN, OPEN));
        vm.prank(sponsor);
        vm.expectRevert(ISettlement.NobodyToAnswer.selector);
        settlement.challenge(terms);
    }

    function test_a_halt_ends_an_open_challenge() public {
        pass(30 * DAY - 3600);
        post(1, pairTree(OPEN, OPEN));
        challenge();
        pass(3600);
        vm.prank(sponsor);
        settlement.halt(terms);
        settlement.collect(stranger);
        eq(token.balanceOf(stranger), 5 * OPEN, "the bond came back");
        pass(DAY - 1);
        eq(view_().accepted.height, 0, "its window starts anew");
        pass(1);
        eq(view_().accepted.height, 1, "and it is accepted");
        settlement.reclaim(terms, false);
    }

    function test_with_an_arbiter_a_halted_run_can_be_challenged() public {
        (address arbiter,) = withArbiter();
        pass(DAY);
        pass(30 * DAY);
        vm.prank(sponsor);
        settlement.halt(terms);
        Root memory root = rootOf(key, 4, pairTree(OPEN, OPEN));
        settlement.post(terms, root, sign(members[0], settlement.rootDigest(root)));
        give(stranger, 5 * OPEN);
        vm.prank(stranger);
        settlement.challenge(terms);
        vm.prank(arbiter);
        settlement.decide(terms, true);
        pass(DAY);
        eq(view_().accepted.height, 4, "upheld");
    }

    function test_a_closed_run_is_not_halted() public {
        pass(DAY);
        Root memory root = rootOf(key, 9, pairTree(OPEN, OPEN));
        root.closed = true;
        postAs(root, 7);
        pass(40 * DAY);
        vm.prank(sponsor);
        vm.expectRevert(ISettlement.RunEnded.selector);
        settlement.halt(terms);
    }
}
