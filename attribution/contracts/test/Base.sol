// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Claim, ISettlement, Leaf, Root, RunView, Sentence, Stake, Terms} from "../src/ISettlement.sol";
import {Tree, Trees} from "./Trees.sol";
import {Asserts, ITestOpen, create, vm} from "./Vm.sol";

/// A settlement with one funded run, and seven members with 100 OPEN of stake each that counts.
abstract contract Base is Asserts {
    using Trees for Tree;

    uint128 internal constant OPEN = 1e18;
    uint64 internal constant DAY = 1 days;

    ITestOpen internal token;
    ISettlement internal settlement;
    Terms internal terms;
    bytes32 internal key;
    /// Secrets of the members, by ascending address.
    uint256[] internal members;
    address internal sponsor = address(0x5901);
    address internal stranger = address(0x5712a);
    /// With `viaIR`, `block.timestamp` counts as constant within a test: this is the time.
    uint256 internal time = 1_800_000_000;

    function setUp() public virtual {
        vm.warp(time);
        token = ITestOpen(create("TestOpen", ""));
        settlement = ISettlement(create("Settlement", abi.encode(token, false)));
        terms = Terms({
            run: keccak256("run"),
            sponsor: sponsor,
            arbiter: address(0),
            rate: OPEN / 100,
            challengeBond: 5 * OPEN,
            minStake: 0,
            window: DAY,
            cooldown: 14 * DAY,
            halt: 30 * DAY
        });
        key = settlement.keyOf(terms);
        makeMembers(7);
        for (uint256 i = 0; i < 7; ++i) {
            bondAs(terms, vm.addr(members[i]), 100 * OPEN);
        }
        pass(DAY);
        for (uint256 i = 0; i < 7; ++i) {
            settlement.activate(key, vm.addr(members[i]));
        }
        depositAs(terms, sponsor, 1000 * OPEN);
    }

    function pass(uint256 by) internal {
        time += by;
        vm.warp(time);
    }

    function makeMembers(uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            members.push(uint256(keccak256(abi.encode("member", i))));
            for (uint256 j = i; j > 0 && vm.addr(members[j]) < vm.addr(members[j - 1]); --j) {
                (members[j], members[j - 1]) = (members[j - 1], members[j]);
            }
        }
    }

    function give(address account, uint256 amount) internal {
        token.mint(account, amount);
        vm.prank(account);
        token.approve(address(settlement), type(uint256).max);
    }

    function bondAs(Terms memory of_, address account, uint128 amount) internal {
        give(account, amount);
        vm.prank(account);
        settlement.bond(of_, amount);
    }

    function depositAs(Terms memory of_, address account, uint128 amount) internal {
        give(account, amount);
        vm.prank(account);
        settlement.deposit(of_, amount);
    }

    /// A tree of two accounts, 0xA11CE and 0xB0B.
    function pairTree(uint128 bob, uint128 alice) internal pure returns (Tree memory) {
        address[] memory accounts = new address[](2);
        uint128[] memory balances = new uint128[](2);
        (accounts[0], accounts[1]) = (BOB, ALICE);
        (balances[0], balances[1]) = (bob, alice);
        return Trees.build(accounts, balances);
    }

    address internal constant BOB = address(0xB0B);
    address internal constant ALICE = address(0xA11CE);

    function rootOf(bytes32 run, uint64 height, Tree memory tree) internal pure returns (Root memory) {
        return rootOf(run, height, tree, 0);
    }

    /// The same where fees cover so much of it.
    function rootOf(bytes32 run, uint64 height, Tree memory tree, uint128 fees) internal pure returns (Root memory) {
        return Root(run, height, tree.root(), tree.total(), fees, bytes32(uint256(height)), false);
    }

    function sign(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    /// Signatures of the first `count` members.
    function signed(bytes32 digest, uint256 count) internal view returns (bytes memory all) {
        for (uint256 i = 0; i < count; ++i) {
            all = abi.encodePacked(all, sign(members[i], digest));
        }
    }

    function postAs(Root memory root, uint256 count) internal {
        bytes memory signatures = signed(settlement.rootDigest(root), count);
        settlement.post(terms, root, signatures);
    }

    /// Posts a root over the tree, signed by all.
    function post(uint64 height, Tree memory tree) internal returns (Root memory root) {
        return post(height, tree, 0);
    }

    /// Posts a root over the tree, of which fees cover so much, signed by all.
    function post(uint64 height, Tree memory tree, uint128 fees) internal returns (Root memory root) {
        root = rootOf(key, height, tree, fees);
        postAs(root, 7);
    }

    /// Posts and waits until it is accepted.
    function accept(uint64 height, Tree memory tree) internal returns (Root memory root) {
        return accept(height, tree, 0);
    }

    function accept(uint64 height, Tree memory tree, uint128 fees) internal returns (Root memory root) {
        root = post(height, tree, fees);
        pass(DAY);
    }

    function claimOf(bytes32 run, Leaf memory leaf) internal pure returns (Claim memory) {
        return Claim(run, leaf.account, leaf.balance, leaf.index, leaf.proof, false);
    }

    function claimOne(bytes32 run, Tree memory tree, address account) internal {
        Claim[] memory claims = new Claim[](1);
        claims[0] = claimOf(run, tree.leaf(tree.find(account)));
        settlement.claim(claims);
    }

    function view_() internal view returns (RunView memory) {
        return settlement.runs(key);
    }

    function stakeOf(address account) internal view returns (Stake memory stake) {
        (stake,) = settlement.stakes(key, account);
    }
}
