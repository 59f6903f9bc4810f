// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

/// Test OPEN: 18 decimals, worth nothing, minted by anybody. For tests and the test chain only.
///
/// Of EIP-3009 it has what x402's stock client signs, a payment that its receiver fetches, in the form that wallets with
/// contracts can sign too. OpenZeppelin's draft of EIP-3009 has more functions, and not this form.
contract TestOpen is ERC20("Test OPEN", "tOPEN"), EIP712("Test OPEN", "1") {
    bytes32 private constant RECEIVE_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    /// Whether an authorization of the account was used.
    mapping(address authorizer => mapping(bytes32 nonce => bool)) public authorizationState;

    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);

    /// Only who is paid may use an authorization: whoever sees it on its way could otherwise use it first, and keep what
    /// was to come with it from happening.
    error NotForCaller(address to);
    /// It is good after one second and before another.
    error NotValidNow(uint256 validAfter, uint256 validBefore);
    error AlreadyUsed(bytes32 nonce);
    error InvalidSignature();

    /// The faucet.
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// Pays the caller what `from` signed, once.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        if (to != msg.sender) revert NotForCaller(to);
        if (block.timestamp <= validAfter || block.timestamp >= validBefore) revert NotValidNow(validAfter, validBefore);
        if (authorizationState[from][nonce]) revert AlreadyUsed(nonce);
        bytes32 hash = keccak256(abi.encode(RECEIVE_TYPEHASH, from, to, value, validAfter, validBefore, nonce));
        if (!SignatureChecker.isValidSignatureNowCalldata(from, _hashTypedDataV4(hash), signature)) {
            revert InvalidSignature();
        }
        authorizationState[from][nonce] = true;
        emit AuthorizationUsed(from, nonce);
        _transfer(from, to, value);
    }
}
