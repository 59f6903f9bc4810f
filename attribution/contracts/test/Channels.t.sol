// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

import {ChannelConfig, IChannels, IDepositCollector, Voucher, VoucherClaim} from "../src/IChannels.sol";
import {Collector} from "../src/Collector.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {FeeToken, ReentrantToken} from "./Tokens.sol";
import {Asserts, ITestOpen, create, vm} from "./Vm.sol";

/// Takes nothing from anybody, or takes it elsewhere.
contract LazyCollector is IDepositCollector {
    function collect(address, address, uint256, bytes32, bytes calldata) external {}
}

/// Poses as `Channels`, and collects from somebody else than the payer that called.
contract EvilChannels {
    address private immutable victim;

    constructor(address victim_) {
        victim = victim_;
    }

    function getChannelId(ChannelConfig calldata) external pure returns (bytes32) {
        return 0;
    }

    function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata) external {
        IDepositCollector(collector).collect(victim, config.token, amount, 0, "");
    }
}

/// A wallet that signs by contract (ERC-1271): one digest, with any bytes.
contract Wallet {
    bytes32 private immutable good;

    constructor(bytes32 digest) {
        good = digest;
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        return digest == good ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// Channels where x402's stock client expects them, by its runtime code alone.
contract ChannelsTest is Asserts {
    IChannels private constant CHANNELS = IChannels(0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003);
    uint128 private constant OPEN = 1e18;
    uint256 private constant PAYER = uint256(keccak256("payer"));
    uint256 private constant AUTHORIZER = uint256(keccak256("authorizer"));

    address private payer = vm.addr(PAYER);
    address private authorizer = vm.addr(AUTHORIZER);
    address private receiver = address(0x7111);
    address private stranger = address(0x5712a);
    uint256 private time = 1_800_000_000;
    ITestOpen private token;
    Collector private collector;
    ChannelConfig private config;
    bytes32 private id;

    function setUp() public {
        vm.warp(time);
        vm.etch(address(CHANNELS), vm.getDeployedCode("artifacts/Channels.json"));
        token = ITestOpen(create("TestOpen", ""));
        collector = Collector(create("Collector", ""));
        config = ChannelConfig(payer, address(0), receiver, authorizer, address(token), 1 days, bytes32(uint256(1)));
        id = CHANNELS.getChannelId(config);
        fund(config, 10 * OPEN);
    }

    function pass(uint256 by) private {
        time += by;
        vm.warp(time);
    }

    function fund(ChannelConfig memory of_, uint128 amount) private {
        token.mint(of_.payer, amount);
        vm.prank(of_.payer);
        token.approve(address(collector), type(uint256).max);
        vm.prank(of_.payer);
        collector.deposit(CHANNELS, of_, amount);
    }

    function sign(uint256 secret, bytes32 digest) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    function voucher(ChannelConfig memory of_, uint256 secret, uint128 most, uint128 total)
        private
        view
        returns (VoucherClaim memory)
    {
        bytes32 digest = CHANNELS.getVoucherDigest(CHANNELS.getChannelId(of_), most);
        return VoucherClaim(Voucher(of_, most), sign(secret, digest), total);
    }

    function one(VoucherClaim memory single) private pure returns (VoucherClaim[] memory claims) {
        claims = new VoucherClaim[](1);
        claims[0] = single;
    }

    function claim(uint128 most, uint128 total) private {
        VoucherClaim[] memory claims = one(voucher(config, PAYER, most, total));
        vm.prank(receiver);
        CHANNELS.claim(claims);
    }

    function state() private view returns (uint128 balance, uint128 claimed) {
        return CHANNELS.channels(id);
    }

    /// What the stock client made, claimed, settled and refunded for real.
    function test_what_the_stock_client_signs_is_accepted() public {
        string memory json = vm.readFile("test/golden.json");
        vm.chainId(vm.parseJsonUint(json, ".chain"));
        eq(vm.parseJsonAddress(json, ".contract"), address(CHANNELS), "where the client expects it");
        goldenChannel(json, ".own");
        goldenChannel(json, ".key");
    }

    function goldenChannel(string memory json, string memory where) private {
        ChannelConfig memory its = ChannelConfig(
            vm.parseJsonAddress(json, string.concat(where, ".payer")),
            vm.parseJsonAddress(json, string.concat(where, ".payerAuthorizer")),
            vm.parseJsonAddress(json, string.concat(where, ".receiver")),
            vm.parseJsonAddress(json, string.concat(where, ".receiverAuthorizer")),
            vm.parseJsonAddress(json, string.concat(where, ".token")),
            uint40(vm.parseJsonUint(json, string.concat(where, ".withdrawDelay"))),
            vm.parseJsonBytes32(json, string.concat(where, ".salt"))
        );
        bytes32 theirs = CHANNELS.getChannelId(its);
        eq(theirs, vm.parseJsonBytes32(json, string.concat(where, ".id")), "channel id");
        vm.etch(its.token, address(token).code);
        token = ITestOpen(its.token);
        fund(its, 10 * OPEN);
        VoucherClaim[] memory claims = one(
            VoucherClaim(
                Voucher(its, uint128(vm.parseJsonUint(json, string.concat(where, ".most")))),
                vm.parseJsonBytes(json, string.concat(where, ".voucher")),
                uint128(vm.parseJsonUint(json, string.concat(where, ".taken")))
            )
        );
        bytes32 digest = vm.parseJsonBytes32(json, string.concat(where, ".claimDigest"));
        eq(CHANNELS.getClaimBatchDigest(claims), digest, "batch digest");
        CHANNELS.claimWithSignature(claims, vm.parseJsonBytes(json, string.concat(where, ".claim")));
        uint256 before = token.balanceOf(its.receiver);
        CHANNELS.settle(its.receiver, its.token);
        eq(token.balanceOf(its.receiver) - before, 3 * OPEN, "settled");
        uint128 amount = uint128(vm.parseJsonUint(json, string.concat(where, ".refundAmount")));
        digest = vm.parseJsonBytes32(json, string.concat(where, ".refundDigest"));
        eq(CHANNELS.getRefundDigest(theirs, 0, amount), digest, "refund digest");
        before = token.balanceOf(its.payer);
        CHANNELS.refundWithSignature(its, amount, 0, vm.parseJsonBytes(json, string.concat(where, ".refund")));
        eq(token.balanceOf(its.payer) - before, OPEN, "refunded");
    }

    function test_a_channel_of_another_chain_or_contract_is_another_channel() public {
        IChannels second = IChannels(create("Channels", ""));
        yes(second.getChannelId(config) != id, "contract");
        vm.chainId(4711);
        yes(CHANNELS.getChannelId(config) != id, "chain");
    }

    function test_every_field_makes_another_channel() public view {
        for (uint256 field = 0; field < 7; ++field) {
            ChannelConfig memory other =
                ChannelConfig(payer, address(0), receiver, authorizer, address(token), 1 days, bytes32(uint256(1)));
            if (field == 0) other.payer = stranger;
            if (field == 1) other.payerAuthorizer = stranger;
            if (field == 2) other.receiver = stranger;
            if (field == 3) other.receiverAuthorizer = stranger;
            if (field == 4) other.token = stranger;
            if (field == 5) other.withdrawDelay += 1;
            if (field == 6) other.salt = 0;
            yes(CHANNELS.getChannelId(other) != id, "a field is not in the id");
        }
    }

    function test_senseless_channels_take_no_money() public {
        for (uint256 i = 0; i < 6; ++i) {
            ChannelConfig memory bad =
                ChannelConfig(payer, address(0), receiver, authorizer, address(token), 1 days, bytes32(uint256(1)));
            if (i == 0) bad.payer = address(0);
            if (i == 1) bad.receiver = address(0);
            if (i == 2) bad.receiverAuthorizer = address(0);
            if (i == 3) bad.token = address(0);
            if (i == 4) bad.withdrawDelay = 900 - 1;
            if (i == 5) bad.withdrawDelay = 2_592_000 + 1;
            vm.expectRevert(i < 4 ? IChannels.InvalidChannel.selector : IChannels.WithdrawDelayOutOfRange.selector);
            CHANNELS.deposit(bad, OPEN, address(collector), "");
        }
        vm.expectRevert(IChannels.NoAmount.selector);
        CHANNELS.deposit(config, 0, address(collector), "");
    }

    function test_a_collector_that_brings_nothing_funds_nothing() public {
        LazyCollector lazy = new LazyCollector();
        vm.expectRevert(IChannels.DepositCollectionFailed.selector);
        CHANNELS.deposit(config, OPEN, address(lazy), "");
    }

    function test_tokens_that_keep_a_fee_are_refused() public {
        FeeToken fee = new FeeToken();
        fee.mint(payer, 100 * OPEN);
        config.token = address(fee);
        vm.prank(payer);
        fee.approve(address(collector), type(uint256).max);
        vm.prank(payer);
        vm.expectRevert(IChannels.DepositCollectionFailed.selector);
        collector.deposit(CHANNELS, config, 100 * OPEN);
    }

    function test_nobody_funds_a_channel_from_an_allowance_of_another() public {
        token.mint(payer, 5 * OPEN);
        ChannelConfig memory theft = config;
        (theft.payerAuthorizer, theft.receiver, theft.receiverAuthorizer) = (stranger, stranger, stranger);
        vm.prank(stranger);
        vm.expectRevert(Collector.NotAskedFor.selector);
        CHANNELS.deposit(theft, 5 * OPEN, address(collector), "");
        vm.prank(stranger);
        vm.expectRevert(Collector.NotPayer.selector);
        collector.deposit(CHANNELS, theft, 5 * OPEN);
        vm.prank(stranger);
        vm.expectRevert(Collector.NotAskedFor.selector);
        collector.collect(payer, address(token), OPEN, id, "");
    }

    function test_other_contracts_collect_only_what_their_own_caller_asked_for() public {
        token.mint(payer, 5 * OPEN);
        EvilChannels evil = new EvilChannels(payer);
        ChannelConfig memory theft = config;
        theft.payer = stranger;
        vm.prank(stranger);
        vm.expectRevert(Collector.NotAskedFor.selector);
        collector.deposit(IChannels(address(evil)), theft, 5 * OPEN);
    }

    function test_vouchers_are_cumulative_and_paid_once() public {
        vm.expectEmit();
        emit IChannels.Claimed(id, receiver, 2 * OPEN, 2 * OPEN);
        claim(3 * OPEN, 2 * OPEN);
        claim(3 * OPEN, 2 * OPEN);
        claim(4 * OPEN, OPEN);
        (uint128 balance, uint128 claimed) = state();
        eq(balance, 10 * OPEN, "balance");
        eq(claimed, 2 * OPEN, "once");
        claim(6 * OPEN, 5 * OPEN);
        CHANNELS.settle(receiver, address(token));
        CHANNELS.settle(receiver, address(token));
        eq(token.balanceOf(receiver), 5 * OPEN, "paid once");
        (uint128 total, uint128 settled) = CHANNELS.receivers(receiver, address(token));
        eq(total, settled, "all settled");
    }

    function test_no_more_is_claimed_than_was_signed_or_is_there() public {
        VoucherClaim[] memory claims = one(voucher(config, PAYER, 3 * OPEN, 3 * OPEN + 1));
        vm.prank(receiver);
        vm.expectRevert(IChannels.ClaimExceedsCeiling.selector);
        CHANNELS.claim(claims);
        claims = one(voucher(config, PAYER, 20 * OPEN, 10 * OPEN + 1));
        vm.prank(receiver);
        vm.expectRevert(IChannels.ClaimExceedsBalance.selector);
        CHANNELS.claim(claims);
    }

    function test_only_the_receivers_side_claims() public {
        VoucherClaim[] memory claims = one(voucher(config, PAYER, OPEN, OPEN));
        vm.prank(payer);
        vm.expectRevert(IChannels.NotReceiver.selector);
        CHANNELS.claim(claims);
        bytes memory signature = sign(PAYER, CHANNELS.getClaimBatchDigest(claims));
        vm.expectRevert(IChannels.InvalidSignature.selector);
        CHANNELS.claimWithSignature(claims, signature);
        vm.prank(authorizer);
        CHANNELS.claim(claims);
        vm.expectRevert(IChannels.EmptyBatch.selector);
        CHANNELS.claim(new VoucherClaim[](0));
        vm.expectRevert(IChannels.EmptyBatch.selector);
        CHANNELS.claimWithSignature(new VoucherClaim[](0), "");
    }

    function test_a_voucher_is_signed_by_the_payer_or_its_authorizer_alone() public {
        VoucherClaim[] memory claims = one(voucher(config, AUTHORIZER, OPEN, OPEN));
        vm.prank(receiver);
        vm.expectRevert(IChannels.InvalidSignature.selector);
        CHANNELS.claim(claims);
        config.payerAuthorizer = vm.addr(7);
        fund(config, OPEN);
        claims = one(voucher(config, PAYER, OPEN, OPEN));
        vm.prank(receiver);
        vm.expectRevert(IChannels.InvalidSignature.selector);
        CHANNELS.claim(claims);
        claims = one(voucher(config, 7, OPEN, OPEN));
        vm.prank(receiver);
        CHANNELS.claim(claims);
        claims[0].signature = abi.encodePacked(claims[0].signature, bytes1(0));
        claims[0].totalClaimed = claims[0].voucher.maxClaimableAmount = 2 * OPEN;
        fund(config, OPEN);
        vm.prank(receiver);
        vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureLength.selector, 66));
        CHANNELS.claim(claims);
    }

    function test_a_payer_may_be_a_contract() public {
        ChannelConfig memory its = config;
        // The wallet's address is part of the digest that it is to sign: it is put there afterwards.
        its.payer = address(0xC0417AC7);
        bytes32 digest = CHANNELS.getVoucherDigest(CHANNELS.getChannelId(its), OPEN);
        fund(its, OPEN);
        vm.etch(its.payer, address(new Wallet(digest)).code);
        VoucherClaim[] memory claims = one(VoucherClaim(Voucher(its, OPEN), "anything", OPEN));
        vm.prank(receiver);
        CHANNELS.claim(claims);
        (, uint128 claimed) = CHANNELS.channels(CHANNELS.getChannelId(its));
        eq(claimed, OPEN, "claimed");
    }

    function test_a_signed_batch_has_one_authorizer() public {
        ChannelConfig memory other = config;
        other.receiverAuthorizer = stranger;
        fund(other, OPEN);
        VoucherClaim[] memory claims = new VoucherClaim[](2);
        claims[0] = voucher(config, PAYER, OPEN, OPEN);
        claims[1] = voucher(other, PAYER, OPEN, OPEN);
        bytes memory signature = sign(AUTHORIZER, CHANNELS.getClaimBatchDigest(claims));
        vm.expectRevert(IChannels.NotReceiverAuthorizer.selector);
        CHANNELS.claimWithSignature(claims, signature);
    }

    function test_a_payer_takes_back_what_is_not_claimed_after_the_delay() public {
        vm.prank(stranger);
        vm.expectRevert(IChannels.NotPayer.selector);
        CHANNELS.initiateWithdraw(config, OPEN);
        vm.prank(payer);
        vm.expectRevert(IChannels.NoAmount.selector);
        CHANNELS.initiateWithdraw(config, 0);
        vm.prank(payer);
        vm.expectRevert(IChannels.WithdrawAmountExceedsAvailable.selector);
        CHANNELS.initiateWithdraw(config, 10 * OPEN + 1);
        vm.prank(payer);
        vm.expectRevert(IChannels.WithdrawalNotPending.selector);
        CHANNELS.finalizeWithdraw(config);
        vm.prank(payer);
        CHANNELS.initiateWithdraw(config, 10 * OPEN);
        vm.prank(payer);
        vm.expectRevert(IChannels.WithdrawalAlreadyPending.selector);
        CHANNELS.initiateWithdraw(config, OPEN);
        pass(1 days - 1);
        vm.prank(payer);
        vm.expectRevert(IChannels.WithdrawDelayNotElapsed.selector);
        CHANNELS.finalizeWithdraw(config);
        claim(4 * OPEN, 4 * OPEN);
        pass(1);
        vm.prank(stranger);
        vm.expectRevert(IChannels.NotPayer.selector);
        CHANNELS.finalizeWithdraw(config);
        vm.prank(payer);
        CHANNELS.finalizeWithdraw(config);
        eq(token.balanceOf(payer), 6 * OPEN, "what was not claimed");
        CHANNELS.settle(receiver, address(token));
        eq(token.balanceOf(receiver), 4 * OPEN, "what was");
        eq(token.balanceOf(address(CHANNELS)), 0, "nothing is left");
    }

    function test_a_withdrawal_is_finalised_once() public {
        vm.prank(payer);
        CHANNELS.initiateWithdraw(config, 2 * OPEN);
        pass(1 days);
        vm.prank(payer);
        CHANNELS.finalizeWithdraw(config);
        vm.prank(payer);
        vm.expectRevert(IChannels.WithdrawalNotPending.selector);
        CHANNELS.finalizeWithdraw(config);
        eq(token.balanceOf(payer), 2 * OPEN, "once");
    }

    function test_what_is_withdrawn_cannot_be_claimed() public {
        vm.prank(payer);
        CHANNELS.initiateWithdraw(config, 8 * OPEN);
        pass(1 days);
        vm.prank(payer);
        CHANNELS.finalizeWithdraw(config);
        VoucherClaim[] memory claims = one(voucher(config, PAYER, 5 * OPEN, 5 * OPEN));
        vm.prank(receiver);
        vm.expectRevert(IChannels.ClaimExceedsBalance.selector);
        CHANNELS.claim(claims);
    }

    function test_the_receivers_side_gives_back_at_once() public {
        vm.prank(payer);
        vm.expectRevert(IChannels.NotReceiver.selector);
        CHANNELS.refund(config, OPEN);
        vm.prank(receiver);
        vm.expectRevert(IChannels.NoAmount.selector);
        CHANNELS.refund(config, 0);
        vm.prank(payer);
        CHANNELS.initiateWithdraw(config, 5 * OPEN);
        vm.prank(receiver);
        CHANNELS.refund(config, 2 * OPEN);
        (uint128 waiting,) = CHANNELS.pendingWithdrawals(id);
        eq(waiting, 3 * OPEN, "what comes now need not come later");
        claim(6 * OPEN, 6 * OPEN);
        vm.prank(authorizer);
        CHANNELS.refund(config, 100 * OPEN);
        eq(token.balanceOf(payer), 4 * OPEN, "no more than is not claimed");
        (uint128 balance, uint128 claimed) = state();
        eq(balance, claimed, "the rest is claimed");
        eq(CHANNELS.refundNonce(id), 2, "nonce");
    }

    function test_a_refund_of_all_ends_the_withdrawal() public {
        vm.prank(payer);
        CHANNELS.initiateWithdraw(config, 2 * OPEN);
        vm.prank(receiver);
        CHANNELS.refund(config, 3 * OPEN);
        (, uint40 since) = CHANNELS.pendingWithdrawals(id);
        eq(since, 0, "ended");
    }

    function test_a_signed_refund_is_good_once() public {
        bytes memory signature = sign(AUTHORIZER, CHANNELS.getRefundDigest(id, 0, OPEN));
        vm.expectRevert(IChannels.InvalidSignature.selector);
        CHANNELS.refundWithSignature(config, 2 * OPEN, 0, signature);
        vm.expectRevert(IChannels.InvalidRefundNonce.selector);
        CHANNELS.refundWithSignature(config, OPEN, 1, signature);
        CHANNELS.refundWithSignature(config, OPEN, 0, signature);
        vm.expectRevert(IChannels.InvalidRefundNonce.selector);
        CHANNELS.refundWithSignature(config, OPEN, 0, signature);
        eq(token.balanceOf(payer), OPEN, "once");
    }

    function test_several_calls_go_in_one() public {
        VoucherClaim[] memory claims = one(voucher(config, PAYER, OPEN, OPEN));
        bytes[] memory calls = new bytes[](2);
        bytes memory signature = sign(AUTHORIZER, CHANNELS.getClaimBatchDigest(claims));
        calls[0] = abi.encodeCall(IChannels.claimWithSignature, (claims, signature));
        calls[1] = abi.encodeCall(IChannels.settle, (receiver, address(token)));
        Multicall(address(CHANNELS)).multicall(calls);
        eq(token.balanceOf(receiver), OPEN, "claimed and settled");
    }

    function test_channels_of_one_token_do_not_touch_each_other() public {
        ChannelConfig memory other = config;
        other.salt = 0;
        fund(other, 3 * OPEN);
        claim(10 * OPEN, 10 * OPEN);
        vm.prank(payer);
        vm.expectRevert(IChannels.WithdrawAmountExceedsAvailable.selector);
        CHANNELS.initiateWithdraw(other, 3 * OPEN + 1);
        VoucherClaim[] memory claims = one(voucher(other, PAYER, 4 * OPEN, 4 * OPEN));
        vm.prank(receiver);
        vm.expectRevert(IChannels.ClaimExceedsBalance.selector);
        CHANNELS.claim(claims);
    }

    function test_a_token_that_calls_back_comes_nowhere() public {
        ReentrantToken bad = new ReentrantToken();
        config.token = address(bad);
        bad.mint(payer, 10 * OPEN);
        vm.prank(payer);
        bad.approve(address(collector), type(uint256).max);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(IChannels.settle, (receiver, address(bad)));
        calls[1] = abi.encodeCall(IChannels.deposit, (config, OPEN, address(collector), ""));
        bad.arm(address(CHANNELS), calls);
        vm.prank(payer);
        collector.deposit(CHANNELS, config, 10 * OPEN);
        VoucherClaim[] memory claims = one(voucher(config, PAYER, 2 * OPEN, 2 * OPEN));
        vm.prank(receiver);
        CHANNELS.claim(claims);
        CHANNELS.settle(receiver, address(bad));
        eq(bad.balanceOf(receiver), 2 * OPEN, "once");
        eq(bad.tried(), 4, "it tried");
        eq(bad.came(), 0, "came through");
    }

    /// A consumer's payment, by channel and till, as far as the run's fees.
    function test_a_voucher_becomes_a_fee_of_the_run() public {
        ISettlement settlement = ISettlement(create("Settlement", abi.encode(token, false)));
        bytes32 run = keccak256("run");
        config.receiver = settlement.till(run);
        fund(config, 5 * OPEN);
        VoucherClaim[] memory claims = one(voucher(config, PAYER, 5 * OPEN, 5 * OPEN));
        CHANNELS.claimWithSignature(claims, sign(AUTHORIZER, CHANNELS.getClaimBatchDigest(claims)));
        CHANNELS.settle(config.receiver, address(token));
        settlement.sweep(run);
        eq(settlement.runs(run).fees, 5 * OPEN, "fees");
    }
}
