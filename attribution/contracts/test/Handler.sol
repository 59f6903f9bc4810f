// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Claim, ISettlement, Leaf, Root, RunView, Stake, Terms} from "../src/ISettlement.sol";
import {ReentrantToken} from "./Tokens.sol";
import {Tree, Trees} from "./Trees.sol";
import {Asserts, create, vm} from "./Vm.sol";

/// Two runs, five members, four payees and a token that calls back, moved about by `act`. What is refused is no fault;
/// what is done is counted, and must leave the other run alone.
contract Handler is Asserts {
    using Trees for Tree;

    uint128 internal constant OPEN = 1e18;
    uint256 public constant ACTIONS = 18;
    uint256 public constant MEMBERS = 5;
    uint256 public constant PAYEES = 4;

    ReentrantToken public immutable token = new ReentrantToken();
    ISettlement public immutable settlement;
    uint256[] private members;
    address[] public payees;
    bytes32[2] public keys;
    address private immutable prover = address(0x9904e4);
    address private immutable challenger = address(0xC4a11);

    /// How often each action came through.
    mapping(uint256 action => uint256) public done;
    /// Whether an accepted root of the run ever promised an account less than one before.
    bool[2] public lowered;
    /// Whether the run was ever seen closed, and what of its deposit and of its fees was promised when it was last seen.
    bool[2] public closed;
    uint128[2] public ofDeposit;
    uint128[2] public fromFees;
    /// What closed runs did: roots accepted, and reclaims with a root pending.
    uint256 public acceptedAfter;
    uint256 public reclaimedBeside;

    struct Posted {
        Root root;
        uint128[PAYEES] balances;
    }

    Terms[2] private terms;
    uint64[2] private heights;
    /// The newest posted root of a run, and the newest one that lowers somebody.
    Posted[2] private newest;
    Posted[2] private lie;
    mapping(bytes32 balances => uint128[PAYEES]) private balancesOf;
    uint128[PAYEES][2] private highest;
    uint64[2] private seen;

    constructor() {
        settlement = ISettlement(create("Settlement", abi.encode(token, false)));
        for (uint256 i = 0; i < MEMBERS; ++i) {
            members.push(uint256(keccak256(abi.encode("handler", i))));
            for (uint256 j = i; j > 0 && vm.addr(members[j]) < vm.addr(members[j - 1]); --j) {
                (members[j], members[j - 1]) = (members[j - 1], members[j]);
            }
        }
        for (uint256 i = 0; i < MEMBERS; ++i) {
            approve(vm.addr(members[i]));
        }
        for (uint256 i = 0; i < PAYEES; ++i) {
            payees.push(address(uint160(0x1000 + i)));
        }
        approve(address(this));
        approve(challenger);
        for (uint256 run = 0; run < 2; ++run) {
            terms[run] = Terms({
                run: bytes32(run),
                sponsor: address(this),
                arbiter: run == 0 ? address(0) : address(0xA4B),
                rate: OPEN / 1000,
                challengeBond: 2 * OPEN,
                minStake: 0,
                window: 1 days,
                cooldown: 3 days,
                halt: 6 days
            });
            keys[run] = settlement.keyOf(terms[run]);
            for (uint256 i = 0; i < MEMBERS; ++i) {
                vm.prank(vm.addr(members[i]));
                settlement.bond(terms[run], uint128(10 + i) * OPEN);
            }
            settlement.deposit(terms[run], 500 * OPEN);
        }
        bytes[] memory calls = new bytes[](4);
        calls[0] = abi.encodeCall(ISettlement.reclaim, (terms[0], false));
        calls[1] = abi.encodeCall(ISettlement.collect, (challenger));
        calls[2] = abi.encodeCall(ISettlement.withdraw, (keys[0]));
        calls[3] = abi.encodeCall(ISettlement.claim, (new Claim[](0)));
        token.arm(address(settlement), calls);
        vm.warp(block.timestamp + 1 days);
        for (uint256 i = 0; i < 2 * MEMBERS; ++i) {
            settlement.activate(keys[i % 2], vm.addr(members[i / 2]));
        }
    }

    function approve(address account) private {
        token.mint(account, 1e30);
        vm.prank(account);
        token.approve(address(settlement), type(uint256).max);
    }

    /// Does one thing in one run.
    function act(uint256 action, uint256 seed) external {
        action = action % ACTIONS;
        uint256 run = seed & 1;
        seed = uint256(keccak256(abi.encode(seed)));
        note(0);
        note(1);
        bytes32 before = fingerprint(1 - run);
        if (one(action, run, seed)) ++done[action];
        yes(fingerprint(1 - run) == before, "a call for one run changed the other");
        note(0);
        note(1);
    }

    function one(uint256 action, uint256 run, uint256 seed) private returns (bool) {
        Terms memory its = terms[run];
        address member = vm.addr(members[seed % MEMBERS]);
        uint128 some = uint128(1 + (seed >> 8) % (30 * OPEN));
        // Time passes most often, or little would ever be accepted.
        if (action == 0 || action == 17) {
            vm.warp(block.timestamp + (seed >> 8) % 2 days);
            return true;
        }
        if (action == 1) return call(abi.encodeCall(ISettlement.deposit, (its, some)));
        if (action == 2) {
            token.mint(settlement.till(keys[run]), some / 10);
            return call(abi.encodeCall(ISettlement.sweep, (keys[run])));
        }
        if (action == 3) return callAs(member, abi.encodeCall(ISettlement.bond, (its, some)));
        if (action == 4) return call(abi.encodeCall(ISettlement.activate, (keys[run], member)));
        if (action == 5) return callAs(member, abi.encodeCall(ISettlement.unbond, (its, some / 8)));
        if (action == 6) return callAs(member, abi.encodeCall(ISettlement.withdraw, (keys[run])));
        if (action == 7) return post(run, seed, false);
        if (action == 8) return post(run, seed, true);
        if (action == 9) return callAs(challenger, abi.encodeCall(ISettlement.challenge, (its)));
        if (action == 10) return answer(run, seed);
        if (action == 11) return slash(run, member, some / 4);
        if (action == 12) return call(abi.encodeCall(ISettlement.executeSlash, (keys[run], member)));
        if (action == 13) return fork(run, seed);
        if (action == 14) return prove(run);
        if (action == 15) return claim(run, seed);
        // Rarely, or every run would soon be over.
        if (seed % 4 == 0 && call(abi.encodeCall(ISettlement.halt, (its)))) return true;
        return reclaim(run, its, seed) || call(abi.encodeCall(ISettlement.collect, (challenger)));
    }

    function reclaim(uint256 run, Terms memory its, uint256 seed) private returns (bool) {
        RunView memory now_ = settlement.runs(keys[run]);
        // Rarely while nothing is pending, or it would never happen while something is.
        if (now_.accepted.closed && now_.pending.height == 0 && seed % 8 != 1) return false;
        if (!call(abi.encodeCall(ISettlement.reclaim, (its, false)))) return false;
        if (now_.accepted.closed && now_.pending.height != 0) ++reclaimedBeside;
        return true;
    }

    function call(bytes memory data) private returns (bool good) {
        (good,) = address(settlement).call(data);
    }

    function callAs(address sender, bytes memory data) private returns (bool good) {
        vm.prank(sender);
        (good,) = address(settlement).call(data);
    }

    function tree(uint128[PAYEES] memory balances) private view returns (Tree memory) {
        address[] memory accounts = new address[](PAYEES);
        uint128[] memory amounts = new uint128[](PAYEES);
        for (uint256 i = 0; i < PAYEES; ++i) {
            (accounts[i], amounts[i]) = (payees[i], balances[i]);
        }
        return Trees.build(accounts, amounts);
    }

    /// All members sign. An honest root adds to the highest balances that were ever accepted; a lie moves one account's
    /// to another.
    function post(uint256 run, uint256 seed, bool lies) private returns (bool) {
        uint128[PAYEES] memory balances = highest[run];
        uint256 payee = (seed >> 16) % PAYEES;
        RunView memory now_ = settlement.runs(keys[run]);
        uint128 most = 20 * OPEN;
        // Now and then a closed run tries for more than its free fees.
        if (now_.accepted.closed && seed % 8 != 0) most = now_.fees - now_.accepted.fromFees + 1;
        uint128 rise = uint128((seed >> 32) % most);
        if (lies) {
            uint128 part = balances[payee] / 2;
            if (part == 0) return false;
            balances[payee] -= part;
            rise += part;
        }
        balances[(payee + 1) % PAYEES] += rise;
        Tree memory its = tree(balances);
        heights[run] += 1 + uint64(seed % 3);
        bool closes = !lies && (seed >> 64) % 8 == 0;
        Root memory root = Root(keys[run], heights[run], its.root(), its.total(), 0, bytes32(seed), closes);
        root.fees = fees(now_, its.total(), seed >> 96);
        if (!send(run, root, seed >> 72)) return false;
        balancesOf[root.balances] = balances;
        newest[run] = Posted(root, balances);
        if (lies) lie[run] = newest[run];
        return true;
    }

    /// Signs and posts a root. Whoever sweeps in between changes nothing of what was signed.
    function send(uint256 run, Root memory root, uint256 seed) private returns (bool) {
        bytes memory signatures = signed(settlement.rootDigest(root), 0);
        if (seed % 4 == 0) {
            token.mint(settlement.till(keys[run]), 1 + seed % OPEN);
            settlement.sweep(keys[run]);
        }
        if (!call(abi.encodeCall(ISettlement.post, (terms[run], root, signatures)))) return false;
        eq(settlement.runs(keys[run]).pending.fromFees, root.fees, "another part of fees than was signed");
        return true;
    }

    /// Which part of a total a root says that fees cover: mostly all that came, in a closed run what leaves the deposit alone,
    /// and now and then any number about as large.
    function fees(RunView memory now_, uint128 total, uint256 seed) private pure returns (uint128 covered) {
        (uint128 before, uint128 least) = (now_.accepted.total, now_.accepted.fromFees);
        uint128 free = now_.fees - least;
        if (seed % 8 == 0) return uint128((seed >> 8) % (uint256(now_.fees) + OPEN));
        if (now_.accepted.closed) return total < before ? least : least + (total - before);
        if (seed % 8 == 1) free = uint128((seed >> 8) % (uint256(free) + 1));
        covered = least + free;
        // What the deposit covered before, it covers still.
        uint128 most = total < before - least ? 0 : total - (before - least);
        if (covered > most) covered = most;
    }

    /// Signatures of all members, or of all but one.
    function signed(bytes32 digest, uint256 but) private view returns (bytes memory all) {
        for (uint256 i = 0; i < MEMBERS; ++i) {
            if (i + 1 != but) all = abi.encodePacked(all, sign(members[i], digest));
        }
    }

    function sign(uint256 secret, bytes32 digest) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    function answer(uint256 run, uint256 seed) private returns (bool) {
        if (run == 1) return callAs(address(0xA4B), abi.encodeCall(ISettlement.decide, (terms[1], seed % 2 == 0)));
        Root memory root = newest[0].root;
        bytes32 digest = settlement.confirmDigest(keys[0], root.height, settlement.rootDigest(root));
        return call(abi.encodeCall(ISettlement.confirm, (terms[0], root, signed(digest, 0))));
    }

    function slash(uint256 run, address member, uint128 amount) private returns (bool) {
        bytes32 digest = settlement.slashDigest(keys[run], member, amount, bytes32(block.timestamp));
        bytes memory signatures = signed(digest, 0);
        bytes memory data =
            abi.encodeCall(ISettlement.slash, (terms[run], member, amount, bytes32(block.timestamp), signatures));
        return call(data);
    }

    function fork(uint256 run, uint256 seed) private returns (bool) {
        if (seed % 3 != 0) return false;
        uint256 secret = members[seed % MEMBERS];
        Root memory a = Root(keys[run], 1, bytes32(seed), 0, 0, 0, false);
        Root memory b = Root(keys[run], 1, bytes32(seed), 1, 0, 0, false);
        bytes memory signedA = sign(secret, settlement.rootDigest(a));
        bytes memory signedB = sign(secret, settlement.rootDigest(b));
        return callAs(prover, abi.encodeCall(ISettlement.slashFork, (a, signedA, b, signedB)));
    }

    /// Tries to prove the newest lie against the accepted root.
    function prove(uint256 run) private returns (bool) {
        RunView memory now_ = settlement.runs(keys[run]);
        uint128[PAYEES] memory balances = balancesOf[now_.accepted.balances];
        Posted memory posted = lie[run];
        for (uint256 i = 0; i < PAYEES; ++i) {
            if (posted.balances[i] >= balances[i]) continue;
            Leaf[] memory shown = new Leaf[](1);
            Tree memory lies = tree(posted.balances);
            shown[0] = lies.leaf(lies.find(payees[i]));
            Tree memory before = tree(balances);
            bytes memory signatures = signed(settlement.rootDigest(posted.root), 0);
            bytes memory data = abi.encodeCall(
                ISettlement.slashLowered, (posted.root, signatures, before.leaf(before.find(payees[i])), shown)
            );
            return callAs(prover, data);
        }
        return false;
    }

    function claim(uint256 run, uint256 seed) private returns (bool) {
        return call(abi.encodeCall(ISettlement.claim, (claims(run, seed % PAYEES, 1))));
    }

    /// Claims of `count` payees by the accepted root.
    function claims(uint256 run, uint256 from, uint256 count) public view returns (Claim[] memory all) {
        RunView memory now_ = settlement.runs(keys[run]);
        if (now_.accepted.balances == 0) return all;
        Tree memory its = tree(balancesOf[now_.accepted.balances]);
        all = new Claim[](count);
        for (uint256 i = 0; i < count; ++i) {
            Leaf memory leaf = its.leaf(its.find(payees[from + i]));
            all[i] = Claim(keys[run], leaf.account, leaf.balance, leaf.index, leaf.proof, false);
        }
    }

    /// Follows what is accepted: the highest balance of each payee, and whether one ever fell.
    function note(uint256 run) private {
        RunView memory now_ = settlement.runs(keys[run]);
        uint128 promised = now_.accepted.total - now_.accepted.fromFees;
        if (closed[run]) {
            yes(now_.accepted.closed, "a closed run opened");
            eq(promised, ofDeposit[run], "a closed run promised something of its deposit");
            if (now_.accepted.height != seen[run]) ++acceptedAfter;
        }
        yes(promised >= ofDeposit[run], "the deposit took something back");
        yes(now_.accepted.fromFees >= fromFees[run], "fees took something back");
        (closed[run], ofDeposit[run], fromFees[run]) = (now_.accepted.closed, promised, now_.accepted.fromFees);
        if (now_.accepted.height == seen[run]) return;
        yes(now_.accepted.height > seen[run], "an accepted height fell");
        seen[run] = now_.accepted.height;
        uint128[PAYEES] memory balances = balancesOf[now_.accepted.balances];
        for (uint256 i = 0; i < PAYEES; ++i) {
            if (balances[i] < highest[run][i]) lowered[run] = true;
            else highest[run][i] = balances[i];
        }
        if (!lowered[run]) return;
        // From a lie that was accepted, members go on with what it says.
        highest[run] = balances;
    }

    /// Money and stake of a run, and who has which part of it.
    function fingerprint(uint256 run) private view returns (bytes32) {
        RunView memory now_ = settlement.runs(keys[run]);
        bytes memory all = abi.encode(now_.deposited, now_.fees, now_.paid, now_.reclaimed, now_.stake);
        for (uint256 i = 0; i < MEMBERS; ++i) {
            (Stake memory stake,) = settlement.stakes(keys[run], vm.addr(members[i]));
            all = abi.encode(all, stake.counting, stake.maturing, stake.leaving);
        }
        for (uint256 i = 0; i < PAYEES; ++i) {
            all = abi.encode(all, settlement.claimed(keys[run], payees[i]));
        }
        return keccak256(all);
    }

    /// Counting stake, and all stake, of a run's members.
    function staked(uint256 run) external view returns (uint256 counting, uint256 all) {
        for (uint256 i = 0; i < MEMBERS; ++i) {
            (Stake memory stake,) = settlement.stakes(keys[run], vm.addr(members[i]));
            counting += stake.counting;
            all += uint256(stake.counting) + stake.maturing + stake.leaving;
        }
    }

    /// What came back to challengers. The bond of a challenge that time has decided is credited by the next call.
    function bonds() external view returns (uint256) {
        return settlement.credits(challenger);
    }
}
