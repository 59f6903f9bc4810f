// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISettlement, Leaf, Root, RunView} from "../src/ISettlement.sol";
import {Base} from "./Base.sol";
import {Tree, Trees} from "./Trees.sol";
import {vm} from "./Vm.sol";

/// A run after its closing root: the deposit that is left is the sponsor's, fees are the members'.
contract ClosedTest is Base {
    using Trees for Tree;

    /// Bob 3 OPEN and Alice 4, all of the deposit.
    function close() private returns (Tree memory tree) {
        pass(DAY);
        tree = pairTree(3 * OPEN, 4 * OPEN);
        postClosing(9, tree);
        pass(DAY);
    }

    function postClosing(uint64 height, Tree memory tree) private returns (Root memory root) {
        root = rootOf(key, height, tree);
        root.closed = true;
        postAs(root, 7);
    }

    function earn(uint128 amount) private {
        token.mint(settlement.till(key), amount);
        settlement.sweep(key);
    }

    function refuse(Root memory root, bytes memory reason) private {
        bytes memory signatures = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(reason);
        settlement.post(terms, root, signatures);
    }

    function tooFast(uint256 allowed) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ISettlement.TotalRoseTooFast.selector, allowed);
    }

    function reclaims(uint256 amount) private {
        uint256 before = token.balanceOf(sponsor);
        settlement.reclaim(terms, false);
        eq(token.balanceOf(sponsor) - before, amount, "reclaimed");
    }

    function reclaimsNothing() private {
        vm.expectRevert(ISettlement.NothingToReclaim.selector);
        settlement.reclaim(terms, false);
    }

    function challenge() private {
        give(stranger, 5 * OPEN);
        vm.prank(stranger);
        settlement.challenge(terms);
    }

    function test_fees_alone_raise_the_total_of_a_closed_run() public {
        close();
        earn(20 * OPEN);
        pass(100 * DAY);
        refuse(rootOf(key, 10, pairTree(3 * OPEN, 24 * OPEN + 1)), tooFast(20 * OPEN));
        Tree memory tree = pairTree(3 * OPEN, 20 * OPEN);
        // It does not say that it closes: the run stays closed.
        accept(10, tree);
        RunView memory run = view_();
        eq(run.accepted.total, 23 * OPEN, "total");
        eq(run.accepted.fromFees, 16 * OPEN, "all of the rise from fees");
        yes(run.accepted.closed, "closed for good");
        refuse(rootOf(key, 11, pairTree(3 * OPEN, 24 * OPEN + 1)), tooFast(4 * OPEN));
        tree = pairTree(3 * OPEN, 24 * OPEN);
        postClosing(11, tree);
        pass(DAY);
        claimOne(key, tree, ALICE);
        claimOne(key, tree, BOB);
        eq(token.balanceOf(ALICE) + token.balanceOf(BOB), 27 * OPEN, "deposit and fees");
        reclaims(993 * OPEN);
        eq(token.balanceOf(address(settlement)), 700 * OPEN, "stake is left");
    }

    function test_time_releases_nothing_of_a_closed_deposit() public {
        close();
        pass(1000 * DAY);
        refuse(rootOf(key, 10, pairTree(3 * OPEN, 4 * OPEN + 1)), tooFast(0));
        // A root that promises no more may move nothing either way, and is taken.
        post(10, pairTree(3 * OPEN, 4 * OPEN));
        eq(view_().pending.fromFees, 0, "nothing from fees");
    }

    /// Whatever is pending, swept or void, and in whatever order: the sponsor has the same of the deposit, once.
    function test_what_the_sponsor_reclaims_depends_on_no_later_root() public {
        for (uint256 when = 0; when < 7; ++when) {
            if (when > 0) setUpAgain();
            close();
            if (when == 0) reclaims(993 * OPEN);
            earn(20 * OPEN);
            if (when == 1) reclaims(993 * OPEN);
            post(10, pairTree(3 * OPEN, 14 * OPEN));
            if (when == 2) reclaims(993 * OPEN);
            earn(5 * OPEN);
            challenge();
            if (when == 3) reclaims(993 * OPEN);
            pass(DAY);
            // Nobody answered: the root is void, and the run as closed as before.
            eq(view_().pending.height, 0, "void");
            yes(view_().accepted.closed, "closed");
            if (when == 4) reclaims(993 * OPEN);
            post(11, pairTree(3 * OPEN, 29 * OPEN));
            pass(DAY);
            if (when == 5) reclaims(993 * OPEN);
            earn(OPEN);
            if (when == 6) reclaims(993 * OPEN);
            reclaimsNothing();
            eq(view_().accepted.total - view_().accepted.fromFees, 7 * OPEN, "of the deposit");
            claimOne(key, pairTree(3 * OPEN, 29 * OPEN), ALICE);
            claimOne(key, pairTree(3 * OPEN, 29 * OPEN), BOB);
            // Stake and the fee that came last; the bond is still the challenger's to collect.
            eq(token.balanceOf(address(settlement)), 706 * OPEN, "left");
        }
    }

    function setUpAgain() private {
        delete members;
        setUp();
    }

    function test_fees_that_nobody_promises_stay_where_they_are() public {
        close();
        earn(20 * OPEN);
        reclaims(993 * OPEN);
        pass(3000 * DAY);
        reclaimsNothing();
        vm.prank(sponsor);
        vm.expectRevert(ISettlement.RunEnded.selector);
        settlement.halt(terms);
        eq(token.balanceOf(address(settlement)), 727 * OPEN, "stake, promises and fees");
    }

    function test_a_void_closing_root_closes_nothing() public {
        pass(DAY);
        postClosing(9, pairTree(3 * OPEN, 4 * OPEN));
        challenge();
        pass(DAY);
        yes(!view_().accepted.closed, "open");
        vm.expectRevert(ISettlement.RunNotEnded.selector);
        settlement.reclaim(terms, false);
        depositAs(terms, sponsor, OPEN);
        accept(10, pairTree(3 * OPEN, 40 * OPEN));
        yes(!view_().accepted.closed, "a later root does not inherit it");
        eq(view_().accepted.fromFees, 0, "still of the deposit");
    }

    /// Fees swept between the signatures of a closing root and its post cover what the deposit would have. Members add
    /// them by a greater height while it is pending.
    function test_members_replace_a_closing_root_that_leaves_fees_out() public {
        pass(DAY);
        earn(20 * OPEN);
        postClosing(9, pairTree(3 * OPEN, 4 * OPEN));
        eq(view_().pending.fromFees, 7 * OPEN, "fees come first");
        postClosing(10, pairTree(3 * OPEN, 24 * OPEN));
        pass(DAY);
        eq(view_().accepted.fromFees, 20 * OPEN, "all fees are promised");
        reclaims(993 * OPEN);
    }

    /// The same where it was posted too late to be replaced.
    function test_members_void_a_closing_root_that_leaves_fees_out() public {
        pass(DAY);
        post(8, pairTree(OPEN, OPEN));
        pass(DAY - 1);
        earn(20 * OPEN);
        postClosing(9, pairTree(3 * OPEN, 4 * OPEN));
        pass(1);
        Root memory whole = rootOf(key, 10, pairTree(3 * OPEN, 24 * OPEN));
        whole.closed = true;
        refuse(whole, abi.encodeWithSelector(ISettlement.PendingIsFixed.selector));
        challenge();
        pass(DAY);
        postAs(whole, 7);
        pass(DAY);
        eq(view_().accepted.fromFees, 20 * OPEN, "all fees are promised");
        reclaims(993 * OPEN);
        settlement.collect(stranger);
        eq(token.balanceOf(stranger), 5 * OPEN, "the bond came back");
    }

    function test_roots_of_a_closed_run_are_replaced_challenged_and_confirmed_as_any() public {
        close();
        earn(20 * OPEN);
        post(10, pairTree(3 * OPEN, 5 * OPEN));
        post(11, pairTree(3 * OPEN, 24 * OPEN));
        eq(view_().pending.fromFees, 20 * OPEN, "from the accepted root on");
        challenge();
        Root memory root = rootOf(key, 11, pairTree(3 * OPEN, 24 * OPEN));
        bytes memory answer = signed(settlement.confirmDigest(key, 11, settlement.rootDigest(root)), 7);
        settlement.confirm(terms, root, answer);
        yes(view_().confirmed, "confirmed");
        pass(DAY);
        eq(view_().accepted.height, 11, "accepted");
        yes(view_().accepted.closed, "closed");
    }

    function test_a_root_that_lowers_somebody_is_void_and_slashed_after_the_closing_too() public {
        Tree memory before = close();
        earn(OPEN);
        Tree memory lower = pairTree(0, 8 * OPEN);
        Root memory root = post(10, lower);
        Leaf[] memory shown = new Leaf[](1);
        shown[0] = lower.leaf(lower.find(BOB));
        bytes memory signatures = signed(settlement.rootDigest(root), 7);
        vm.prank(stranger);
        settlement.slashLowered(root, signatures, before.leaf(before.find(BOB)), shown);
        eq(view_().pending.height, 0, "void");
        eq(view_().stake, 0, "slashed");
        yes(view_().accepted.closed, "closed");
        reclaims(993 * OPEN);
        claimOne(key, before, BOB);
        eq(token.balanceOf(BOB), 3 * OPEN, "Bob");
    }

    /// A run whose last root closes it in the window after its halt is a closed run like any other.
    function test_a_halted_run_that_closes_in_time_keeps_its_fees() public {
        pass(30 * DAY);
        vm.prank(sponsor);
        settlement.halt(terms);
        postClosing(9, pairTree(3 * OPEN, 4 * OPEN));
        pass(DAY);
        earn(20 * OPEN);
        reclaims(993 * OPEN);
        pass(100 * DAY);
        post(10, pairTree(3 * OPEN, 5 * OPEN));
        challenge();
        pass(DAY);
        post(11, pairTree(3 * OPEN, 6 * OPEN));
        pass(DAY - 1);
        post(12, pairTree(3 * OPEN, 24 * OPEN));
        pass(1);
        refuse(rootOf(key, 13, pairTree(3 * OPEN, 24 * OPEN)), abi.encodeWithSelector(ISettlement.PendingIsFixed.selector));
        pass(DAY - 1);
        eq(view_().accepted.total, 27 * OPEN, "all fees");
        reclaimsNothing();
    }

    function test_fees_of_a_halted_run_that_never_closed_are_the_sponsors() public {
        pass(30 * DAY);
        vm.prank(sponsor);
        settlement.halt(terms);
        post(9, pairTree(3 * OPEN, 4 * OPEN));
        earn(20 * OPEN);
        pass(DAY);
        reclaims(1013 * OPEN);
        earn(OPEN);
        reclaims(OPEN);
        Root memory late = rootOf(key, 10, pairTree(3 * OPEN, 5 * OPEN));
        late.closed = true;
        refuse(late, abi.encodeWithSelector(ISettlement.RunEnded.selector));
    }
}
