#!/usr/bin/env node
// What x402's own client makes of two channels, and viem of the statements that members sign, so that the contracts are
// held against a third program:
//
//   node golden.mjs           writes test/golden.json
//   node golden.mjs --check   exit status 1 when test/golden.json differs, or when the ABI in artifacts/Channels.json
//                             lacks a function or event of the package, or has it with other types
//
// Chain 1612, the contract where the client expects it. The keys are keccak256 of a label, and hold nothing anywhere.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { BATCH_SETTLEMENT_ADDRESS, claimBatchTypes, refundTypes } from "@x402/evm";
import {
  computeChannelId,
  createBatchSettlementEIP3009DepositPayload,
  signVoucher,
} from "@x402/evm/batch-settlement/client";
import { getAddress, hashStruct, hashTypedData, keccak256, stringToHex, toFunctionSignature, toEventSignature } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const CHAIN = 1612;
const secret = (label) => keccak256(stringToHex(`tributary channel ${label}`));
const account = (label) => privateKeyToAccount(secret(label));
const place = (label) => getAddress(`0x${secret(label).slice(-40)}`);
const at = (name) => new URL(name, import.meta.url);

// The package does not export its ABI and its collectors' data by name; one of its files does.
async function inside(definition, wanted) {
  const folder = at("node_modules/@x402/evm/dist/esm/");
  for (const name of readdirSync(folder)) {
    if (!name.endsWith(".mjs") || !readFileSync(new URL(name, folder), "utf8").includes(definition)) continue;
    return (await import(new URL(name, folder)))[wanted];
  }
  throw new Error(`@x402/evm has no ${wanted} any more: see which file of it has it now`);
}

const clientAbi = () => inside("var batchSettlementABI", "batchSettlementABI");
const collectorData = await inside("function buildErc3009CollectorData", "buildErc3009CollectorData");

// The deposit that the client signs, with a salt and a clock that are the same every time.
async function deposit(config, most) {
  const [random, now] = [crypto.getRandomValues, Date.now];
  const salt = secret(`salt of the deposit into ${config.salt}`);
  crypto.getRandomValues = (bytes) => Buffer.from(salt.slice(2), "hex").copy(bytes) && bytes;
  Date.now = () => 1_800_000_000_000;
  try {
    const terms = { network: `eip155:${CHAIN}`, asset: config.token, maxTimeoutSeconds: 600 };
    const extra = { name: "Test OPEN", version: "1" };
    const { payload } = await createBatchSettlementEIP3009DepositPayload(
      payer, 2, { ...terms, extra }, config, "7000000000000000000", most,
    );
    const { amount, authorization } = payload.deposit;
    const { validAfter, validBefore, salt, signature } = authorization.erc3009Authorization;
    return { deposit: amount, depositData: collectorData(validAfter, validBefore, salt, signature) };
  } finally {
    [crypto.getRandomValues, Date.now] = [random, now];
  }
}

const payer = account("payer");
const authorizer = account("authorizer");
const domain = {
  name: "x402 Batch Settlement",
  version: "1",
  chainId: CHAIN,
  verifyingContract: BATCH_SETTLEMENT_ADDRESS,
};

async function channel(signer, payerAuthorizer, salt) {
  const config = {
    payer: payer.address,
    payerAuthorizer,
    receiver: place("till"),
    receiverAuthorizer: authorizer.address,
    token: place("token"),
    withdrawDelay: 86400,
    salt: secret(salt),
  };
  const id = computeChannelId(config, CHAIN);
  const most = 5000000000000000000n;
  const taken = 3000000000000000000n;
  const { signature } = await signVoucher(signer, id, `${most}`, `eip155:${CHAIN}`);
  const batch = { claims: [{ channelId: id, maxClaimableAmount: most, totalClaimed: taken }] };
  const refund = { channelId: id, nonce: 0n, amount: 1000000000000000000n };
  const typed = (types, primaryType, message) => ({ domain, types, primaryType, message });
  return {
    ...config,
    id,
    ...(await deposit(config, `${most}`)),
    most: `${most}`,
    taken: `${taken}`,
    voucher: signature,
    claim: await authorizer.signTypedData(typed(claimBatchTypes, "ClaimBatch", batch)),
    claimDigest: hashTypedData(typed(claimBatchTypes, "ClaimBatch", batch)),
    refundAmount: `${refund.amount}`,
    refund: await authorizer.signTypedData(typed(refundTypes, "Refund", refund)),
    refundDigest: hashTypedData(typed(refundTypes, "Refund", refund)),
  };
}

const fields = (text) => text.split(",").map((one) => ({ type: one.split(" ")[0], name: one.split(" ")[1] }));
const signedTypes = {
  Terms: fields(
    "bytes32 run,address sponsor,address arbiter,uint128 rate,uint128 challengeBond,uint128 minStake,uint64 window,uint64 cooldown,uint64 halt",
  ),
  Root: fields("bytes32 run,uint64 height,bytes32 balances,uint128 total,uint128 fees,bytes32 lines,bool closed"),
  Confirm: fields("bytes32 run,uint64 height,bytes32 root"),
  Slash: fields("bytes32 run,address account,uint128 amount,bytes32 evidence"),
};

function settlement() {
  const contract = place("settlement");
  const terms = {
    run: secret("run"),
    sponsor: place("sponsor"),
    arbiter: place("arbiter"),
    rate: 250000000000n,
    challengeBond: 25000000000000000000n,
    minStake: 7000000000000000000000n,
    window: 86400n,
    cooldown: 1209600n,
    halt: 2592000n,
  };
  const run = hashStruct({ data: terms, primaryType: "Terms", types: signedTypes });
  const domain = { name: "Tributary Settlement", version: "1", chainId: CHAIN, verifyingContract: contract };
  const digest = (primaryType, message) =>
    hashTypedData({ domain, types: { [primaryType]: signedTypes[primaryType] }, primaryType, message });
  const total = 2n ** 127n + 12345n;
  const fees = 2n ** 126n + 6789n;
  const root = { run, height: 77n, balances: secret("balances"), total, fees, lines: secret("lines"), closed: true };
  const rootDigest = digest("Root", root);
  const slash = { run, account: place("guilty"), amount: total, evidence: secret("evidence") };
  const texts = (object) =>
    Object.fromEntries(Object.entries(object).map(([k, v]) => [k, typeof v === "bigint" ? `${v}` : v]));
  return {
    contract,
    terms: texts(terms),
    key: run,
    root: texts(root),
    rootDigest,
    confirmDigest: digest("Confirm", { run, height: root.height, root: rootDigest }),
    slash: texts(slash),
    slashDigest: digest("Slash", slash),
  };
}

const made = {
  contract: BATCH_SETTLEMENT_ADDRESS,
  chain: `${CHAIN}`,
  settlement: settlement(),
  // Vouchers by the payer itself, and by a key of its own for vouchers.
  own: await channel(payer, `0x${"00".repeat(20)}`, "salt of the first"),
  key: await channel(account("vouchers"), account("vouchers").address, "salt of the second"),
};
const text = `${JSON.stringify(made, null, 1)}\n`;
if (!process.argv.includes("--check")) writeFileSync(at("test/golden.json"), text);
else {
  const wrong = [];
  if (readFileSync(at("test/golden.json"), "utf8") !== text) wrong.push("test/golden.json is not what the client makes");
  const theirs = await clientAbi();
  const { abi } = JSON.parse(readFileSync(at("artifacts/Channels.json"), "utf8"));
  const shape = (one) => {
    const signature = one.type === "event" ? toEventSignature(one) : toFunctionSignature(one);
    const results = (one.outputs ?? []).map(({ name, type }) => `${type} ${name}`);
    const indexed = one.type === "event" ? one.inputs.map((input) => input.indexed) : [];
    return JSON.stringify([one.type, signature, results, one.stateMutability, indexed]);
  };
  const ours = new Set(abi.filter(({ type }) => type === "function" || type === "event").map(shape));
  for (const one of theirs) {
    if (!ours.has(shape(one))) wrong.push(`Channels lacks ${shape(one)}`);
  }
  if (wrong.length > 0) {
    console.error(wrong.join("\n"));
    process.exit(1);
  }
  console.log(`as x402's client has it: test/golden.json and ${theirs.length} functions and events`);
}
