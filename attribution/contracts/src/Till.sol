// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// Where a run's fees arrive: an address of the run alone, known before anything is deployed there, so that a payment
/// channel can name it as its receiver. `Settlement` creates it with the run's key as salt.
contract Till {
    using SafeERC20 for IERC20;

    error NotSettlement();

    address private immutable settlement = msg.sender;

    /// Sends everything of `token` to `Settlement`, which alone may ask.
    function empty(IERC20 token) external {
        if (msg.sender != settlement) revert NotSettlement();
        token.safeTransfer(settlement, token.balanceOf(address(this)));
    }
}
