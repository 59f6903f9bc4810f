// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISettlement, Root, Terms} from "../src/ISettlement.sol";
import {Asserts, create, vm} from "./Vm.sol";

/// What members sign is what viem makes of the same typed data.
contract GoldenTest is Asserts {
    string private json = vm.readFile("test/golden.json");

    function number(string memory name) private view returns (uint256) {
        return vm.parseJsonUint(json, string.concat(".settlement.", name));
    }

    function word(string memory name) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, string.concat(".settlement.", name));
    }

    function place(string memory name) private view returns (address) {
        return vm.parseJsonAddress(json, string.concat(".settlement.", name));
    }

    function test_keys_and_digests_are_those_of_viem() public {
        vm.chainId(vm.parseJsonUint(json, ".chain"));
        // The domain follows the address: the code works where it is put.
        ISettlement settlement = ISettlement(place("contract"));
        vm.etch(address(settlement), create("Settlement", abi.encode(address(this), false)).code);
        Terms memory terms = Terms({
            run: word("terms.run"),
            sponsor: place("terms.sponsor"),
            arbiter: place("terms.arbiter"),
            rate: uint128(number("terms.rate")),
            challengeBond: uint128(number("terms.challengeBond")),
            minStake: uint128(number("terms.minStake")),
            window: uint64(number("terms.window")),
            cooldown: uint64(number("terms.cooldown")),
            halt: uint64(number("terms.halt"))
        });
        bytes32 key = settlement.keyOf(terms);
        eq(key, word("key"), "key");
        Root memory root = Root({
            run: key,
            height: uint64(number("root.height")),
            balances: word("root.balances"),
            total: uint128(number("root.total")),
            fees: uint128(number("root.fees")),
            lines: word("root.lines"),
            closed: true
        });
        bytes32 digest = settlement.rootDigest(root);
        eq(digest, word("rootDigest"), "root");
        eq(settlement.confirmDigest(key, root.height, digest), word("confirmDigest"), "confirm");
        bytes32 slash =
            settlement.slashDigest(key, place("slash.account"), uint128(number("slash.amount")), word("slash.evidence"));
        eq(slash, word("slashDigest"), "slash");
    }
}
