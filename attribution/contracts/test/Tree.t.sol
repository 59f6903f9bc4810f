// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Leaf, Step} from "../src/ISettlement.sol";
import {MerkleSum} from "../src/MerkleSum.sol";
import {Tree, Trees} from "./Trees.sol";
import {Asserts, vm} from "./Vm.sol";

/// `MerkleSum` beside its slow twin.
contract TreeTest is Asserts {
    using Trees for Tree;

    function holds(Leaf calldata leaf, bytes32 root, uint128 total) external pure returns (bool) {
        return MerkleSum.holds(leaf.account, leaf.balance, leaf.index, leaf.proof, root, total);
    }

    function some(uint256 seed, uint256 count) private pure returns (Tree memory) {
        address[] memory accounts = new address[](count);
        uint128[] memory balances = new uint128[](count);
        uint160 last = 0;
        for (uint256 i = 0; i < count; ++i) {
            uint256 word = uint256(keccak256(abi.encode(seed, i)));
            last += 1 + uint160(word % (type(uint160).max / (count + 2)));
            (accounts[i], balances[i]) = (address(last), uint128(word >> 128) / uint128(count));
        }
        return Trees.build(accounts, balances);
    }

    function testFuzz_every_leaf_of_a_tree_holds(uint256 seed, uint256 count) public view {
        count = count % 40;
        Tree memory tree = some(seed, count);
        for (uint256 i = 0; i < tree.accounts.length; ++i) {
            yes(this.holds(tree.leaf(i), tree.root(), tree.total()), "a leaf");
        }
    }

    function testFuzz_no_changed_proof_holds(uint256 seed, uint256 count, uint256 bit) public view {
        count = 1 + count % 40;
        Tree memory tree = some(seed, count);
        uint256 i = seed % tree.accounts.length;
        (bytes32 root, uint128 total) = (tree.root(), tree.total());
        for (uint256 change = 0; change < 6; ++change) {
            Leaf memory leaf = tree.leaf(i);
            uint256 level = seed % leaf.proof.length;
            if (change == 0) leaf.account = address(uint160(leaf.account) ^ uint160(1 << (bit % 160)));
            if (change == 1) leaf.balance ^= uint128(1 << (bit % 128));
            if (change == 2) leaf.index ^= 1 << (bit % 256);
            if (change == 3) leaf.proof[level].hash ^= bytes32(1 << (bit % 256));
            if (change == 4) leaf.proof[level].sum ^= uint128(1 << (bit % 128));
            if (change == 5) total ^= uint128(1 << (bit % 128));
            // Copies of the last leaf fill the tree: between two of them the index may turn.
            bool same = change == 2 && bit % 256 < leaf.proof.length
                && keccak256(abi.encode(tree.leaf(i ^ (1 << (bit % 256))).proof)) == keccak256(abi.encode(leaf.proof));
            if (!same) yes(!this.holds(leaf, root, total), "a change went unseen");
        }
    }

    function test_a_node_is_no_leaf() public view {
        // A leaf has 37 hashed bytes, a node 97, and the first byte tells them apart.
        Tree memory tree = some(7, 6);
        Leaf memory leaf = tree.leaf(3);
        Step[] memory shorter = new Step[](leaf.proof.length - 1);
        for (uint256 i = 0; i < shorter.length; ++i) {
            shorter[i] = leaf.proof[i + 1];
        }
        leaf.proof = shorter;
        leaf.index >>= 1;
        yes(!this.holds(leaf, tree.root(), tree.total()), "a node passed for a leaf");
    }

    function test_sums_above_128_bits_never_hold() public view {
        // 2^127 twice: the sum wraps to 0 in 128 bits.
        bytes32 left = keccak256(abi.encodePacked(bytes1(0), address(1), uint128(1 << 127)));
        bytes32 right = keccak256(abi.encodePacked(bytes1(0), address(2), uint128(1 << 127)));
        bytes32 root =
            keccak256(abi.encodePacked(bytes1(0x01), left, uint128(1 << 127), right, uint128(1 << 127)));
        Step[] memory proof = new Step[](1);
        proof[0] = Step(right, 1 << 127);
        yes(!this.holds(Leaf(address(1), 1 << 127, 0, proof), root, 0), "it wrapped");
    }

    /// Bits above the 128 of a sibling's sum could cancel such an overflow: the ABI has room for them, the hash has not.
    function test_sums_of_siblings_have_no_more_than_128_bits() public view {
        bytes32 right = keccak256(abi.encodePacked(bytes1(0), address(2), uint128(1 << 127)));
        bytes32 left = keccak256(abi.encodePacked(bytes1(0), address(1), uint128(1 << 127)));
        bytes32 root =
            keccak256(abi.encodePacked(bytes1(0x01), left, uint128(1 << 127), right, uint128(1 << 127)));
        Step[] memory proof = new Step[](1);
        proof[0] = Step(right, 1 << 127);
        bytes memory data = abi.encodeCall(this.holds, (Leaf(address(1), 1 << 127, 0, proof), root, 0));
        // The sum is the last word: 2^127 - 2^128, so that the leaf's 2^127 makes 0.
        assembly ("memory-safe") {
            mstore(add(data, mload(data)), sub(shl(127, 1), shl(128, 1)))
        }
        (bool done, bytes memory result) = address(this).staticcall(data);
        yes(!done || !abi.decode(result, (bool)), "it wrapped");
    }

    function test_more_than_32_levels_never_hold() public view {
        bytes32 hash = keccak256(abi.encodePacked(bytes1(0), address(1), uint128(5)));
        Step[] memory proof = new Step[](33);
        for (uint256 i = 0; i < 33; ++i) {
            hash = keccak256(abi.encodePacked(bytes1(0x01), hash, uint128(5), bytes32(i), uint128(0)));
            proof[i] = Step(bytes32(i), 0);
            if (i == 31) {
                Step[] memory most = new Step[](32);
                for (uint256 j = 0; j < 32; ++j) {
                    most[j] = proof[j];
                }
                yes(this.holds(Leaf(address(1), 5, 0, most), hash, 5), "32 levels");
            }
        }
        yes(!this.holds(Leaf(address(1), 5, 0, proof), hash, 5), "33 levels");
    }

    function testFuzz_spans_of_one_depth_are_neighbours(uint256 levels, uint256 index) public pure {
        levels = 1 + levels % 32;
        index = index % ((1 << levels) - 1);
        (uint256 from, uint256 to) = MerkleSum.span(index, levels);
        (uint256 next,) = MerkleSum.span(index + 1, levels);
        yes(from < to && to == next, "neighbours");
        (from,) = MerkleSum.span(0, levels);
        (, to) = MerkleSum.span((1 << levels) - 1, levels);
        yes(from == 0 && to == 1 << 32, "edges");
    }
}
