// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// What makes a channel; its EIP-712 hash is the channel's id. Fields and names are x402's.
struct ChannelConfig {
    /// Whose money it is.
    address payer;
    /// Signs vouchers; 0: the payer does, as a contract too (ERC-1271).
    address payerAuthorizer;
    /// Who is paid; for a run its till.
    address receiver;
    /// Speaks for the receiver.
    address receiverAuthorizer;
    address token;
    /// Seconds from `initiateWithdraw` to `finalizeWithdraw`.
    uint40 withdrawDelay;
    bytes32 salt;
}

/// A promise of a total so far; a later one replaces it.
struct Voucher {
    ChannelConfig channel;
    uint128 maxClaimableAmount;
}

struct VoucherClaim {
    Voucher voucher;
    bytes signature;
    /// The total that the receiver takes of it, cumulative.
    uint128 totalClaimed;
}

struct Channel {
    /// Everything paid in and not given back; what was claimed stays in it.
    uint128 balance;
    uint128 totalClaimed;
}

struct Withdrawal {
    uint128 amount;
    /// 0: none.
    uint40 initiatedAt;
}

struct Receiver {
    uint128 totalClaimed;
    uint128 totalSettled;
}

/// Brings a payer's tokens to `Channels`, which asks for them in `deposit`.
interface IDepositCollector {
    /// Sends exactly `amount` of the payer's `token` to the caller, or reverts.
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata data) external;
}

/// `Channels`, as others call it: what the ABI in npm's package x402/evm has, and events and errors. What each function
/// does stands in `Channels.sol`.
interface IChannels {
    function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData)
        external;
    function claim(VoucherClaim[] calldata voucherClaims) external;
    function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature) external;
    function settle(address receiver, address token) external;
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external;
    function finalizeWithdraw(ChannelConfig calldata config) external;
    function refund(ChannelConfig calldata config, uint128 amount) external;
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata receiverAuthorizerSignature
    ) external;

    function getChannelId(ChannelConfig calldata config) external view returns (bytes32);
    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) external view returns (bytes32);
    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) external view returns (bytes32);
    function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) external view returns (bytes32);
    function channels(bytes32 channelId) external view returns (uint128 balance, uint128 totalClaimed);
    function pendingWithdrawals(bytes32 channelId) external view returns (uint128 amount, uint40 initiatedAt);
    function receivers(address receiver, address token)
        external
        view
        returns (uint128 totalClaimed, uint128 totalSettled);
    function refundNonce(bytes32 channelId) external view returns (uint256);

    event ChannelCreated(bytes32 indexed channelId, ChannelConfig config);
    event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newBalance);
    event Claimed(bytes32 indexed channelId, address indexed sender, uint128 claimAmount, uint128 newTotalClaimed);
    event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
    event WithdrawInitiated(bytes32 indexed channelId, uint128 amount, uint40 finalizeAfter);
    event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);
    event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);

    /// A party of the channel, or its token, is the zero address.
    error InvalidChannel();
    error WithdrawDelayOutOfRange();
    error NoAmount();
    /// The collector brought another amount.
    error DepositCollectionFailed();
    error EmptyBatch();
    error InvalidSignature();
    error NotReceiver();
    error NotPayer();
    /// A batch that one authorizer signed has a channel of another.
    error NotReceiverAuthorizer();
    error ClaimExceedsCeiling();
    error ClaimExceedsBalance();
    error WithdrawalAlreadyPending();
    error WithdrawalNotPending();
    error WithdrawDelayNotElapsed();
    error WithdrawAmountExceedsAvailable();
    error InvalidRefundNonce();
}
