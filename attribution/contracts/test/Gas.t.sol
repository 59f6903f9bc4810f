// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ChannelConfig, IChannels, Voucher, VoucherClaim} from "../src/IChannels.sol";
import {Claim, ISettlement, Leaf, Root} from "../src/ISettlement.sol";
import {Collector} from "../src/Collector.sol";
import {Authorizations} from "./Authorizations.sol";
import {Base} from "./Base.sol";
import {Tree, Trees} from "./Trees.sol";
import {ITestOpen, create, vm} from "./Vm.sol";

/// Gas of whole transactions, with 10,000 accounts in the tree and seven signers of 100 OPEN each. `node gas.mjs` runs it
/// with `--isolate`, which makes every call from here a transaction of its own, and writes gas.txt.
contract Gas is Base {
    using Trees for Tree;

    /// `label: gas`, which gas.mjs looks for.
    event Measured(string label, uint256 gas);

    IChannels private constant CHANNELS = IChannels(0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003);
    uint256 private constant PAYER = uint256(keccak256("payer"));
    uint256 private constant ACCOUNTS = 10_000;

    function measured(string memory label) private returns (uint256 gas) {
        gas = vm.lastCallGas().gasTotalUsed;
        emit Measured(label, gas);
    }

    /// 10,000 accounts that earned 0.001 OPEN more at every height.
    function large(uint128 times) private pure returns (Tree memory) {
        address[] memory accounts = new address[](ACCOUNTS);
        uint128[] memory balances = new uint128[](ACCOUNTS);
        for (uint256 i = 0; i < ACCOUNTS; ++i) {
            accounts[i] = address(uint160((i + 1) * 0x68db8bac710cb295e9e1b089a0275253db));
            balances[i] = times * (OPEN / 1000 + uint128(i) * 1e6);
        }
        return Trees.build(accounts, balances);
    }

    function claimed_(Tree memory tree, uint256 place) private {
        Claim[] memory claims = new Claim[](1);
        claims[0] = claimOf(key, tree.leaf(place));
        settlement.claim(claims);
    }

    function test_gas_of_settlement() public {
        give(sponsor, 10 * OPEN);
        vm.prank(sponsor);
        settlement.deposit(terms, 10 * OPEN);
        measured("deposit, later");
        give(stranger, 10 * OPEN);
        vm.prank(stranger);
        settlement.bond(terms, OPEN);
        measured("bond, first");
        pass(DAY);
        settlement.activate(key, stranger);
        measured("activate");
        vm.prank(stranger);
        settlement.unbond(terms, OPEN);
        measured("unbond, all");
        token.mint(settlement.till(key), OPEN);
        settlement.sweep(key);
        measured("sweep, first (deploys the till)");
        token.mint(settlement.till(key), OPEN);
        settlement.sweep(key);
        measured("sweep, later");
        Tree memory tree = large(1);
        eq(tree.hashes.length, 15, "14 levels");
        for (uint64 height = 1; height <= 4; ++height) {
            Tree memory next = large(height);
            Root memory root = rootOf(key, height, next, height * (OPEN / 2 - 12345));
            bytes memory signatures = signed(settlement.rootDigest(root), 7);
            settlement.post(terms, root, signatures);
            uint256 gas = measured(
                height == 1 ? "root, 7 signers, first" : height == 2 ? "root, 7 signers, second" : "root, 7 signers, later"
            );
            if (height > 2) yes(gas <= 120_000, "root above its target");
            pass(DAY);
            if (height == 1) claimed_(next, 5000);
            claimed_(next, 5001);
            // The first call after the window writes down that the root is accepted.
            measured(height == 1 ? "claim, first of an account" : "claim, later, first since the root");
            if (height == 1) continue;
            claimed_(next, 5000);
            gas = measured("claim, later");
            yes(gas <= 78_000, "claim above its target");
        }
    }

    function test_gas_of_evidence() public {
        pass(DAY);
        Tree memory tree = large(2);
        accept(1, tree);
        // All earn more but one, who loses a unit.
        Tree memory lower = large(3);
        lower.balances[5000] = tree.balances[5000] - 1;
        lower = Trees.raw(lower.accounts, lower.balances);
        Root memory root = post(2, lower);
        Leaf[] memory shown = new Leaf[](1);
        shown[0] = lower.leaf(5000);
        bytes memory signatures = signed(settlement.rootDigest(root), 7);
        settlement.slashLowered(root, signatures, tree.leaf(5000), shown);
        measured("slashLowered, 7 signers");
    }

    function voucher(ChannelConfig memory config, uint128 total) private view returns (VoucherClaim memory) {
        bytes32 digest = CHANNELS.getVoucherDigest(CHANNELS.getChannelId(config), total);
        return VoucherClaim(Voucher(config, total), sign(PAYER, digest), total);
    }

    /// By the payer's signatures, sent by somebody else.
    function authorizedDeposits(ChannelConfig memory config) private {
        address place = 0x4020806089470a89826cB9fB1f4059150b550004;
        vm.etch(place, vm.getDeployedCode("artifacts/Collector.json"));
        ITestOpen open = ITestOpen(config.token);
        config.salt = keccak256("authorized");
        bytes32 id = CHANNELS.getChannelId(config);
        for (uint256 salt = 1; salt <= 2; ++salt) {
            bytes32 digest = Authorizations.digest(
                open, config.payer, place, 10 * OPEN, 0, time + DAY, keccak256(abi.encode(id, salt))
            );
            bytes memory data = abi.encode(0, time + DAY, salt, sign(PAYER, digest));
            vm.prank(stranger);
            CHANNELS.deposit(config, 10 * OPEN, place, data);
            measured(salt == 1 ? "authorized deposit, first" : "authorized deposit, later");
        }
    }

    function test_gas_of_channels() public {
        vm.etch(address(CHANNELS), vm.getDeployedCode("artifacts/Channels.json"));
        Collector collector = Collector(create("Collector", ""));
        address payer = vm.addr(PAYER);
        token.mint(payer, 1000 * OPEN);
        vm.prank(payer);
        token.approve(address(collector), type(uint256).max);
        ChannelConfig[] memory configs = new ChannelConfig[](10);
        for (uint256 i = 0; i < 10; ++i) {
            configs[i] = ChannelConfig(
                payer, payer, settlement.till(key), stranger, address(token), 1 days, keccak256(abi.encode(i))
            );
            vm.prank(payer);
            collector.deposit(CHANNELS, configs[i], 10 * OPEN);
            if (i == 1) measured("deposit into a channel, first");
        }
        authorizedDeposits(configs[0]);
        for (uint128 total = OPEN; total <= 2 * OPEN; total += OPEN) {
            VoucherClaim[] memory claims = new VoucherClaim[](10);
            for (uint256 i = 0; i < 10; ++i) {
                claims[i] = voucher(configs[i], total);
            }
            vm.prank(stranger);
            CHANNELS.claim(claims);
            string memory when = total == OPEN ? "first" : "later";
            uint256 gas = measured(string.concat("ten vouchers in a batch, ", when));
            if (total > OPEN) yes(gas <= 250_000, "a voucher above its target");
        }
        VoucherClaim[] memory one = new VoucherClaim[](1);
        one[0] = voucher(configs[0], 3 * OPEN);
        vm.prank(stranger);
        CHANNELS.claim(one);
        measured("voucher alone, later");
        CHANNELS.settle(settlement.till(key), address(token));
        measured("settle, first");
        one[0] = voucher(configs[0], 4 * OPEN);
        vm.prank(stranger);
        CHANNELS.claim(one);
        CHANNELS.settle(settlement.till(key), address(token));
        measured("settle, later");
    }
}
