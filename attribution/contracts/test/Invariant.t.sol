// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Claim, ISettlement, RunView} from "../src/ISettlement.sol";
import {Handler} from "./Handler.sol";
import {ReentrantToken} from "./Tokens.sol";
import {Asserts, vm} from "./Vm.sol";

/// What holds whatever anybody does, in whatever order.
contract InvariantTest is Asserts {
    Handler private handler;
    ISettlement private settlement;
    ReentrantToken private token;

    function setUp() public {
        vm.warp(1_800_000_000);
        handler = new Handler();
        (settlement, token) = (handler.settlement(), handler.token());
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_money_is_conserved_and_runs_stay_within_their_own() public view {
        check();
    }

    function check() private view {
        uint256 owed = handler.bonds();
        for (uint256 run = 0; run < 2; ++run) {
            RunView memory now_ = settlement.runs(handler.keys(run));
            uint256 inside = uint256(now_.deposited) + now_.fees;
            uint256 outside = uint256(now_.paid) + now_.reclaimed;
            yes(now_.paid <= now_.accepted.total, "paid more than was accepted");
            yes(uint256(now_.accepted.total) + now_.reclaimed <= inside, "promised or reclaimed more than there is");
            yes(now_.accepted.fromFees <= now_.fees, "more covered by fees than there are");
            yes(now_.accepted.total - now_.accepted.fromFees <= now_.deposited, "more of the deposit than there is");
            yes(now_.pending.fromFees <= now_.fees, "a pending root has more covered by fees than there are");
            yes(now_.pending.total - now_.pending.fromFees <= now_.deposited, "more of the deposit is pending than there is");
            if (now_.accepted.closed) {
                uint256 promised = now_.accepted.total - now_.accepted.fromFees;
                yes(now_.reclaimed + promised <= now_.deposited, "a sponsor took a fee");
                yes(now_.paid <= promised + now_.fees, "accounts took what is the sponsor's");
                uint256 pending = now_.pending.total - now_.pending.fromFees;
                yes(now_.pending.height == 0 || pending == promised, "a closed run would promise of its deposit");
            }
            yes(now_.pending.height == 0 || now_.pending.total >= now_.accepted.total, "a pending total fell");
            (uint256 counting, uint256 all) = handler.staked(run);
            eq(now_.stake, counting, "counting stake");
            owed += inside - outside + all;
        }
        uint256 held = token.balanceOf(address(settlement));
        // Beyond it, at most the bonds of two open challenges.
        yes(held >= owed, "less money than is owed");
        yes((held - owed) % 2e18 == 0 && held - owed <= 4e18, "money that belongs to nobody");
        eq(token.came(), 0, "the token came back in");
    }

    /// At the end of each sequence every accepted claim is paid: all of it where no accepted root lowered anybody, and
    /// else until the run's total is reached.
    function afterInvariant() public {
        pay(0);
        pay(1);
    }

    function pay(uint256 run) private {
        bytes32 key = handler.keys(run);
        Claim[] memory claims = handler.claims(run, 0, handler.PAYEES());
        uint256[] memory before = new uint256[](claims.length);
        for (uint256 i = 0; i < claims.length; ++i) {
            before[i] = token.balanceOf(claims[i].account);
        }
        uint256 most = settlement.runs(key).accepted.total - settlement.runs(key).paid;
        uint256 due = 0;
        for (uint256 i = 0; i < claims.length; ++i) {
            uint256 claimed = settlement.claimed(key, claims[i].account);
            if (claims[i].balance > claimed) due += claims[i].balance - claimed;
        }
        settlement.claim(claims);
        uint256 paid = 0;
        for (uint256 i = 0; i < claims.length; ++i) {
            paid += token.balanceOf(claims[i].account) - before[i];
        }
        eq(paid, due < most ? due : most, "claims that were not paid");
        if (!handler.lowered(run)) eq(paid, due, "an accepted claim was blocked");
        check();
    }

    /// The handler gets everywhere: a sequence without luck proves nothing.
    function test_the_handler_does_everything() public {
        uint256 seed = 7;
        for (uint256 i = 0; i < 2000; ++i) {
            // Runs end: start again now and then.
            if (i % 250 == 0) {
                count();
                setUp();
            }
            seed = uint256(keccak256(abi.encode(seed)));
            handler.act(seed >> 128, seed);
            if (i % 8 == 0) check();
        }
        count();
        for (uint256 action = 0; action < handler.ACTIONS(); ++action) {
            yes(done[action] > 0, string.concat("never done: ", vm.toString(action)));
        }
        yes(acceptedAfter > 5, string.concat("too few roots accepted in closed runs: ", vm.toString(acceptedAfter)));
        yes(reclaimedBeside > 0, "no deposit was reclaimed beside a pending root of fees");
        afterInvariant();
    }

    mapping(uint256 action => uint256) private done;
    uint256 private acceptedAfter;
    uint256 private reclaimedBeside;

    function count() private {
        for (uint256 action = 0; action < handler.ACTIONS(); ++action) {
            done[action] += handler.done(action);
        }
        acceptedAfter += handler.acceptedAfter();
        reclaimedBeside += handler.reclaimedBeside();
    }
}
