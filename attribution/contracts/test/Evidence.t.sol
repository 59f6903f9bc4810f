// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISettlement, Leaf, Root, Terms} from "../src/ISettlement.sol";
import {Base} from "./Base.sol";
import {Tree, Trees} from "./Trees.sol";
import {vm} from "./Vm.sol";

/// What is slashed by bytes that the chain itself checks.
contract EvidenceTest is Base {
    using Trees for Tree;

    address private constant BURNED = 0x000000000000000000000000000000000000dEaD;
    Tree private accepted;

    function fork(Root memory one, Root memory other, uint256 first, uint256 second) external {
        bytes memory a = sign(members[first], settlement.rootDigest(one));
        bytes memory b = sign(members[second], settlement.rootDigest(other));
        vm.prank(stranger);
        settlement.slashFork(one, a, other, b);
    }

    function test_two_roots_of_one_height_cost_all_stake_and_a_tenth_goes_to_the_prover() public {
        address guilty = vm.addr(members[2]);
        bondAs(terms, guilty, 50 * OPEN);
        vm.prank(guilty);
        settlement.unbond(terms, 70 * OPEN);
        Root memory one = rootOf(key, 4, pairTree(OPEN, OPEN));
        Root memory other = rootOf(key, 4, pairTree(OPEN, 2 * OPEN));
        this.fork(one, other, 2, 2);
        eq(token.balanceOf(stranger), 15 * OPEN, "a tenth of 150");
        eq(token.balanceOf(BURNED), 135 * OPEN, "the rest");
        eq(stakeOf(guilty).counting + stakeOf(guilty).maturing + stakeOf(guilty).leaving, 0, "all");
        eq(view_().stake, 600 * OPEN, "the others'");
        vm.expectRevert(ISettlement.NoStake.selector);
        this.fork(one, other, 2, 2);
    }

    function test_what_is_no_fork_slashes_nobody() public {
        Root memory one = rootOf(key, 4, pairTree(OPEN, OPEN));
        Root memory other = rootOf(key, 4, pairTree(OPEN, 2 * OPEN));
        // One root twice, two heights, two runs, two signers.
        vm.expectRevert(ISettlement.NotAFork.selector);
        this.fork(one, one, 2, 2);
        vm.expectRevert(ISettlement.NotAFork.selector);
        this.fork(one, other, 2, 3);
        other.height = 5;
        vm.expectRevert(ISettlement.NotAFork.selector);
        this.fork(one, other, 2, 2);
        other.height = 4;
        other.run = bytes32(uint256(key) ^ 1);
        vm.expectRevert(ISettlement.NotAFork.selector);
        this.fork(one, other, 2, 2);
    }

    function test_a_fork_in_one_run_costs_no_stake_of_another() public {
        Root memory one = rootOf(bytes32(uint256(key) ^ 1), 4, pairTree(OPEN, OPEN));
        Root memory other = rootOf(bytes32(uint256(key) ^ 1), 4, pairTree(OPEN, 2 * OPEN));
        vm.expectRevert(ISettlement.NoStake.selector);
        this.fork(one, other, 2, 2);
    }

    /// Accepts Bob with 2 and Alice with 3, at height 1.
    function start() private {
        pass(DAY);
        accepted = pairTree(2 * OPEN, 3 * OPEN);
        accept(1, accepted);
    }

    function lower(Root memory root, Tree memory tree, address account, uint256[] memory places, uint256 signers)
        public
    {
        Leaf[] memory shown = new Leaf[](places.length);
        for (uint256 i = 0; i < places.length; ++i) {
            shown[i] = tree.leaf(places[i]);
        }
        Tree memory before = accepted;
        bytes memory signatures = signed(settlement.rootDigest(root), signers);
        Leaf memory leaf = before.leaf(before.find(account));
        vm.prank(stranger);
        settlement.slashLowered(root, signatures, leaf, shown);
    }

    function of_(uint256 one) private pure returns (uint256[] memory places) {
        places = new uint256[](1);
        places[0] = one;
    }

    function of_(uint256 one, uint256 two) private pure returns (uint256[] memory places) {
        places = new uint256[](2);
        (places[0], places[1]) = (one, two);
    }

    function test_a_lowered_balance_voids_the_root_and_slashes_its_signers() public {
        start();
        Tree memory tree = pairTree(2 * OPEN - 1, 4 * OPEN);
        Root memory root = post(2, tree);
        lower(root, tree, BOB, of_(tree.find(BOB)), 7);
        eq(view_().pending.height, 0, "void");
        eq(view_().stake, 0, "slashed");
        eq(token.balanceOf(stranger), 70 * OPEN, "a tenth");
        eq(token.balanceOf(BURNED), 630 * OPEN, "the rest");
        pass(DAY);
        eq(view_().accepted.height, 1, "what was accepted stays");
        claimOne(key, accepted, BOB);
        eq(token.balanceOf(BOB), 2 * OPEN, "and is paid");
    }

    function test_signers_can_be_slashed_in_several_calls() public {
        start();
        Tree memory tree = pairTree(OPEN, 4 * OPEN);
        Root memory root = post(2, tree);
        lower(root, tree, BOB, of_(tree.find(BOB)), 0);
        eq(view_().pending.height, 0, "void, and nobody slashed yet");
        eq(view_().stake, 700 * OPEN, "nobody");
        lower(root, tree, BOB, of_(tree.find(BOB)), 3);
        eq(view_().stake, 400 * OPEN, "three");
        lower(root, tree, BOB, of_(tree.find(BOB)), 7);
        eq(view_().stake, 0, "all");
        vm.expectRevert(ISettlement.NoStake.selector);
        this.lower(root, tree, BOB, of_(tree.find(BOB)), 7);
    }

    function test_a_dropped_account_is_shown_missing_by_its_neighbours() public {
        start();
        address[] memory accounts = new address[](1);
        uint128[] memory balances = new uint128[](1);
        (accounts[0], balances[0]) = (ALICE, 5 * OPEN);
        Tree memory tree = Trees.build(accounts, balances);
        Root memory root = post(2, tree);
        // Bob would stand between the lower edge and Alice.
        vm.expectRevert(ISettlement.NotLowered.selector);
        this.lower(root, tree, BOB, of_(1), 7);
        vm.expectRevert(ISettlement.NotLowered.selector);
        this.lower(root, tree, BOB, of_(0), 7);
        vm.expectRevert(ISettlement.NotLowered.selector);
        this.lower(root, tree, BOB, of_(0, 2), 7);
        vm.expectRevert(ISettlement.NotLowered.selector);
        this.lower(root, tree, BOB, of_(1, 0), 7);
        lower(root, tree, BOB, of_(0, 1), 7);
        eq(view_().pending.height, 0, "void");
    }

    function test_a_tree_without_edges_hides_nobody() public {
        start();
        address[] memory accounts = new address[](2);
        uint128[] memory balances = new uint128[](2);
        // Everything above Bob, then everything below.
        (accounts[0], accounts[1]) = (ALICE, Trees.LAST);
        balances[0] = 5 * OPEN;
        Tree memory tree = Trees.raw(accounts, balances);
        Root memory root = post(2, tree);
        vm.expectRevert(ISettlement.NotLowered.selector);
        this.lower(root, tree, BOB, of_(1), 7);
        lower(root, tree, BOB, of_(0), 0);
        (accounts[0], accounts[1]) = (address(0), address(1));
        (balances[0], balances[1]) = (0, 5 * OPEN);
        tree = Trees.raw(accounts, balances);
        root = post(3, tree);
        vm.expectRevert(ISettlement.NotLowered.selector);
        this.lower(root, tree, BOB, of_(0), 7);
        lower(root, tree, BOB, of_(1), 0);
        eq(view_().pending.height, 0, "void");
    }

    /// Leaves at different depths: neighbours are those whose parts of the tree's width touch.
    function test_an_uneven_tree_hides_nobody() public {
        start();
        bytes32 low = keccak256(abi.encodePacked(bytes1(0), address(0), uint128(0)));
        bytes32 alice = keccak256(abi.encodePacked(bytes1(0), ALICE, 5 * OPEN));
        bytes32 last = keccak256(abi.encodePacked(bytes1(0), Trees.LAST, uint128(0)));
        bytes32 right = keccak256(abi.encodePacked(bytes1(0x01), alice, 5 * OPEN, last, uint128(0)));
        bytes32 top = keccak256(abi.encodePacked(bytes1(0x01), low, uint128(0), right, 5 * OPEN));
        Root memory root = Root(key, 2, top, 5 * OPEN, 0, 0, false);
        postAs(root, 7);
        Leaf[] memory shown = new Leaf[](2);
        Tree memory pattern = pairTree(0, 0);
        shown[0] = Leaf(address(0), 0, 0, pattern.leaf(0).proof);
        assembly ("memory-safe") {
            mstore(mload(add(mload(add(shown, 32)), 96)), 1) // one level
        }
        (shown[0].proof[0].hash, shown[0].proof[0].sum) = (right, 5 * OPEN);
        shown[1] = Leaf(ALICE, 5 * OPEN, 2, pairTree(0, 0).leaf(0).proof);
        (shown[1].proof[0].hash, shown[1].proof[0].sum) = (last, 0);
        (shown[1].proof[1].hash, shown[1].proof[1].sum) = (low, 0);
        Tree memory before = accepted;
        settlement.slashLowered(root, "", before.leaf(before.find(BOB)), shown);
        eq(view_().pending.height, 0, "void");
    }

    function test_an_honest_root_lowers_nobody() public {
        start();
        Tree memory tree = pairTree(2 * OPEN, 4 * OPEN);
        Root memory root = post(2, tree);
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectRevert(ISettlement.NotLowered.selector);
            this.lower(root, tree, BOB, of_(i), 7);
            vm.expectRevert(ISettlement.NotLowered.selector);
            this.lower(root, tree, ALICE, of_(i), 7);
            for (uint256 j = 0; j < 4; ++j) {
                vm.expectRevert(ISettlement.NotLowered.selector);
                this.lower(root, tree, BOB, of_(i, j), 7);
            }
        }
        vm.expectRevert(ISettlement.NotLowered.selector);
        this.lower(root, tree, BOB, new uint256[](0), 7);
        // The edges hold nothing, so nobody can be accused over them.
        vm.expectRevert(ISettlement.NotLowered.selector);
        this.lower(root, tree, address(0), of_(0), 7);
    }

    function test_an_account_that_was_promised_nothing_may_be_left_out() public {
        pass(DAY);
        accepted = pairTree(0, 3 * OPEN);
        accept(1, accepted);
        address[] memory accounts = new address[](1);
        uint128[] memory balances = new uint128[](1);
        (accounts[0], balances[0]) = (ALICE, 5 * OPEN);
        Tree memory tree = Trees.build(accounts, balances);
        Root memory root = post(2, tree);
        vm.expectRevert(ISettlement.NotLowered.selector);
        this.lower(root, tree, BOB, of_(0, 1), 7);
    }

    function test_leaves_of_other_trees_prove_nothing() public {
        start();
        Tree memory tree = pairTree(2 * OPEN, 4 * OPEN);
        Root memory root = post(2, tree);
        Tree memory lie = pairTree(OPEN, 5 * OPEN);
        vm.expectRevert(ISettlement.BadProof.selector);
        this.lower(root, lie, BOB, of_(lie.find(BOB)), 7);
        accepted = lie;
        vm.expectRevert(ISettlement.BadProof.selector);
        this.lower(root, tree, BOB, of_(tree.find(BOB)), 7);
    }

    function test_a_root_that_was_never_posted_slashes_nobody() public {
        start();
        Tree memory tree = pairTree(OPEN, 4 * OPEN);
        Root memory root = rootOf(key, 2, tree);
        vm.expectRevert(ISettlement.NotEvidence.selector);
        this.lower(root, tree, BOB, of_(tree.find(BOB)), 7);
    }

    function test_a_liar_does_not_escape_by_posting_a_greater_height() public {
        start();
        Tree memory tree = pairTree(OPEN, 4 * OPEN);
        Root memory root = post(2, tree);
        post(3, pairTree(2 * OPEN, 4 * OPEN));
        lower(root, tree, BOB, of_(tree.find(BOB)), 7);
        eq(view_().stake, 0, "slashed");
        eq(view_().pending.height, 3, "the other root stays");
        pass(DAY);
        eq(view_().accepted.height, 3, "and is accepted");
    }

    function test_evidence_ends_when_a_greater_height_is_accepted() public {
        start();
        Tree memory tree = pairTree(2 * OPEN, 4 * OPEN);
        Root memory old = post(2, tree);
        accepted = pairTree(3 * OPEN, 5 * OPEN);
        accept(3, accepted);
        // Height 2 was honest, and is lower than height 3 as it should be.
        vm.expectRevert(ISettlement.NotEvidence.selector);
        this.lower(old, tree, BOB, of_(tree.find(BOB)), 7);
    }

    function test_a_challenged_root_is_voided_by_a_proof_and_the_bond_comes_back() public {
        start();
        Tree memory tree = pairTree(OPEN, 4 * OPEN);
        Root memory root = post(2, tree);
        give(ALICE, 5 * OPEN);
        vm.prank(ALICE);
        settlement.challenge(terms);
        lower(root, tree, BOB, of_(tree.find(BOB)), 7);
        settlement.collect(ALICE);
        eq(token.balanceOf(ALICE), 5 * OPEN, "bond");
    }

    function test_signers_that_left_are_slashed_while_their_stake_cools_down() public {
        start();
        Tree memory tree = pairTree(OPEN, 4 * OPEN);
        Root memory root = post(2, tree);
        for (uint256 i = 0; i < 7; ++i) {
            vm.prank(vm.addr(members[i]));
            settlement.unbond(terms, 100 * OPEN);
        }
        pass(DAY - 1);
        lower(root, tree, BOB, of_(tree.find(BOB)), 7);
        eq(token.balanceOf(stranger), 70 * OPEN, "a tenth");
        pass(14 * DAY);
        vm.prank(vm.addr(members[0]));
        vm.expectRevert(ISettlement.NoStake.selector);
        settlement.withdraw(key);
    }

    function test_time_ends_the_chance_of_a_proof_even_if_nobody_wrote_it_down() public {
        start();
        Tree memory tree = pairTree(OPEN, 4 * OPEN);
        Root memory root = post(2, tree);
        pass(DAY);
        vm.expectRevert(ISettlement.NotEvidence.selector);
        this.lower(root, tree, BOB, of_(tree.find(BOB)), 7);
    }
}
