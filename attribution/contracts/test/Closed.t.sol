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
        postClosing(9, tree, 0);
        pass(DAY);
    }

    function postClosing(uint64 height, Tree memory tree, uint128 fees) private returns (Root memory root) {
        root = rootOf(key, height, tree, fees);
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
        Tree memory tree = pairTree(3 * OPEN, 24 * OPEN + 1);
        refuse(rootOf(key, 10, tree, 20 * OPEN), tooFast(0));
        bytes memory reason = abi.encodeWithSelector(ISettlement.FeesAboveMoney.selector, 20 * OPEN);
        refuse(rootOf(key, 10, tree, 20 * OPEN + 1), reason);
        tree = pairTree(3 * OPEN, 20 * OPEN);
        // It does not say that it closes: the run stays closed.
        accept(10, tree, 16 * OPEN);
        RunView memory run = view_();
        eq(run.accepted.total, 23 * OPEN, "total");
        eq(run.accepted.fromFees, 16 * OPEN, "all of the rise from fees");
        yes(run.accepted.closed, "closed for good");
        tree = pairTree(3 * OPEN, 24 * OPEN);
        // The deposit takes nothing back either: fees cannot cover what it was promised for.
        pass(DAY);
        reason = abi.encodeWithSelector(ISettlement.TotalFell.selector, 7 * OPEN);
        refuse(rootOf(key, 11, pairTree(3 * OPEN, 22 * OPEN), 20 * OPEN), reason);
        postClosing(11, tree, 20 * OPEN);
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
            post(10, pairTree(3 * OPEN, 14 * OPEN), 10 * OPEN);
            if (when == 2) reclaims(993 * OPEN);
            earn(5 * OPEN);
            challenge();
            if (when == 3) reclaims(993 * OPEN);
            pass(DAY);
            // Nobody answered: the root is void, and the run as closed as before.
            eq(view_().pending.height, 0, "void");
            yes(view_().accepted.closed, "closed");
            if (when == 4) reclaims(993 * OPEN);
            post(11, pairTree(3 * OPEN, 29 * OPEN), 25 * OPEN);
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
        postClosing(9, pairTree(3 * OPEN, 4 * OPEN), 0);
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

    /// Whenever fees are swept, before a closing root is posted that leaves them out, while it is pending or after it: they
    /// are promised by a later root, and the sponsor has what no root promised of the deposit.
    function test_a_sweep_about_the_closing_post_takes_from_nobody() public {
        for (uint256 when = 0; when < 4; ++when) {
            if (when > 0) setUpAgain();
            pass(DAY);
            Tree memory tree = pairTree(3 * OPEN, 4 * OPEN);
            Root memory root = rootOf(key, 9, tree);
            root.closed = true;
            bytes memory signatures = signed(settlement.rootDigest(root), 7);
            if (when == 0) earn(20 * OPEN);
            settlement.post(terms, root, signatures);
            eq(view_().pending.fromFees, 0, "what was signed");
            if (when == 1) earn(20 * OPEN);
            pass(DAY);
            if (when == 2) earn(20 * OPEN);
            reclaims(993 * OPEN);
            if (when == 3) earn(20 * OPEN);
            tree = pairTree(3 * OPEN, 24 * OPEN);
            accept(10, tree, 20 * OPEN);
            claimOne(key, tree, ALICE);
            claimOne(key, tree, BOB);
            eq(token.balanceOf(ALICE) + token.balanceOf(BOB), 27 * OPEN, "deposit and fees");
            reclaimsNothing();
            eq(token.balanceOf(address(settlement)), 700 * OPEN, "stake is left");
        }
    }

    function test_roots_of_a_closed_run_are_replaced_challenged_and_confirmed_as_any() public {
        close();
        earn(20 * OPEN);
        post(10, pairTree(3 * OPEN, 5 * OPEN), OPEN);
        Root memory root = post(11, pairTree(3 * OPEN, 24 * OPEN), 20 * OPEN);
        challenge();
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
        Root memory root = post(10, lower, OPEN);
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
        postClosing(9, pairTree(3 * OPEN, 4 * OPEN), 0);
        pass(DAY);
        earn(20 * OPEN);
        reclaims(993 * OPEN);
        pass(100 * DAY);
        post(10, pairTree(3 * OPEN, 5 * OPEN), OPEN);
        challenge();
        pass(DAY);
        post(11, pairTree(3 * OPEN, 6 * OPEN), 2 * OPEN);
        pass(DAY - 1);
        post(12, pairTree(3 * OPEN, 24 * OPEN), 20 * OPEN);
        pass(1);
        Root memory late = rootOf(key, 13, pairTree(3 * OPEN, 24 * OPEN), 20 * OPEN);
        refuse(late, abi.encodeWithSelector(ISettlement.PendingIsFixed.selector));
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
