// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// Test OPEN: 18 decimals, worth nothing, minted by anybody. For tests and the test chain only.
contract TestOpen is ERC20("Test OPEN", "tOPEN") {
    /// The faucet.
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}
