//! Terms, roots, and what else members sign for the contract.

use serde_json::{Value, json};
use tributary_attribution::settlement::{
    Address, Agreement, Binding, ChainId, Confirm, Deployment, Keccak, Root, Slash, Terms,
};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{PeerId, Ppb, RunId};

use super::{key, place, read, secret, units, word};

fn read_terms(value: &Value) -> Terms {
    let arbiter: Address = read(&value["arbiter"]);
    Terms {
        run: RunId(Digest::from_bytes(read::<Keccak>(&value["run"]).0)),
        sponsor: read(&value["sponsor"]),
        arbiter: (!arbiter.is_zero()).then_some(arbiter),
        rate_per_s: units(&value["rate"]),
        challenge_bond: units(&value["challengeBond"]),
        min_stake: units(&value["minStake"]),
        window_s: read(&value["window"]),
        cooldown_s: read(&value["cooldown"]),
        halt_s: read(&value["halt"]),
    }
}

/// Everything that follows from a settlement's inputs.
pub(crate) fn remake(case: &Value) -> Value {
    let deployment = Deployment {
        chain: ChainId(case["chainId"].as_u64().expect("a chain")),
        contract: read(&case["contract"]),
    };
    let run = read_terms(&case["terms"]).key();
    let root = &case["root"];
    let root = Root {
        run,
        height: read(&root["height"]),
        balances: read(&root["balances"]),
        total: units(&root["total"]),
        fees: units(&root["fees"]),
        lines: read(&root["lines"]),
        closed: root["closed"].as_bool().expect("yes or no"),
    };
    let bind = Binding {
        run,
        peer: PeerId(Digest::from_bytes(read::<Keccak>(&case["peer"]).0)),
    };
    let slash = Slash {
        run,
        account: read(&case["slash"]["account"]),
        amount: units(&case["slash"]["amount"]),
        evidence: read(&case["slash"]["evidence"]),
    };
    let confirm = Confirm {
        run,
        height: root.height,
        root: root.digest(&deployment),
    };
    let agreement = Agreement {
        channel: slash.evidence,
        charged: root.total,
        request: Digest::from_bytes(root.balances.0),
        text: Digest::from_bytes(root.lines.0),
        shares: &[(bind.peer, Ppb(600_000_000))],
    };
    let digests = [
        root.digest(&deployment),
        slash.digest(&deployment),
        confirm.digest(&deployment),
        bind.digest(&deployment),
        agreement.digest(&deployment),
    ];
    let member = key(&case["secret"]);
    let signatures = digests.map(|digest| member.sign(&digest));
    for (digest, signature) in digests.iter().zip(signatures) {
        assert_eq!(signature.recover(digest), Ok(member.address()));
    }
    json!({
        "key": run.to_string(),
        "rootDigest": digests[0].to_string(),
        "slashDigest": digests[1].to_string(),
        "confirmDigest": digests[2].to_string(),
        "bindDigest": digests[3].to_string(),
        "sharesDigest": digests[4].to_string(),
        "signer": member.address().to_string(),
        "rootSignature": signatures[0].to_string(),
        "slashSignature": signatures[1].to_string(),
        "confirmSignature": signatures[2].to_string(),
        "bindSignature": signatures[3].to_string(),
        "sharesSignature": signatures[4].to_string(),
    })
}

pub(crate) fn inputs() -> Vec<Value> {
    let cases = (0..4u64).flat_map(|at| [(1612, at), (31_337, at)]);
    cases.map(|(chain, at)| input(chain, at)).collect()
}

fn input(chain: u64, at: u64) -> Value {
    let label = format!("{chain} {at}");
    let arbiter = match at % 2 {
        0 => Address::ZERO,
        _ => place(&format!("arbiter {label}")),
    };
    let amount = |power: u64| 10u128.pow(u32::try_from(power).expect("small")).to_string();
    json!({
        "chainId": chain,
        "contract": place(&format!("contract {label}")).to_string(),
        "terms": {
            "run": word(&format!("run {label}")).to_string(),
            "sponsor": place(&format!("sponsor {label}")).to_string(),
            "arbiter": arbiter.to_string(),
            "rate": amount(at * 12),
            "challengeBond": amount(18 + at),
            "minStake": amount(21 - at),
            "window": (60 + at).to_string(),
            "cooldown": (200 << at).to_string(),
            "halt": (u64::MAX >> at).to_string(),
        },
        "root": {
            "height": (1u64 << (at * 20)).to_string(),
            "balances": word(&format!("balances {label}")).to_string(),
            "total": (u128::MAX >> at).to_string(),
            "fees": (u128::MAX >> (at * 40)).to_string(),
            "lines": word(&format!("lines {label}")).to_string(),
            "closed": at == 3,
        },
        "peer": word(&format!("peer {label}")).to_string(),
        "slash": {
            "account": place(&format!("liar {label}")).to_string(),
            "amount": amount(at),
            "evidence": word(&format!("evidence {label}")).to_string(),
        },
        "secret": Keccak(*secret(&format!("member {label}")).to_bytes()).to_string(),
    })
}
