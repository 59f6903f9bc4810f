// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {ChannelConfig, IChannels, IDepositCollector} from "./IChannels.sol";

/// Lets a payer fund a channel with any ERC-20 by its own transaction and an allowance to this contract. x402's stock
/// client funds by signatures (EIP-3009, Permit2) through collectors of its own; this one needs neither.
contract Collector is IDepositCollector {
    using SafeERC20 for IERC20;

    error NotPayer();
    error NotAskedFor();

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

    /// Called back by `Channels`.
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata) external {
        if (asked == 0 || asked != _hash(msg.sender, payer, token, amount, channelId)) revert NotAskedFor();
        asked = 0;
        IERC20(token).safeTransferFrom(payer, msg.sender, amount);
    }

    function _hash(address channels, address payer, address token, uint256 amount, bytes32 channelId)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(channels, payer, token, amount, channelId));
    }
}
