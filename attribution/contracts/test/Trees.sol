// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Leaf, Step} from "../src/ISettlement.sol";

/// A Merkle-sum tree with all its nodes. The slow, obvious twin of `MerkleSum`.
struct Tree {
    address[] accounts;
    uint128[] balances;
    /// By level from the bottom, then by place.
    bytes32[][] hashes;
    uint128[][] sums;
}

library Trees {
    address internal constant LAST = address(type(uint160).max);

    /// A tree as members build it: accounts ascending, between the two edges, padded to a power of two.
    function build(address[] memory accounts, uint128[] memory balances) internal pure returns (Tree memory) {
        uint256 width = 1;
        while (width < accounts.length + 2) width *= 2;
        address[] memory all = new address[](width);
        uint128[] memory amounts = new uint128[](width);
        for (uint256 i = 0; i < accounts.length; ++i) {
            (all[i + 1], amounts[i + 1]) = (accounts[i], balances[i]);
        }
        for (uint256 i = accounts.length + 1; i < width; ++i) {
            all[i] = LAST;
        }
        return raw(all, amounts);
    }

    /// A tree over leaves as they are given, a power of two of them: what liars build.
    function raw(address[] memory accounts, uint128[] memory balances) internal pure returns (Tree memory tree) {
        uint256 levels = 0;
        while (1 << levels < accounts.length) ++levels;
        tree.accounts = accounts;
        tree.balances = balances;
        tree.hashes = new bytes32[][](levels + 1);
        tree.sums = new uint128[][](levels + 1);
        tree.hashes[0] = new bytes32[](accounts.length);
        tree.sums[0] = balances;
        for (uint256 i = 0; i < accounts.length; ++i) {
            tree.hashes[0][i] = keccak256(abi.encodePacked(bytes1(0), accounts[i], balances[i]));
        }
        for (uint256 level = 0; level < levels; ++level) {
            uint256 count = accounts.length >> (level + 1);
            tree.hashes[level + 1] = new bytes32[](count);
            tree.sums[level + 1] = new uint128[](count);
            for (uint256 i = 0; i < count; ++i) {
                tree.hashes[level + 1][i] = node(tree, level, 2 * i);
                tree.sums[level + 1][i] = tree.sums[level][2 * i] + tree.sums[level][2 * i + 1];
            }
        }
    }

    function node(Tree memory tree, uint256 level, uint256 i) private pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(
                bytes1(0x01),
                tree.hashes[level][i],
                tree.sums[level][i],
                tree.hashes[level][i + 1],
                tree.sums[level][i + 1]
            )
        );
    }

    function root(Tree memory tree) internal pure returns (bytes32) {
        return tree.hashes[tree.hashes.length - 1][0];
    }

    function total(Tree memory tree) internal pure returns (uint128) {
        return tree.sums[tree.sums.length - 1][0];
    }

    function leaf(Tree memory tree, uint256 i) internal pure returns (Leaf memory) {
        uint256 levels = tree.hashes.length - 1;
        Step[] memory proof = new Step[](levels);
        for (uint256 level = 0; level < levels; ++level) {
            uint256 other = (i >> level) ^ 1;
            proof[level] = Step(tree.hashes[level][other], tree.sums[level][other]);
        }
        return Leaf(tree.accounts[i], tree.balances[i], i, proof);
    }

    /// The place of an account; reverts if it is not in the tree.
    function find(Tree memory tree, address account) internal pure returns (uint256) {
        for (uint256 i = 0; i < tree.accounts.length; ++i) {
            if (tree.accounts[i] == account) return i;
        }
        revert("no such account");
    }
}
