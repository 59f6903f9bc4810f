// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISettlement, Root, Sentence, Stake, Terms} from "../src/ISettlement.sol";
import {Base} from "./Base.sol";
import {Tree, Trees} from "./Trees.sol";
import {vm} from "./Vm.sol";

/// How stake comes, counts, leaves, and is slashed by the stake of the others.
contract StakeTest is Base {
    using Trees for Tree;

    function test_new_stake_counts_after_a_window_and_not_before() public {
        bondAs(terms, stranger, 10_000 * OPEN);
        eq(view_().stake, 700 * OPEN, "not yet");
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TooEarly.selector, time + DAY));
        settlement.activate(key, stranger);
        pass(DAY - 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TooEarly.selector, time + 1));
        settlement.activate(key, stranger);
        pass(1);
        settlement.activate(key, stranger);
        eq(view_().stake, 10_700 * OPEN, "now");
        vm.expectRevert(ISettlement.NoStake.selector);
        settlement.activate(key, stranger);
    }

    function test_more_stake_waits_anew_and_what_is_ripe_counts_first() public {
        bondAs(terms, stranger, 10 * OPEN);
        pass(DAY / 2);
        bondAs(terms, stranger, 10 * OPEN);
        eq(stakeOf(stranger).counting, 0, "bonding again makes nothing count");
        pass(DAY / 2);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TooEarly.selector, time + DAY / 2));
        settlement.activate(key, stranger);
        pass(DAY);
        bondAs(terms, stranger, OPEN);
        Stake memory stake = stakeOf(stranger);
        eq(stake.counting, 20 * OPEN, "counting");
        eq(stake.maturing, OPEN, "maturing");
    }

    function test_stake_stops_counting_at_once_and_leaves_after_the_cooldown() public {
        address member = vm.addr(members[0]);
        vm.prank(member);
        settlement.unbond(terms, 60 * OPEN);
        eq(view_().stake, 640 * OPEN, "counting");
        vm.prank(member);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TooEarly.selector, time + 14 * DAY));
        settlement.withdraw(key);
        pass(14 * DAY - 1);
        vm.prank(member);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TooEarly.selector, time + 1));
        settlement.withdraw(key);
        pass(1);
        vm.prank(member);
        settlement.withdraw(key);
        eq(token.balanceOf(member), 60 * OPEN, "back");
        eq(stakeOf(member).counting, 40 * OPEN, "the rest stays");
        vm.prank(member);
        vm.expectRevert(ISettlement.NoStake.selector);
        settlement.withdraw(key);
    }

    function test_nobody_unbonds_more_than_it_has_or_nothing() public {
        address member = vm.addr(members[0]);
        vm.prank(member);
        vm.expectRevert(ISettlement.NoStake.selector);
        settlement.unbond(terms, 100 * OPEN + 1);
        vm.prank(member);
        vm.expectRevert(ISettlement.NoAmount.selector);
        settlement.unbond(terms, 0);
        vm.prank(member);
        vm.expectRevert(ISettlement.NoAmount.selector);
        settlement.bond(terms, 0);
    }

    function test_stake_that_does_not_count_yet_leaves_first() public {
        address member = vm.addr(members[0]);
        bondAs(terms, member, 30 * OPEN);
        vm.prank(member);
        settlement.unbond(terms, 40 * OPEN);
        Stake memory stake = stakeOf(member);
        eq(stake.counting, 90 * OPEN, "counting");
        eq(stake.maturing, 0, "maturing");
        eq(stake.leaving, 40 * OPEN, "leaving");
        eq(view_().stake, 690 * OPEN, "of all");
    }

    function test_another_unbond_restarts_the_cooldown() public {
        address member = vm.addr(members[0]);
        vm.prank(member);
        settlement.unbond(terms, OPEN);
        pass(14 * DAY - 1);
        vm.prank(member);
        settlement.unbond(terms, OPEN);
        pass(1);
        vm.prank(member);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TooEarly.selector, time + 14 * DAY - 1));
        settlement.withdraw(key);
    }

    function test_stake_of_one_run_is_none_of_another() public {
        Terms memory other = terms;
        other.run = keccak256("other");
        vm.prank(vm.addr(members[0]));
        vm.expectRevert(ISettlement.NoStake.selector);
        settlement.unbond(other, 1);
    }

    bytes32 private constant WHY = keccak256("two votes for one slot");

    function slashBy(address account, uint128 amount, uint256 from, uint256 to) private {
        bytes32 digest = settlement.slashDigest(key, account, amount, WHY);
        bytes memory signatures;
        for (uint256 i = from; i < to; ++i) {
            signatures = abi.encodePacked(signatures, sign(members[i], digest));
        }
        settlement.slash(terms, account, amount, WHY, signatures);
    }

    function test_the_quorum_slashes_after_a_window_and_all_is_burned() public {
        address guilty = vm.addr(members[0]);
        uint256 supply = token.balanceOf(address(settlement));
        slashBy(guilty, 70 * OPEN, 1, 6);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.TooEarly.selector, time + DAY));
        settlement.executeSlash(key, guilty);
        eq(stakeOf(guilty).counting, 100 * OPEN, "not yet");
        pass(DAY);
        vm.expectEmit();
        emit ISettlement.Slashed(key, guilty, 70 * OPEN);
        settlement.executeSlash(key, guilty);
        eq(stakeOf(guilty).counting, 30 * OPEN, "slashed");
        eq(view_().stake, 630 * OPEN, "of all");
        eq(token.balanceOf(0x000000000000000000000000000000000000dEaD), 70 * OPEN, "burned");
        eq(token.balanceOf(address(settlement)), supply - 70 * OPEN, "gone");
        vm.expectRevert(ISettlement.NothingPending.selector);
        settlement.executeSlash(key, guilty);
    }

    function test_a_slash_needs_more_than_two_thirds_of_the_others() public {
        address guilty = vm.addr(members[0]);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 400 * OPEN, 600 * OPEN));
        this.slashByExternally(guilty, 1, 1, 5);
        // The accused's own signature adds nothing.
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 400 * OPEN, 600 * OPEN));
        this.slashByExternally(guilty, 1, 0, 5);
    }

    function slashByExternally(address account, uint128 amount, uint256 from, uint256 to) external {
        slashBy(account, amount, from, to);
    }

    /// 600 of 6,700: all of the others, and still less than a third of all.
    function test_small_holders_cannot_slash_a_large_one() public {
        address whale = vm.addr(members[0]);
        bondAs(terms, whale, 6000 * OPEN);
        pass(DAY);
        settlement.activate(key, whale);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NoQuorum.selector, 600 * OPEN, 600 * OPEN));
        this.slashByExternally(whale, 6000 * OPEN, 1, 7);
    }

    function test_a_signed_slash_is_good_once() public {
        address guilty = vm.addr(members[0]);
        slashBy(guilty, OPEN, 1, 7);
        vm.expectRevert(ISettlement.AlreadySigned.selector);
        this.slashByExternally(guilty, OPEN, 1, 7);
        vm.expectRevert(ISettlement.SlashPending.selector);
        this.slashByExternally(guilty, 2 * OPEN, 1, 7);
        pass(DAY);
        vm.expectRevert(ISettlement.AlreadySigned.selector);
        this.slashByExternally(guilty, OPEN, 1, 7);
        slashBy(guilty, 2 * OPEN, 1, 7);
        eq(stakeOf(guilty).counting, 99 * OPEN, "the ripe one is carried out first");
    }

    function test_a_slash_of_nothing_or_nobody_is_refused() public {
        vm.expectRevert(ISettlement.NoAmount.selector);
        this.slashByExternally(vm.addr(members[0]), 0, 1, 7);
        vm.expectRevert(ISettlement.NoStake.selector);
        this.slashByExternally(stranger, 1, 0, 7);
    }

    function test_leaving_stake_is_slashed_too_and_a_waiting_slash_holds_it() public {
        address guilty = vm.addr(members[0]);
        vm.prank(guilty);
        settlement.unbond(terms, 100 * OPEN);
        pass(14 * DAY - 1);
        slashBy(guilty, 80 * OPEN, 1, 7);
        pass(1);
        vm.prank(guilty);
        vm.expectRevert(ISettlement.SlashPending.selector);
        settlement.withdraw(key);
        pass(DAY);
        vm.prank(guilty);
        settlement.withdraw(key);
        eq(token.balanceOf(guilty), 20 * OPEN, "what the slash left");
    }

    function test_a_slash_takes_no_more_than_there_is_and_counting_stake_first() public {
        address guilty = vm.addr(members[0]);
        bondAs(terms, guilty, 50 * OPEN);
        vm.prank(guilty);
        settlement.unbond(terms, 20 * OPEN);
        slashBy(guilty, 120 * OPEN, 1, 7);
        pass(DAY);
        settlement.executeSlash(key, guilty);
        Stake memory stake = stakeOf(guilty);
        eq(stake.counting, 0, "counting first");
        eq(stake.maturing, 10 * OPEN, "then maturing");
        eq(stake.leaving, 20 * OPEN, "then leaving");
        slashBy(guilty, 1000 * OPEN, 1, 7);
        pass(DAY);
        settlement.executeSlash(key, guilty);
        stake = stakeOf(guilty);
        eq(uint256(stake.counting) + stake.maturing + stake.leaving, 0, "all of it");
    }

    function test_stake_leaves_a_run_that_ended() public {
        pass(DAY);
        Root memory root = rootOf(key, 1, pairTree(OPEN, OPEN));
        root.closed = true;
        postAs(root, 7);
        pass(DAY);
        address member = vm.addr(members[3]);
        vm.prank(member);
        settlement.unbond(terms, 100 * OPEN);
        pass(14 * DAY);
        vm.prank(member);
        settlement.withdraw(key);
        eq(token.balanceOf(member), 100 * OPEN, "by time alone");
    }
}
