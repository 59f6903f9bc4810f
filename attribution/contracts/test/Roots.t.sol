// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {ISettlement, Root, RunView, Terms} from "../src/ISettlement.sol";
import {Base} from "./Base.sol";
import {Tree, Trees} from "./Trees.sol";
import {create, vm} from "./Vm.sol";

/// What a root must be to be posted, and when it is accepted.
contract RootsTest is Base {
    using Trees for Tree;

    function test_a_posted_root_is_accepted_after_its_window_and_no_sooner() public {
        Tree memory tree = pairTree(3 * OPEN, 4 * OPEN);
        pass(DAY);
        Root memory root = post(5, tree);
        pass(DAY - 1);
        RunView memory run = view_();
        eq(run.accepted.height, 0, "accepted too soon");
        eq(run.pending.height, 5, "pending");
        eq(run.digest, settlement.rootDigest(root), "digest");
        pass(1);
        run = view_();
        eq(run.accepted.height, 5, "height");
        eq(run.accepted.total, 7 * OPEN, "total");
        eq(run.accepted.balances, tree.root(), "balances");
        eq(run.accepted.time, time - DAY, "time of its post");
        eq(run.pending.height, 0, "nothing pending");
    }

    function test_a_root_needs_more_than_two_thirds_of_counting_stake() public {
        pass(DAY);
        Root memory root = rootOf(key, 1, pairTree(OPEN, OPEN));
        bytes memory four = signed(settlement.rootDigest(root), 4);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 400 * OPEN, 700 * OPEN));
        settlement.post(terms, root, four);
        postAs(root, 5);
        eq(view_().pending.height, 1, "five of seven");
    }

    function test_exactly_two_thirds_of_the_stake_are_not_enough() public {
        address first = vm.addr(members[0]);
        bondAs(terms, first, 200 * OPEN);
        pass(DAY);
        settlement.activate(key, first);
        Root memory root = rootOf(key, 1, pairTree(OPEN, OPEN));
        bytes memory signatures = signed(settlement.rootDigest(root), 4);
        // 300 + 3 x 100 of 900.
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 600 * OPEN, 900 * OPEN));
        settlement.post(terms, root, signatures);
    }

    function test_a_run_without_stake_takes_no_root() public {
        Terms memory other = terms;
        other.run = keccak256("other");
        depositAs(other, sponsor, OPEN);
        pass(DAY);
        Root memory root = rootOf(settlement.keyOf(other), 1, pairTree(1, 1));
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 0, 0));
        settlement.post(other, root, "");
        bytes memory theirs = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 0, 0));
        settlement.post(other, root, theirs);
    }

    function test_a_handful_of_stake_posts_no_root_where_the_terms_ask_for_more() public {
        Terms memory other = terms;
        other.run = keccak256("other");
        other.minStake = 50 * OPEN;
        bytes32 its = settlement.keyOf(other);
        depositAs(other, sponsor, 1000 * OPEN);
        address first = vm.addr(members[0]);
        bondAs(other, first, 49 * OPEN);
        pass(DAY);
        settlement.activate(its, first);
        Root memory root = rootOf(its, 1, pairTree(1, 1));
        bytes memory alone = signed(settlement.rootDigest(root), 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.StakeTooLow.selector, 49 * OPEN, 50 * OPEN));
        settlement.post(other, root, alone);
        bondAs(other, first, OPEN);
        pass(DAY);
        settlement.activate(its, first);
        settlement.post(other, root, alone);
        eq(settlement.runs(its).pending.height, 1, "with enough stake");
    }

    function test_stake_that_left_does_not_answer_a_challenge() public {
        Terms memory other = terms;
        other.run = keccak256("other");
        other.minStake = 50 * OPEN;
        bytes32 its = settlement.keyOf(other);
        depositAs(other, sponsor, 1000 * OPEN);
        address first = vm.addr(members[0]);
        bondAs(other, first, 60 * OPEN);
        pass(DAY);
        settlement.activate(its, first);
        Root memory root = rootOf(its, 1, pairTree(1, 1));
        settlement.post(other, root, signed(settlement.rootDigest(root), 1));
        give(address(this), 5 * OPEN);
        settlement.challenge(other);
        vm.prank(first);
        settlement.unbond(other, 20 * OPEN);
        bytes memory answer = signed(settlement.confirmDigest(its, 1, settlement.rootDigest(root)), 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.StakeTooLow.selector, 40 * OPEN, 50 * OPEN));
        settlement.confirm(other, root, answer);
    }

    function test_signers_stand_in_ascending_order_and_count_once() public {
        pass(DAY);
        Root memory root = rootOf(key, 1, pairTree(OPEN, OPEN));
        bytes32 digest = settlement.rootDigest(root);
        bytes memory twice;
        for (uint256 i = 0; i < 5; ++i) {
            twice = abi.encodePacked(twice, sign(members[0], digest));
        }
        vm.expectRevert(abi.encodeWithSelector(ISettlement.SignersNotAscending.selector, vm.addr(members[0])));
        settlement.post(terms, root, twice);
        bytes memory turned = abi.encodePacked(sign(members[1], digest), sign(members[0], digest));
        vm.expectRevert(abi.encodeWithSelector(ISettlement.SignersNotAscending.selector, vm.addr(members[0])));
        settlement.post(terms, root, turned);
    }

    function test_signatures_of_another_form_are_refused() public {
        pass(DAY);
        Root memory root = rootOf(key, 1, pairTree(OPEN, OPEN));
        bytes32 digest = settlement.rootDigest(root);
        bytes memory good = signed(digest, 5);
        vm.expectRevert(ISettlement.BadSignatures.selector);
        settlement.post(terms, root, abi.encodePacked(good, bytes1(0)));
        // The same signature with the other s: it recovers the same signer, and is refused.
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(members[0], digest);
        uint256 order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
        bytes32 high = bytes32(order - uint256(s));
        vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureS.selector, high));
        settlement.post(terms, root, abi.encodePacked(r, high, v == 27 ? uint8(28) : uint8(27)));
        // What recovers nobody is not the zero address's signature.
        vm.expectRevert(ECDSA.ECDSAInvalidSignature.selector);
        settlement.post(terms, root, abi.encodePacked(r, s, uint8(29)));
    }

    function test_signers_without_stake_add_nothing_and_spoil_nothing() public {
        pass(DAY);
        Root memory root = rootOf(key, 1, pairTree(OPEN, OPEN));
        address gone = vm.addr(members[0]);
        vm.prank(gone);
        settlement.unbond(terms, 100 * OPEN);
        // 400 of 600 is two thirds and not more.
        bytes memory signatures = signed(settlement.rootDigest(root), 5);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 400 * OPEN, 600 * OPEN));
        settlement.post(terms, root, signatures);
        postAs(root, 6);
    }

    function test_a_root_of_another_run_or_other_terms_is_refused() public {
        pass(DAY);
        Root memory root = rootOf(key, 1, pairTree(OPEN, OPEN));
        bytes memory signatures = signed(settlement.rootDigest(root), 7);
        Terms memory other = terms;
        other.rate += 1;
        vm.expectRevert(ISettlement.WrongRun.selector);
        settlement.post(other, root, signatures);
        root.run = settlement.keyOf(other);
        signatures = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(ISettlement.WrongRun.selector);
        settlement.post(terms, root, signatures);
    }

    function test_signatures_are_good_for_this_contract_and_chain_alone() public {
        pass(DAY);
        Root memory root = rootOf(key, 1, pairTree(OPEN, OPEN));
        bytes memory one = signed(settlement.rootDigest(root), 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 100 * OPEN, 700 * OPEN));
        settlement.post(terms, root, one);
        vm.chainId(4711);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 0, 700 * OPEN));
        settlement.post(terms, root, one);
        ISettlement second = ISettlement(create("Settlement", abi.encode(token, false)));
        yes(second.rootDigest(root) != settlement.rootDigest(root), "contract");
    }

    function test_every_field_of_a_root_is_signed() public {
        pass(DAY);
        Root memory root = rootOf(key, 1, pairTree(OPEN, OPEN));
        bytes32 digest = settlement.rootDigest(root);
        for (uint256 field = 0; field < 7; ++field) {
            Root memory other = Root(key, root.height, root.balances, root.total, root.fees, root.lines, root.closed);
            if (field == 0) other.run = bytes32(uint256(key) ^ 1);
            if (field == 1) other.height ^= 2;
            if (field == 2) other.balances = bytes32(uint256(root.balances) ^ 1);
            if (field == 3) other.total ^= 1;
            if (field == 4) other.lines = bytes32(uint256(root.lines) ^ 1);
            if (field == 5) other.closed = true;
            if (field == 6) other.fees ^= 4;
            yes(settlement.rootDigest(other) != digest, "a field is not signed");
        }
    }

    function test_heights_grow() public {
        Tree memory tree = pairTree(OPEN, OPEN);
        pass(DAY);
        accept(5, tree);
        Root memory root = rootOf(key, 5, tree);
        bytes memory signatures = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.HeightTooLow.selector, 5));
        settlement.post(terms, root, signatures);
        post(6, tree);
        root.height = 6;
        root.lines = 0;
        signatures = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.HeightTooLow.selector, 6));
        settlement.post(terms, root, signatures);
        post(7, tree);
    }

    function test_a_total_never_falls() public {
        pass(DAY);
        accept(1, pairTree(OPEN, 2 * OPEN));
        Root memory root = rootOf(key, 2, pairTree(OPEN, 2 * OPEN - 1));
        bytes memory signatures = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TotalFell.selector, 3 * OPEN));
        settlement.post(terms, root, signatures);
    }

    function test_a_total_rises_no_faster_than_the_rate() public {
        // 0.01 OPEN a second since the first deposit: 864 a day.
        pass(1000);
        Root memory root = rootOf(key, 1, pairTree(5 * OPEN, 5 * OPEN + 1));
        bytes memory signatures = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TotalRoseTooFast.selector, 10 * OPEN));
        settlement.post(terms, root, signatures);
        accept(1, pairTree(5 * OPEN, 5 * OPEN));
        // From here on it counts since that post, a day ago.
        root = rootOf(key, 2, pairTree(5 * OPEN, 5 * OPEN + 864 * OPEN + 1));
        signatures = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TotalRoseTooFast.selector, 864 * OPEN));
        settlement.post(terms, root, signatures);
        post(2, pairTree(5 * OPEN, 5 * OPEN + 864 * OPEN));
    }

    function test_a_total_stays_within_what_was_paid_in() public {
        pass(100 * DAY);
        Root memory root = rootOf(key, 1, pairTree(500 * OPEN, 500 * OPEN + 1));
        bytes memory signatures = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TotalAboveMoney.selector, 1000 * OPEN));
        settlement.post(terms, root, signatures);
        post(1, pairTree(500 * OPEN, 500 * OPEN));
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

    function because(bytes4 selector, uint256 amount) private pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, amount);
    }

    function test_fees_may_be_promised_at_once_and_only_once() public {
        earn(30 * OPEN);
        Tree memory tree = pairTree(10 * OPEN, 20 * OPEN);
        refuse(rootOf(key, 1, tree), because(ISettlement.TotalRoseTooFast.selector, 0));
        accept(1, tree, 30 * OPEN);
        eq(view_().accepted.fromFees, 30 * OPEN, "all of it from fees");
        tree = pairTree(10 * OPEN + 864 * OPEN + 1, 20 * OPEN);
        refuse(rootOf(key, 2, tree, 30 * OPEN), because(ISettlement.TotalRoseTooFast.selector, 864 * OPEN));
        refuse(rootOf(key, 2, tree, 30 * OPEN + 1), because(ISettlement.FeesAboveMoney.selector, 30 * OPEN));
    }

    function test_what_fees_cover_never_falls_and_is_no_more_than_the_total() public {
        pass(1000);
        earn(30 * OPEN);
        Tree memory tree = pairTree(4 * OPEN, 6 * OPEN);
        refuse(rootOf(key, 1, tree, 10 * OPEN + 1), because(ISettlement.FeesAboveTotal.selector, 10 * OPEN));
        accept(1, tree, 7 * OPEN);
        tree = pairTree(40 * OPEN, 6 * OPEN);
        refuse(rootOf(key, 2, tree, 7 * OPEN - 1), because(ISettlement.FeesFell.selector, 7 * OPEN));
        // Nor does the deposit's part, of which fees could else give some back to the sponsor.
        tree = pairTree(4 * OPEN, 7 * OPEN);
        refuse(rootOf(key, 2, tree, 8 * OPEN + 1), because(ISettlement.TotalFell.selector, 3 * OPEN));
        post(2, tree, 8 * OPEN);
    }

    function test_a_root_may_add_fees_and_what_the_rate_released() public {
        earn(30 * OPEN);
        pass(1000);
        Tree memory tree = pairTree(20 * OPEN, 20 * OPEN + 1);
        refuse(rootOf(key, 1, tree, 30 * OPEN), because(ISettlement.TotalRoseTooFast.selector, 10 * OPEN));
        post(1, pairTree(20 * OPEN, 20 * OPEN), 30 * OPEN);
    }

    /// Whoever sweeps between the signing of a root and its post changes nothing of it.
    function test_fees_that_a_root_left_out_can_be_promised_later() public {
        pass(1000);
        earn(30 * OPEN);
        accept(1, pairTree(OPEN, OPEN));
        eq(view_().accepted.fromFees, 0, "as it was signed");
        Tree memory tree = pairTree(OPEN, OPEN + 864 * OPEN + 30 * OPEN);
        post(2, tree, 30 * OPEN);
    }

    /// Holders of old roots cannot keep the newest out, nor posts at every height keep all from being accepted.
    function test_a_pending_root_is_replaced_within_its_first_window_only() public {
        pass(DAY);
        Root memory old = post(1, pairTree(OPEN, OPEN));
        pass(DAY - 1);
        post(100, pairTree(2 * OPEN, OPEN));
        yes(settlement.dropped(settlement.rootDigest(old)), "stays evidence");
        pass(1);
        eq(view_().accepted.height, 0, "each root waits its own window");
        Root memory later = rootOf(key, 101, pairTree(2 * OPEN, OPEN));
        bytes memory signatures = signed(settlement.rootDigest(later), 7);
        vm.expectRevert(ISettlement.PendingIsFixed.selector);
        settlement.post(terms, later, signatures);
        pass(DAY - 1);
        eq(view_().accepted.height, 100, "accepted within two windows of the first post");
        settlement.post(terms, later, signatures);
        eq(view_().pending.height, 101, "and then the next");
    }

    function test_nothing_of_the_deposit_follows_an_accepted_closing_root() public {
        pass(DAY);
        Tree memory tree = pairTree(OPEN, OPEN);
        Root memory closing = rootOf(key, 9, tree);
        closing.closed = true;
        postAs(closing, 7);
        yes(!view_().accepted.closed && view_().pending.closed, "pending");
        pass(DAY);
        yes(view_().accepted.closed, "closed");
        Root memory root = rootOf(key, 10, pairTree(OPEN, OPEN + 1));
        bytes memory signatures = signed(settlement.rootDigest(root), 7);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TotalRoseTooFast.selector, 0));
        settlement.post(terms, root, signatures);
        give(stranger, OPEN);
        vm.prank(stranger);
        vm.expectRevert(ISettlement.RunEnded.selector);
        settlement.deposit(terms, OPEN);
    }

    function test_a_greater_height_may_still_replace_a_pending_closing_root() public {
        pass(DAY);
        Root memory closing = rootOf(key, 9, pairTree(OPEN, OPEN));
        closing.closed = true;
        postAs(closing, 7);
        post(10, pairTree(OPEN, OPEN));
        pass(DAY);
        yes(!view_().accepted.closed, "open");
        eq(view_().accepted.height, 10, "height");
    }
}
