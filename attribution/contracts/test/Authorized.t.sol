// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

import {ChannelConfig, IChannels} from "../src/IChannels.sol";
import {Collector} from "../src/Collector.sol";
import {TestOpen} from "../src/TestOpen.sol";
import {Authorizations} from "./Authorizations.sol";
import {Asserts, ITestOpen, create, vm} from "./Vm.sol";

/// Fetches what was signed for a channel, and keeps it.
contract Thief {
    function steal(Collector collector, address payer, address token, uint256 amount, bytes32 id, bytes calldata data)
        external
    {
        collector.collect(payer, token, amount, id, data);
    }
}

/// Takes any call without doing anything, as wrappers with a fallback function do.
contract DeafToken is ERC20("Deaf", "DEAF") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    fallback() external {}
}

/// Signs by contract (ERC-1271): one digest, with any bytes.
contract ContractPayer {
    bytes32 public good;

    function bless(bytes32 digest) external {
        good = digest;
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        return digest == good ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// Channels that are funded by a signature, sent by anybody, where x402's stock client expects both contracts.
contract AuthorizedTest is Asserts {
    IChannels private constant CHANNELS = IChannels(0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003);
    Collector private constant COLLECTOR = Collector(0x4020806089470a89826cB9fB1f4059150b550004);
    uint128 private constant OPEN = 1e18;
    uint256 private constant PAYER = uint256(keccak256("payer"));
    uint256 private constant SALT = uint256(keccak256("salt"));
    uint256 private constant START = 1_800_000_000;
    uint256 private constant AFTER = START - 10;
    uint256 private constant BEFORE = START + 600;

    address private payer = vm.addr(PAYER);
    address private stranger = address(0x5712a);
    ITestOpen private token;
    ChannelConfig private config;
    bytes32 private id;

    function setUp() public {
        vm.warp(START);
        vm.etch(address(CHANNELS), vm.getDeployedCode("artifacts/Channels.json"));
        vm.etch(address(COLLECTOR), vm.getDeployedCode("artifacts/Collector.json"));
        token = ITestOpen(create("TestOpen", ""));
        config = ChannelConfig(payer, address(0), address(0x7111), address(0xA), address(token), 1 days, bytes32(0));
        id = CHANNELS.getChannelId(config);
        token.mint(payer, 100 * OPEN);
    }

    function nonce(bytes32 channel) private pure returns (bytes32) {
        return keccak256(abi.encode(channel, SALT));
    }

    function sign(uint256 secret, bytes32 digest) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    function signed(bytes32 channel, uint256 amount) private view returns (bytes memory) {
        address to = address(COLLECTOR);
        return sign(PAYER, Authorizations.digest(token, payer, to, amount, AFTER, BEFORE, nonce(channel)));
    }

    function data(bytes32 channel, uint256 amount) private view returns (bytes memory) {
        return abi.encode(AFTER, BEFORE, SALT, signed(channel, amount));
    }

    function deposit(uint128 amount, bytes memory with) private {
        vm.prank(stranger);
        CHANNELS.deposit(config, amount, address(COLLECTOR), with);
    }

    function balance(bytes32 channel) private view returns (uint128 held) {
        (held,) = CHANNELS.channels(channel);
    }

    function refused(uint128 amount, bytes memory with, bytes4 why) private {
        vm.expectRevert(why);
        deposit(amount, with);
    }

    function test_anybody_deposits_what_the_payer_signed_once() public {
        bytes memory with = data(id, 5 * OPEN);
        deposit(5 * OPEN, with);
        eq(balance(id), 5 * OPEN, "in the channel");
        eq(token.balanceOf(payer), 95 * OPEN, "from the payer");
        eq(token.balanceOf(address(CHANNELS)), 5 * OPEN, "held");
        yes(token.authorizationState(payer, nonce(id)), "used");
        vm.expectRevert(abi.encodeWithSelector(TestOpen.AlreadyUsed.selector, nonce(id)));
        deposit(5 * OPEN, with);
        eq(token.balanceOf(address(COLLECTOR)), 0, "nothing stays");
    }

    function test_an_authorization_is_good_for_its_channel_payer_token_and_amount_alone() public {
        bytes memory with = data(id, 5 * OPEN);
        bytes4 why = TestOpen.InvalidSignature.selector;
        refused(5 * OPEN + 1, with, why);
        refused(4 * OPEN, with, why);
        ChannelConfig memory its = config;
        for (uint256 field = 0; field < 7; ++field) {
            if (field == 0) config.payer = stranger;
            if (field == 1) config.payerAuthorizer = stranger;
            if (field == 2) config.receiver = stranger;
            if (field == 3) config.receiverAuthorizer = stranger;
            if (field == 4) config.withdrawDelay += 1;
            if (field == 5) config.salt = bytes32(uint256(1));
            if (field == 6) config.token = create("TestOpen", "");
            if (field == 6) ITestOpen(config.token).mint(payer, 100 * OPEN);
            refused(5 * OPEN, with, why);
            config = its;
        }
        eq(token.balanceOf(payer), 100 * OPEN, "nothing was taken");
        deposit(5 * OPEN, with);
    }

    function test_times_and_salt_are_signed() public {
        bytes memory by = signed(id, OPEN);
        bytes4 why = TestOpen.InvalidSignature.selector;
        refused(OPEN, abi.encode(AFTER - 1, BEFORE, SALT, by), why);
        refused(OPEN, abi.encode(AFTER, BEFORE + 1, SALT, by), why);
        refused(OPEN, abi.encode(AFTER, BEFORE, SALT + 1, by), why);
        refused(OPEN, abi.encode(AFTER, BEFORE, SALT, sign(PAYER + 1, nonce(id))), why);
        refused(OPEN, abi.encode(AFTER, BEFORE, SALT, bytes("")), why);
        // Bytes that are no encoding at all.
        vm.expectRevert();
        deposit(OPEN, hex"01");
    }

    function test_an_authorization_is_good_after_one_second_and_before_another() public {
        bytes memory with = data(id, OPEN);
        bytes4 why = TestOpen.NotValidNow.selector;
        vm.warp(AFTER);
        vm.expectPartialRevert(why);
        deposit(OPEN, with);
        vm.warp(BEFORE);
        vm.expectPartialRevert(why);
        deposit(OPEN, with);
        vm.warp(BEFORE - 1);
        deposit(OPEN, with);
    }

    /// Whoever sees an authorization on its way can only do with it what it is for.
    function test_nobody_but_channels_fetches_and_nobody_but_the_collector_uses() public {
        bytes memory with = data(id, OPEN);
        Thief thief = new Thief();
        vm.expectRevert(Collector.NotChannels.selector);
        thief.steal(COLLECTOR, payer, address(token), OPEN, id, with);
        bytes memory by = signed(id, OPEN);
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(TestOpen.NotForCaller.selector, address(COLLECTOR)));
        token.receiveWithAuthorization(payer, address(COLLECTOR), OPEN, AFTER, BEFORE, nonce(id), by);
        vm.prank(stranger);
        vm.expectRevert(TestOpen.InvalidSignature.selector);
        token.receiveWithAuthorization(payer, stranger, OPEN, AFTER, BEFORE, nonce(id), by);
        // Another collector is another receiver.
        address other = create("Collector", "");
        vm.expectRevert(TestOpen.InvalidSignature.selector);
        CHANNELS.deposit(config, OPEN, other, with);
        // The same call from anybody else is the payer's deposit all the same.
        deposit(OPEN, with);
        eq(balance(id), OPEN, "in the channel");
    }

    function test_an_allowance_to_the_collector_is_nobodys_by_data() public {
        vm.prank(payer);
        token.approve(address(COLLECTOR), type(uint256).max);
        refused(OPEN, abi.encode(AFTER, BEFORE, SALT, sign(PAYER + 1, nonce(id))), TestOpen.InvalidSignature.selector);
        refused(OPEN, "", Collector.NotAskedFor.selector);
        vm.prank(payer);
        COLLECTOR.deposit(CHANNELS, config, OPEN);
        eq(balance(id), OPEN, "by the payer's own transaction");
    }

    function test_a_token_that_moves_nothing_funds_nothing() public {
        DeafToken deaf = new DeafToken();
        config.token = address(deaf);
        id = CHANNELS.getChannelId(config);
        deaf.mint(payer, OPEN);
        vm.expectRevert();
        deposit(OPEN, data(id, OPEN));
        eq(balance(id), 0, "nothing");
    }

    function test_authorizations_of_another_chain_or_token_are_nobodys() public {
        bytes memory by = signed(id, OPEN);
        vm.chainId(4711);
        vm.prank(address(COLLECTOR));
        vm.expectRevert(TestOpen.InvalidSignature.selector);
        token.receiveWithAuthorization(payer, address(COLLECTOR), OPEN, AFTER, BEFORE, nonce(id), by);
        (, string memory name, string memory version, uint256 chain, address place,,) = token.eip712Domain();
        eq(keccak256(bytes(name)), keccak256("Test OPEN"), "name");
        eq(keccak256(bytes(version)), keccak256("1"), "version");
        eq(chain, 4711, "chain");
        eq(place, address(token), "contract");
    }

    function test_a_payer_may_be_a_contract() public {
        ContractPayer wallet = new ContractPayer();
        token.mint(address(wallet), OPEN);
        config.payer = address(wallet);
        id = CHANNELS.getChannelId(config);
        bytes memory with = abi.encode(AFTER, BEFORE, SALT, bytes("any"));
        refused(OPEN, with, TestOpen.InvalidSignature.selector);
        address to = address(COLLECTOR);
        wallet.bless(Authorizations.digest(token, address(wallet), to, OPEN, AFTER, BEFORE, nonce(id)));
        deposit(OPEN, with);
        eq(balance(id), OPEN, "in the channel");
    }

    function test_a_payer_without_the_money_funds_nothing_and_may_send_it_again() public {
        bytes memory with = data(id, 101 * OPEN);
        vm.expectPartialRevert(bytes4(keccak256("ERC20InsufficientBalance(address,uint256,uint256)")));
        deposit(101 * OPEN, with);
        yes(!token.authorizationState(payer, nonce(id)), "unused");
        token.mint(payer, OPEN);
        deposit(101 * OPEN, with);
        eq(balance(id), 101 * OPEN, "in the channel");
    }

    /// What the stock client signed and its server sends, for real.
    function test_the_deposit_of_the_stock_client_is_accepted() public {
        string memory json = vm.readFile("test/golden.json");
        vm.chainId(vm.parseJsonUint(json, ".chain"));
        golden(json, ".own");
        golden(json, ".key");
    }

    function golden(string memory json, string memory where) private {
        config = ChannelConfig(
            vm.parseJsonAddress(json, string.concat(where, ".payer")),
            vm.parseJsonAddress(json, string.concat(where, ".payerAuthorizer")),
            vm.parseJsonAddress(json, string.concat(where, ".receiver")),
            vm.parseJsonAddress(json, string.concat(where, ".receiverAuthorizer")),
            vm.parseJsonAddress(json, string.concat(where, ".token")),
            uint40(vm.parseJsonUint(json, string.concat(where, ".withdrawDelay"))),
            vm.parseJsonBytes32(json, string.concat(where, ".salt"))
        );
        // A contract's domain follows its address, but for what its constructor remembered.
        vm.etch(config.token, address(token).code);
        ITestOpen(config.token).mint(config.payer, 7 * OPEN);
        uint128 amount = uint128(vm.parseJsonUint(json, string.concat(where, ".deposit")));
        deposit(amount, vm.parseJsonBytes(json, string.concat(where, ".depositData")));
        eq(balance(CHANNELS.getChannelId(config)), 7 * OPEN, where);
    }
}
