// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// A wrapper of the native coin, as WETH9 is.
contract WrappedOpen is ERC20("Wrapped OPEN", "WOPEN") {
    function deposit() external payable {
        _mint(msg.sender, msg.value);
    }

    function withdraw(uint256 amount) external {
        _burn(msg.sender, amount);
        // As WETH9, which sends 2,300 gas: what receives it must be cheap.
        (bool done,) = msg.sender.call{value: amount, gas: 2300}("");
        require(done, "refused");
    }
}

/// Keeps a hundredth of every transfer.
contract FeeToken is ERC20("Fee", "FEE") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from != address(0) && to != address(0)) super._update(to, address(0), amount / 100);
    }
}

/// Calls back into a contract in the middle of every transfer, and says how often that came through.
contract ReentrantToken is ERC20("Reentrant", "RE") {
    address public target;
    bytes[] private calls;
    uint256 public tried;
    uint256 public came;
    bool private inside;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function arm(address target_, bytes[] calldata calls_) external {
        target = target_;
        delete calls;
        for (uint256 i = 0; i < calls_.length; ++i) {
            calls.push(calls_[i]);
        }
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (inside || from == address(0)) return;
        inside = true;
        for (uint256 i = 0; i < calls.length; ++i) {
            ++tried;
            (bool done,) = target.call(calls[i]);
            if (done) ++came;
        }
        inside = false;
    }
}
