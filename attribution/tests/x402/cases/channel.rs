//! Channels with a voucher, a refund and a claim of many.

use serde_json::{Value, json};
use tributary_attribution::settlement::{
    Address, BaseUnits, ChainId, Deployment, EvmKey, Keccak, Signature,
};
use tributary_attribution::voucher::{
    Authorization, ChannelConfig, ChannelId, ClaimEntry, Refund, TokenDomain, Voucher,
    claim_digest, stock,
};

use super::{hexadecimal, key, place, read, secret, units, word};

fn read_config(value: &Value) -> ChannelConfig {
    ChannelConfig {
        payer: read(&value["payer"]),
        payer_authorizer: read(&value["payerAuthorizer"]),
        receiver: read(&value["receiver"]),
        receiver_authorizer: read(&value["receiverAuthorizer"]),
        token: read(&value["token"]),
        withdraw_delay_s: (value["withdrawDelay"].as_u64())
            .and_then(|delay| delay.try_into().ok())
            .expect("seconds"),
        salt: read::<Keccak>(&value["salt"]).0,
    }
}

/// Everything that follows from what a payer signs to fund a channel.
fn remake_deposit(case: &Value, config: &ChannelConfig, scheme: &Deployment) -> Value {
    let deposit = &case["deposit"];
    let text = |name: &str| deposit["token"][name].as_str().expect("a text");
    let token = TokenDomain {
        name: text("name"),
        version: text("version"),
        contract: config.token,
    };
    let valid_s = read(&deposit["validAfter"])..read(&deposit["validBefore"]);
    let (amount, salt) = (
        units(&deposit["amount"]),
        read::<Keccak>(&deposit["salt"]).0,
    );
    let payer = key(&case["keys"]["payer"]);
    let made = Authorization::sign(&payer, config, amount, scheme, &token, valid_s, salt);
    assert_eq!(made.verify(config, amount, scheme, &token), Ok(()));
    json!({
        "depositNonce": made.nonce(config, scheme).to_string(),
        "depositDigest": made.digest(config, amount, scheme, &token).to_string(),
        "depositSignature": made.signature.to_string(),
        "depositData": hexadecimal(&made.data()),
    })
}

/// Everything that follows from a channel's inputs.
pub(crate) fn remake(case: &Value) -> Value {
    let scheme = stock(ChainId(case["chainId"].as_u64().expect("a chain")));
    let config = read_config(&case["config"]);
    let id = config.id(&scheme);
    let max = units(&case["maxClaimableAmount"]);
    let refund = Refund {
        channel: id,
        nonce: case["refund"]["nonce"].as_u64().expect("a number"),
        amount: units(&case["refund"]["amount"]),
    };
    let entry = |claim: &Value| ClaimEntry {
        channel: match &claim["channelId"] {
            Value::Null => id,
            other => ChannelId(read(other)),
        },
        max: units(&claim["maxClaimableAmount"]),
        total_claimed: units(&claim["totalClaimed"]),
    };
    let claims = case["claims"].as_array().expect("a list").iter().map(entry);
    let claims: Vec<ClaimEntry> = claims.collect();
    let digests = [
        Voucher::digest(id, max, &scheme),
        refund.digest(&scheme),
        claim_digest(&claims, &scheme),
    ];
    let payer = key(&case["keys"]["voucher"]);
    let authorizer = key(&case["keys"]["authorizer"]);
    let signatures = [
        payer.sign(&digests[0]),
        authorizer.sign(&digests[1]),
        authorizer.sign(&digests[2]),
    ];
    assert_recovered(&config, &digests, &signatures);
    let voucher = Voucher {
        channel: id,
        max,
        signature: signatures[0],
    };
    assert_eq!(voucher.verify(&config, &scheme), Ok(()));
    let mut made = remake_deposit(case, &config, &scheme);
    let others = json!({
        "channelId": id.to_string(),
        "voucherDigest": digests[0].to_string(),
        "refundDigest": digests[1].to_string(),
        "claimDigest": digests[2].to_string(),
        "voucherSignature": signatures[0].to_string(),
        "refundSignature": signatures[1].to_string(),
        "claimSignature": signatures[2].to_string(),
    });
    let fields = made.as_object_mut().expect("fields");
    fields.extend(others.as_object().expect("fields").clone());
    made
}

fn assert_recovered(config: &ChannelConfig, digests: &[Keccak; 3], signatures: &[Signature; 3]) {
    let signers = [
        config.voucher_signer(),
        config.receiver_authorizer,
        config.receiver_authorizer,
    ];
    for ((digest, signature), signer) in digests.iter().zip(signatures).zip(signers) {
        assert_eq!(signature.recover(digest), Ok(signer));
    }
}

/// A channel of a payer that signs its own vouchers.
pub(crate) fn config(payer: &Address, label: &str) -> ChannelConfig {
    ChannelConfig {
        payer: *payer,
        payer_authorizer: Address::ZERO,
        receiver: place(&format!("till {label}")),
        receiver_authorizer: secret(&format!("receiver {label}")).address(),
        token: place("token"),
        withdraw_delay_s: 86_400,
        salt: word(label).0,
    }
}

/// A voucher of the channel over so many micro-OPEN.
pub(crate) fn voucher(
    config: &ChannelConfig,
    micro: u128,
    key: &EvmKey,
    scheme: &Deployment,
) -> Voucher {
    let (channel, max) = (config.id(scheme), BaseUnits(micro * 1_000_000_000_000));
    let signature = key.sign(&Voucher::digest(channel, max, scheme));
    Voucher {
        channel,
        max,
        signature,
    }
}

pub(crate) fn inputs() -> Vec<Value> {
    let cases = (0..5u64).flat_map(|at| [(1612, at), (31_337, at)]);
    cases.map(|(chain, at)| input(chain, at)).collect()
}

fn input(chain: u64, at: u64) -> Value {
    let label = format!("{chain} {at}");
    let payer = secret(&format!("payer {label}"));
    let mut config = config(&payer.address(), &label);
    let signer = match at % 3 {
        0 => secret(&format!("vouchers {label}")),
        _ => payer,
    };
    if at % 3 < 2 {
        config.payer_authorizer = signer.address();
    }
    let max = match at {
        0 => u128::MAX,
        at => 7u128.pow(9 * at as u32),
    };
    let claims = (0..=at).map(|other| match other {
        0 => {
            json!({ "maxClaimableAmount": max.to_string(), "totalClaimed": (max / 3).to_string() })
        }
        other => json!({
            "channelId": word(&format!("other {other}")).to_string(),
            "maxClaimableAmount": (other * 1000).to_string(),
            "totalClaimed": other.to_string(),
        }),
    });
    json!({
        "chainId": chain,
        "config": {
            "payer": config.payer.to_string(),
            "payerAuthorizer": config.payer_authorizer.to_string(),
            "receiver": config.receiver.to_string(),
            "receiverAuthorizer": config.receiver_authorizer.to_string(),
            "token": config.token.to_string(),
            "withdrawDelay": 900 * (at + 1),
            "salt": Keccak(config.salt).to_string(),
        },
        "maxClaimableAmount": max.to_string(),
        "refund": { "nonce": at, "amount": (max / 5).to_string() },
        "claims": claims.collect::<Vec<_>>(),
        "deposit": {
            "token": { "name": "Test OPEN", "version": "1" },
            "amount": (max / 7).to_string(),
            "validAfter": at.to_string(),
            "validBefore": (u64::MAX >> at).to_string(),
            "salt": word(&format!("deposit {label}")).to_string(),
        },
        "keys": {
            "payer": Keccak(*secret(&format!("payer {label}")).to_bytes()).to_string(),
            "voucher": Keccak(*signer.to_bytes()).to_string(),
            "authorizer": Keccak(*secret(&format!("receiver {label}")).to_bytes()).to_string(),
        },
    })
}
