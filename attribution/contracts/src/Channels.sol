// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {
    Channel,
    ChannelConfig,
    IChannels,
    IDepositCollector,
    Receiver,
    VoucherClaim,
    Withdrawal
} from "./IChannels.sol";

/// Payment channels of x402's `batch-settlement` scheme: functions, typed data and domain are those of version
/// 2.27.0 of npm's package x402/evm, so that its stock client pays here. That client fixes the address, which is why nothing depends on where
/// the code stands or on a constructor having run there: no immutables, no storage but what callers make, and a domain
/// that follows address and chain.
///
/// A channel has one payer, who signs cumulative vouchers, and one receiver. Claims only count; `settle` pays a receiver
/// everything that was claimed for it. Vouchers reserve nothing: what is not claimed before a withdrawal is final is the
/// payer's. Channels of one token share one balance of this contract, and each takes only what was paid into it.
contract Channels is IChannels, Multicall, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// Seconds; the bounds that the client checks.
    uint40 public constant MIN_WITHDRAW_DELAY = 15 minutes;
    uint40 public constant MAX_WITHDRAW_DELAY = 30 days;

    bytes32 public constant CHANNEL_CONFIG_TYPEHASH = keccak256(
        "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
    );
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");
    bytes32 private constant REFUND_TYPEHASH = keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)");
    bytes32 private constant ENTRY_TYPEHASH =
        keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");
    bytes32 private constant BATCH_TYPEHASH = keccak256(
        "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
    );

    mapping(bytes32 channelId => Channel) public channels;
    mapping(bytes32 channelId => Withdrawal) public pendingWithdrawals;
    mapping(address receiver => mapping(address token => Receiver)) public receivers;
    /// Counts refunds, so that a signed one is good once.
    mapping(bytes32 channelId => uint256) public refundNonce;

    /// Pays into a channel what `collector` brings, which is trusted with nothing: what arrived is counted.
    function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData)
        external
        nonReentrant
    {
        if (
            config.payer == address(0) || config.receiver == address(0) || config.receiverAuthorizer == address(0)
                || config.token == address(0)
        ) revert InvalidChannel();
        if (config.withdrawDelay < MIN_WITHDRAW_DELAY || config.withdrawDelay > MAX_WITHDRAW_DELAY) {
            revert WithdrawDelayOutOfRange();
        }
        if (amount == 0) revert NoAmount();
        bytes32 id = getChannelId(config);
        Channel storage channel = channels[id];
        if (channel.balance == 0) emit ChannelCreated(id, config);
        channel.balance += amount;
        emit Deposited(id, msg.sender, amount, channel.balance);
        uint256 before = IERC20(config.token).balanceOf(address(this));
        IDepositCollector(collector).collect(config.payer, config.token, amount, id, collectorData);
        if (IERC20(config.token).balanceOf(address(this)) != before + amount) revert DepositCollectionFailed();
    }

    /// Counts vouchers for their receivers; sent by the receiver or its authorizer.
    function claim(VoucherClaim[] calldata voucherClaims) external nonReentrant {
        uint256 count = voucherClaims.length;
        if (count == 0) revert EmptyBatch();
        bytes32 domain = _domain();
        for (uint256 i = 0; i < count; ++i) {
            _requireReceiver(voucherClaims[i].voucher.channel);
            _claim(domain, voucherClaims[i]);
        }
    }

    /// Counts vouchers of channels that have one receiver authorizer, by its signature over the batch; sent by anyone.
    function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature)
        external
        nonReentrant
    {
        uint256 count = voucherClaims.length;
        if (count == 0) revert EmptyBatch();
        address authorizer = voucherClaims[0].voucher.channel.receiverAuthorizer;
        _requireSigned(authorizer, getClaimBatchDigest(voucherClaims), authorizerSignature);
        bytes32 domain = _domain();
        for (uint256 i = 0; i < count; ++i) {
            if (voucherClaims[i].voucher.channel.receiverAuthorizer != authorizer) revert NotReceiverAuthorizer();
            _claim(domain, voucherClaims[i]);
        }
    }

    /// Pays a receiver what was claimed for it in a token. Anyone may call it.
    function settle(address receiver, address token) external nonReentrant {
        Receiver storage its = receivers[receiver][token];
        uint128 amount = its.totalClaimed - its.totalSettled;
        if (amount == 0) return;
        its.totalSettled += amount;
        emit Settled(receiver, token, msg.sender, amount);
        IERC20(token).safeTransfer(receiver, amount);
    }

    /// Announces that the payer takes back `amount` of what is not claimed; the receiver has the delay to claim.
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        _requirePayer(config);
        if (amount == 0) revert NoAmount();
        bytes32 id = getChannelId(config);
        Withdrawal storage withdrawal = pendingWithdrawals[id];
        if (withdrawal.initiatedAt != 0) revert WithdrawalAlreadyPending();
        if (amount > _unclaimed(id)) revert WithdrawAmountExceedsAvailable();
        withdrawal.amount = amount;
        withdrawal.initiatedAt = uint40(block.timestamp);
        emit WithdrawInitiated(id, amount, uint40(block.timestamp) + config.withdrawDelay);
    }

    /// Gives back what was announced, or what is left of it.
    function finalizeWithdraw(ChannelConfig calldata config) external nonReentrant {
        _requirePayer(config);
        bytes32 id = getChannelId(config);
        Withdrawal memory withdrawal = pendingWithdrawals[id];
        if (withdrawal.initiatedAt == 0) revert WithdrawalNotPending();
        if (block.timestamp < uint256(withdrawal.initiatedAt) + config.withdrawDelay) revert WithdrawDelayNotElapsed();
        delete pendingWithdrawals[id];
        uint128 amount = _least(withdrawal.amount, _unclaimed(id));
        emit WithdrawFinalized(id, msg.sender, amount);
        _giveBack(config, id, amount);
    }

    /// Gives the payer up to `amount` of what is not claimed, at once; sent by the receiver or its authorizer.
    function refund(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        _requireReceiver(config);
        _refund(config, getChannelId(config), amount);
    }

    /// The same by the receiver authorizer's signature; sent by anyone.
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata receiverAuthorizerSignature
    ) external nonReentrant {
        bytes32 id = getChannelId(config);
        if (nonce != refundNonce[id]) revert InvalidRefundNonce();
        _requireSigned(config.receiverAuthorizer, getRefundDigest(id, nonce, amount), receiverAuthorizerSignature);
        _refund(config, id, amount);
    }

    function getChannelId(ChannelConfig calldata config) public view returns (bytes32) {
        return _channelId(_domain(), config);
    }

    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) public view returns (bytes32) {
        return _voucherDigest(_domain(), channelId, maxClaimableAmount);
    }

    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) public view returns (bytes32) {
        return _digest(_domain(), keccak256(abi.encode(REFUND_TYPEHASH, channelId, nonce, amount)));
    }

    function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) public view returns (bytes32) {
        bytes32 domain = _domain();
        bytes32[] memory entries = new bytes32[](voucherClaims.length);
        for (uint256 i = 0; i < entries.length; ++i) {
            VoucherClaim calldata one = voucherClaims[i];
            bytes32 id = _channelId(domain, one.voucher.channel);
            entries[i] =
                keccak256(abi.encode(ENTRY_TYPEHASH, id, one.voucher.maxClaimableAmount, one.totalClaimed));
        }
        return _digest(domain, keccak256(abi.encode(BATCH_TYPEHASH, keccak256(abi.encodePacked(entries)))));
    }

    /// Counts one voucher. One that was counted already is skipped, so that it does not undo a batch.
    function _claim(bytes32 domain, VoucherClaim calldata one) private {
        ChannelConfig calldata config = one.voucher.channel;
        bytes32 id = _channelId(domain, config);
        Channel storage channel = channels[id];
        (uint128 balance, uint128 before) = (channel.balance, channel.totalClaimed);
        uint128 total = one.totalClaimed;
        if (total <= before) return;
        uint128 most = one.voucher.maxClaimableAmount;
        if (total > most) revert ClaimExceedsCeiling();
        if (total > balance) revert ClaimExceedsBalance();
        bytes32 digest = _voucherDigest(domain, id, most);
        if (config.payerAuthorizer == address(0)) {
            _requireSigned(config.payer, digest, one.signature);
        } else if (ECDSA.recoverCalldata(digest, one.signature) != config.payerAuthorizer) {
            revert InvalidSignature();
        }
        uint128 amount = total - before;
        channel.totalClaimed = total;
        receivers[config.receiver][config.token].totalClaimed += amount;
        emit Claimed(id, msg.sender, amount, total);
    }

    /// The nonce moves even if nothing is left to give back: a signature is used up by its call.
    function _refund(ChannelConfig calldata config, bytes32 id, uint128 most) private {
        if (most == 0) revert NoAmount();
        refundNonce[id] += 1;
        uint128 amount = _least(most, _unclaimed(id));
        if (amount == 0) return;
        Withdrawal storage withdrawal = pendingWithdrawals[id];
        if (withdrawal.initiatedAt != 0) {
            // What comes back now need not come back later.
            if (amount < withdrawal.amount) withdrawal.amount -= amount;
            else delete pendingWithdrawals[id];
        }
        emit Refunded(id, msg.sender, amount);
        _giveBack(config, id, amount);
    }

    function _giveBack(ChannelConfig calldata config, bytes32 id, uint128 amount) private {
        if (amount == 0) return;
        channels[id].balance -= amount;
        IERC20(config.token).safeTransfer(config.payer, amount);
    }

    function _unclaimed(bytes32 id) private view returns (uint128) {
        Channel storage channel = channels[id];
        return channel.balance - channel.totalClaimed;
    }

    function _channelId(bytes32 domain, ChannelConfig calldata config) private pure returns (bytes32) {
        return _digest(domain, keccak256(abi.encode(CHANNEL_CONFIG_TYPEHASH, config)));
    }

    function _voucherDigest(bytes32 domain, bytes32 id, uint128 most) private pure returns (bytes32) {
        return _digest(domain, keccak256(abi.encode(VOUCHER_TYPEHASH, id, most)));
    }

    function _domain() private view returns (bytes32) {
        bytes32 name = keccak256("x402 Batch Settlement");
        return keccak256(abi.encode(DOMAIN_TYPEHASH, name, keccak256("1"), block.chainid, address(this)));
    }

    function _digest(bytes32 domain, bytes32 hash) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, hash));
    }

    function _requirePayer(ChannelConfig calldata config) private view {
        if (msg.sender != config.payer && msg.sender != config.payerAuthorizer) revert NotPayer();
    }

    function _requireReceiver(ChannelConfig calldata config) private view {
        if (msg.sender != config.receiver && msg.sender != config.receiverAuthorizer) revert NotReceiver();
    }

    function _requireSigned(address signer, bytes32 digest, bytes calldata signature) private view {
        if (!SignatureChecker.isValidSignatureNowCalldata(signer, digest, signature)) revert InvalidSignature();
    }

    function _least(uint128 a, uint128 b) private pure returns (uint128) {
        return a < b ? a : b;
    }
}
