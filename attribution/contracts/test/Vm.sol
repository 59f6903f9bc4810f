// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// The cheat codes of forge that these tests use.
interface Vm {
    struct Gas {
        uint64 gasLimit;
        uint64 gasTotalUsed;
        uint64 gasMemoryUsed;
        int64 gasRefunded;
        uint64 gasRemaining;
    }

    function warp(uint256 time) external;
    function chainId(uint256 id) external;
    function prank(address sender) external;
    function expectRevert() external;
    function expectRevert(bytes calldata data) external;
    function expectRevert(bytes4 selector) external;
    function expectPartialRevert(bytes4 selector) external;
    function expectEmit() external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function getCode(string calldata path) external view returns (bytes memory);
    function getDeployedCode(string calldata path) external view returns (bytes memory);
    function addr(uint256 key) external pure returns (address);
    function deal(address account, uint256 amount) external;
    function etch(address account, bytes calldata code) external;
    function assume(bool condition) external pure;
    function readFile(string calldata path) external view returns (string memory);
    function writeFile(string calldata path, string calldata data) external;
    function parseJsonBytes(string calldata json, string calldata key) external pure returns (bytes memory);
    function parseJsonBytes32(string calldata json, string calldata key) external pure returns (bytes32);
    function parseJsonAddress(string calldata json, string calldata key) external pure returns (address);
    function parseJsonUint(string calldata json, string calldata key) external pure returns (uint256);
    function parseJsonString(string calldata json, string calldata key) external pure returns (string memory);
    function toString(uint256 value) external pure returns (string memory);
    function lastCallGas() external view returns (Gas memory);
    function randomUint(uint256 from, uint256 to) external returns (uint256);
}

// Where forge answers cheat codes.
Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

/// Puts a committed artifact on the chain: what is tested is what is committed.
function create(string memory name, bytes memory arguments) returns (address made) {
    bytes memory code = abi.encodePacked(vm.getCode(string.concat("artifacts/", name, ".json")), arguments);
    assembly ("memory-safe") {
        made := create(0, add(code, 32), mload(code))
    }
    require(made != address(0), name);
}

/// The faucet token.
interface ITestOpen is IERC20 {
    function mint(address to, uint256 amount) external;
    function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
    function eip712Domain()
        external
        view
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory);
}

/// Equality with words, as the tests want it.
abstract contract Asserts {
    error NotEqual(string what, uint256 is_, uint256 expected);
    error Untrue(string what);

    function eq(uint256 is_, uint256 expected, string memory what) internal pure {
        if (is_ != expected) revert NotEqual(what, is_, expected);
    }

    function eq(bytes32 is_, bytes32 expected, string memory what) internal pure {
        eq(uint256(is_), uint256(expected), what);
    }

    function eq(address is_, address expected, string memory what) internal pure {
        eq(uint160(is_), uint160(expected), what);
    }

    function yes(bool is_, string memory what) internal pure {
        if (!is_) revert Untrue(what);
    }
}
