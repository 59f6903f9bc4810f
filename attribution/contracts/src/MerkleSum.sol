// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Step} from "./ISettlement.sol";

/// Proofs in a Merkle-sum tree: every node carries the sum of its leaves, so that a leaf is only in a tree whose sums on
/// its way add up to the signed total.
///
///     leaf = keccak256(0x00 || address (20 bytes) || balance (16 bytes))
///     node = keccak256(0x01 || left hash || left sum (16) || right hash || right sum (16))
///
/// The prefixes keep a node from being shown as a leaf.
library MerkleSum {
    /// 2^32 accounts are more than a run can hold; a longer proof only costs gas.
    uint256 internal constant MAX_LEVELS = 32;

    /// Whether the leaf is in the tree with this root hash and sum. Sums that overflow 128 bits are never valid.
    function holds(
        address account,
        uint128 balance,
        uint256 index,
        Step[] calldata proof,
        bytes32 root,
        uint128 total
    ) internal pure returns (bool) {
        uint256 levels = proof.length;
        // An index with more bits than the proof has levels would be a second name of the same leaf.
        if (levels > MAX_LEVELS || index >> levels != 0) return false;
        bytes32 hash;
        uint256 sum = balance;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, shr(8, shl(96, account))) // a zero byte, then the address
            mstore(add(p, 21), shl(128, sum))
            hash := keccak256(p, 37)
        }
        for (uint256 level = 0; level < levels; ++level) {
            bytes32 other = proof[level].hash;
            uint256 otherSum = proof[level].sum;
            bool right = (index >> level) & 1 == 1;
            (bytes32 leftHash, uint256 leftSum, bytes32 rightHash, uint256 rightSum) =
                right ? (other, otherSum, hash, sum) : (hash, sum, other, otherSum);
            assembly ("memory-safe") {
                let p := mload(0x40)
                mstore8(p, 1)
                mstore(add(p, 1), leftHash)
                mstore(add(p, 33), shl(128, leftSum))
                mstore(add(p, 49), rightHash)
                mstore(add(p, 81), shl(128, rightSum))
                hash := keccak256(p, 97)
            }
            sum += otherSum;
            if (sum > type(uint128).max) return false;
        }
        return hash == root && sum == total;
    }

    /// The part of the tree's width, of 2^32, that a leaf at this index and depth covers: [from, to).
    function span(uint256 index, uint256 levels) internal pure returns (uint256 from, uint256 to) {
        uint256 width = MAX_LEVELS - levels;
        return (index << width, (index + 1) << width);
    }
}
