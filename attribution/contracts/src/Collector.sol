// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {ChannelConfig, IChannels, IDepositCollector} from "./IChannels.sol";

/// What a token with EIP-3009 offers, as USDC does since its version 2.2: signatures of accounts and of contracts.
interface IReceiveWithAuthorization {
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}

/// Brings a payer's tokens into a channel, in one of two ways.
///
/// By a signature: of EIP-3009's `ReceiveWithAuthorization`, as x402's stock client makes it, for any ERC-20 that has it.
/// Whoever has the signature sends `Channels.deposit`. That client fixes the address of its collector too, so this one has
/// neither immutables nor a constructor, and works there.
///
/// By an allowance to this contract and a transaction of the payer's own (`deposit`), for any ERC-20.
contract Collector is IDepositCollector {
    using SafeERC20 for IERC20;

    error NotPayer();
    error NotAskedFor();
    error NotChannels();

    /// Where the stock client expects `Channels`. Only it fetches by signatures, because only it is known to put what
    /// comes into the channel that was signed: the money goes to the caller, and anybody can pass a channel's id.
    address public constant CHANNELS = 0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003;

    /// The one collection that a payer asked for in this transaction. Without it, anybody could name a payer that has
    /// left an allowance here, and an authorizer of their own.
    bytes32 private transient asked;

    /// Pays `amount` from the caller, who must be the channel's payer, into a channel of `channels`.
    function deposit(IChannels channels, ChannelConfig calldata config, uint128 amount) external {
        if (msg.sender != config.payer) revert NotPayer();
        asked = _hash(address(channels), msg.sender, config.token, amount, channels.getChannelId(config));
        channels.deposit(config, amount, address(this), "");
        asked = 0;
    }

    /// Called back by `Channels`. `data`: empty for the allowance; else what the stock client's server sends,
    /// `abi.encode(validAfter, validBefore, salt, signature)`.
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata data) external {
        if (data.length != 0) {
            _fetch(payer, token, amount, channelId, data);
            return;
        }
        if (asked == 0 || asked != _hash(msg.sender, payer, token, amount, channelId)) revert NotAskedFor();
        asked = 0;
        IERC20(token).safeTransferFrom(payer, msg.sender, amount);
    }

    /// The payer signed the amount and, in the nonce, the channel, whose id covers its token and all its parties. The token
    /// takes each nonce once.
    function _fetch(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata data) private {
        if (msg.sender != CHANNELS) revert NotChannels();
        (uint256 validAfter, uint256 validBefore, uint256 salt, bytes memory signature) =
            abi.decode(data, (uint256, uint256, uint256, bytes));
        bytes32 nonce = keccak256(abi.encode(channelId, salt));
        IReceiveWithAuthorization(token).receiveWithAuthorization(
            payer, address(this), amount, validAfter, validBefore, nonce, signature
        );
        IERC20(token).safeTransfer(msg.sender, amount);
    }

    function _hash(address channels, address payer, address token, uint256 amount, bytes32 channelId)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(channels, payer, token, amount, channelId));
    }
}
