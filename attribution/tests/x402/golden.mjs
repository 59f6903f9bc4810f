// What viem and x402's own client (`@x402/evm`) make of channels, vouchers, terms, roots and trees, so that the Rust of
// this crate and the Solidity of the contracts can both be held against a third program.
//
//   node golden.mjs                 writes golden.json
//   node golden.mjs --check FILE    makes everything in FILE again from its inputs and checks every signature;
//                                   exit status 1, and a line for each difference, when something is not the same
//
// A file has four lists: `channels`, `settlements`, `balances`, `lines`. Amounts are base units as decimal strings, hashes,
// addresses and signatures are 0x-hexadecimal. Keys of the signers (`keys`, `secret`) are keccak256 of a label, and hold
// nothing anywhere; a file to check needs none.

import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import {
  claimBatchTypes,
  refundTypes,
  voucherTypes,
  BATCH_SETTLEMENT_ADDRESS,
  BATCH_SETTLEMENT_DOMAIN,
  ERC3009_DEPOSIT_COLLECTOR_ADDRESS,
} from "@x402/evm";
import {
  computeChannelId,
  createBatchSettlementEIP3009DepositPayload,
  signVoucher,
} from "@x402/evm/batch-settlement/client";
import {
  concat,
  encodeAbiParameters,
  encodePacked,
  getAddress,
  hashTypedData,
  keccak256,
  numberToHex,
  recoverAddress,
  stringToHex,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";

const MOST = 2n ** 128n - 1n;
const ZERO_ADDRESS = `0x${"00".repeat(20)}`;
const LAST_ADDRESS = `0x${"ff".repeat(20)}`;
const ZERO_HASH = `0x${"00".repeat(32)}`;

const secret = (label) => keccak256(stringToHex(`tributary test key ${label}`));
const account = (label) => privateKeyToAccount(secret(label));
const word = (label) => keccak256(stringToHex(`tributary test word ${label}`));
const place = (label) => getAddress(`0x${word(label).slice(-40)}`);

// Channels and vouchers: x402's own functions where the package has one.

const x402Domain = (chainId) => ({
  ...BATCH_SETTLEMENT_DOMAIN,
  chainId,
  verifyingContract: getAddress(BATCH_SETTLEMENT_ADDRESS),
});

const x402Digest = (chainId, types, primaryType, message) =>
  hashTypedData({ domain: x402Domain(chainId), types, primaryType, message });

const voucherMessage = (id, maxClaimableAmount) => ({
  channelId: id,
  maxClaimableAmount: BigInt(maxClaimableAmount),
});

const refundMessage = (id, { nonce, amount }) => ({
  channelId: id,
  nonce: BigInt(nonce),
  amount: BigInt(amount),
});

const claimMessage = (id, claims) => ({
  claims: claims.map((claim) => ({
    channelId: claim.channelId ?? id,
    maxClaimableAmount: BigInt(claim.maxClaimableAmount),
    totalClaimed: BigInt(claim.totalClaimed),
  })),
});

// What the package does not export by name; one of its files does.
async function inside(definition, ...wanted) {
  const folder = new URL("node_modules/@x402/evm/dist/esm/", import.meta.url);
  for (const name of readdirSync(folder)) {
    if (!name.endsWith(".mjs") || !readFileSync(new URL(name, folder), "utf8").includes(definition)) continue;
    const all = await import(new URL(name, folder));
    return wanted.map((one) => all[one]);
  }
  throw new Error(`@x402/evm has no ${wanted} any more: see which file of it has them now`);
}

const [depositNonce, collectorData] = await inside(
  "function buildErc3009CollectorData",
  "buildErc3009DepositNonce",
  "buildErc3009CollectorData",
);
const [receiveTypes] = await inside("var receiveAuthorizationTypes", "receiveAuthorizationTypes");

// Of EIP-3009: what a payer signs for its token.
function depositDigest(chainId, config, id, { token, amount, validAfter, validBefore, salt }) {
  const message = {
    from: config.payer,
    to: ERC3009_DEPOSIT_COLLECTOR_ADDRESS,
    value: BigInt(amount),
    validAfter: BigInt(validAfter),
    validBefore: BigInt(validBefore),
    nonce: depositNonce(id, salt),
  };
  const domain = { ...token, chainId, verifyingContract: config.token };
  return hashTypedData({ domain, types: receiveTypes, primaryType: "ReceiveWithAuthorization", message });
}

const depositData = ({ validAfter, validBefore, salt }, signature) =>
  collectorData(validAfter, validBefore, salt, signature);

// The deposit as the client makes it, with a salt and a clock that are the same every time. It is good from second 0 on.
async function clientDeposit(chainId, config, { token, amount, validBefore, salt }, maxClaimableAmount, payer) {
  const [random, now] = [crypto.getRandomValues, Date.now];
  crypto.getRandomValues = (bytes) => Buffer.from(salt.slice(2), "hex").copy(bytes) && bytes;
  Date.now = () => (Number(validBefore) - 600) * 1000;
  try {
    const terms = { network: `eip155:${chainId}`, asset: config.token, maxTimeoutSeconds: 600, extra: token };
    const made = await createBatchSettlementEIP3009DepositPayload(payer, 2, terms, config, amount, maxClaimableAmount);
    const authorization = made.payload.deposit.authorization.erc3009Authorization;
    const wanted = { validAfter: "0", validBefore, salt };
    for (const [name, value] of Object.entries(wanted)) {
      if (authorization[name] !== value) throw new Error(`the client makes ${name} ${authorization[name]}, not ${value}`);
    }
    return authorization.signature;
  } finally {
    [crypto.getRandomValues, Date.now] = [random, now];
  }
}

// Everything that follows from a channel's inputs, but for signatures.
function channel({ chainId, config, maxClaimableAmount, refund, claims, deposit }) {
  const id = computeChannelId(config, chainId);
  return {
    channelId: id,
    voucherDigest: x402Digest(chainId, voucherTypes, "Voucher", voucherMessage(id, maxClaimableAmount)),
    refundDigest: x402Digest(chainId, refundTypes, "Refund", refundMessage(id, refund)),
    claimDigest: x402Digest(chainId, claimBatchTypes, "ClaimBatch", claimMessage(id, claims)),
    depositNonce: depositNonce(id, deposit.salt),
    depositDigest: depositDigest(chainId, config, id, deposit),
  };
}

async function signedChannel(input, keys) {
  const [signer, authorizer, payer] = [keys.voucher, keys.authorizer, keys.payer].map((key) => privateKeyToAccount(key));
  const made = channel(input);
  const network = `eip155:${input.chainId}`;
  const voucher = await signVoucher(signer, made.channelId, input.maxClaimableAmount, network);
  const { chainId, config, deposit, maxClaimableAmount } = input;
  const depositSignature = await clientDeposit(chainId, config, deposit, maxClaimableAmount, payer);
  return {
    ...input,
    ...made,
    keys,
    voucherSignature: voucher.signature,
    refundSignature: await authorizer.sign({ hash: made.refundDigest }),
    claimSignature: await authorizer.sign({ hash: made.claimDigest }),
    depositSignature,
    depositData: depositData(deposit, depositSignature),
  };
}

async function channels() {
  const made = [];
  for (const chainId of [1612, 31337]) {
    for (const [at, maxClaimableAmount] of ["1000000000000", "123456000000000000", `${MOST}`].entries()) {
      const label = `${chainId} ${at}`;
      // With a key of its own for vouchers, with the payer's own, and with none, so that the payer signs.
      const keys = {
        voucher: secret(`${at === 0 ? "vouchers" : "payer"} ${label}`),
        authorizer: secret(`receiver ${label}`),
        payer: secret(`payer ${label}`),
      };
      const payer = account(`payer ${label}`);
      const config = {
        payer: payer.address,
        payerAuthorizer: at === 2 ? ZERO_ADDRESS : privateKeyToAccount(keys.voucher).address,
        receiver: place(`till ${label}`),
        receiverAuthorizer: privateKeyToAccount(keys.authorizer).address,
        token: place("token"),
        withdrawDelay: [900, 86400, 2592000][at],
        salt: word(`salt ${label}`),
      };
      const claim = { maxClaimableAmount, totalClaimed: `${BigInt(maxClaimableAmount) / 2n}` };
      const others = [...Array(at).keys()].map((other) => ({
        channelId: word(`other channel ${other}`),
        maxClaimableAmount: `${7 + other}`,
        totalClaimed: `${other}`,
      }));
      const input = {
        chainId,
        config,
        maxClaimableAmount,
        refund: { nonce: at * 3, amount: `${5n ** BigInt(at * 20)}` },
        claims: [claim, ...others],
        deposit: {
          token: [{ name: "Test OPEN", version: "1" }, { name: "USDC", version: "2" }][at % 2],
          amount: maxClaimableAmount,
          validAfter: "0",
          validBefore: `${1_800_000_600 + at}`,
          salt: word(`deposit ${label}`),
        },
      };
      made.push(await signedChannel(input, keys));
    }
  }
  return made;
}

// Terms, roots and the other statements that members sign for the contract.

const field = (type, name) => ({ type, name });

const settlementTypes = {
  Terms: [
    field("bytes32", "run"),
    field("address", "sponsor"),
    field("address", "arbiter"),
    field("uint128", "rate"),
    field("uint128", "challengeBond"),
    field("uint128", "minStake"),
    field("uint64", "window"),
    field("uint64", "cooldown"),
    field("uint64", "halt"),
  ],
  Root: [
    field("bytes32", "run"),
    field("uint64", "height"),
    field("bytes32", "balances"),
    field("uint128", "total"),
    field("uint128", "fees"),
    field("bytes32", "lines"),
    field("bool", "closed"),
  ],
  Bind: [field("bytes32", "run"), field("bytes32", "peer")],
  AnswerShares: [
    field("bytes32", "channel"),
    field("uint128", "charged"),
    field("bytes32", "request"),
    field("bytes32", "text"),
    field("bytes32", "shares"),
  ],
  Slash: [
    field("bytes32", "run"),
    field("address", "account"),
    field("uint128", "amount"),
    field("bytes32", "evidence"),
  ],
  Confirm: [field("bytes32", "run"), field("uint64", "height"), field("bytes32", "root")],
};

function encoded(type, message) {
  const fields = settlementTypes[type];
  const name = `${type}(${fields.map((one) => `${one.type} ${one.name}`).join(",")})`;
  const types = [field("bytes32", "hash"), ...fields];
  return encodeAbiParameters(types, [keccak256(stringToHex(name)), ...fields.map((one) => message[one.name])]);
}

const settlementDigest = ({ chainId, contract }, primaryType, message) =>
  hashTypedData({
    domain: { name: "Tributary Settlement", version: "1", chainId, verifyingContract: contract },
    types: { [primaryType]: settlementTypes[primaryType] },
    primaryType,
    message,
  });

const wholeTerms = (terms) => ({
  ...terms,
  rate: BigInt(terms.rate),
  challengeBond: BigInt(terms.challengeBond),
  minStake: BigInt(terms.minStake),
  window: BigInt(terms.window),
  cooldown: BigInt(terms.cooldown),
  halt: BigInt(terms.halt),
});

// One contributor's share of an answer of the channel that the evidence stands for. The root's hashes stand for what was
// asked and answered.
const agreed = ({ peer, slash, root }) => ({
  channel: slash.evidence,
  charged: BigInt(root.total),
  request: root.balances,
  text: root.lines,
  shares: keccak256(encodePacked(["bytes32", "uint32"], [peer, 600_000_000])),
});

// Everything that follows from a settlement's inputs, but for signatures.
function settlement(input) {
  const key = keccak256(encoded("Terms", wholeTerms(input.terms)));
  const { height, balances, total, fees, lines, closed } = input.root;
  const amounts = { total: BigInt(total), fees: BigInt(fees) };
  const root = { run: key, height: BigInt(height), balances, ...amounts, lines, closed };
  const rootDigest = settlementDigest(input, "Root", root);
  const slash = { ...input.slash, run: key, amount: BigInt(input.slash.amount) };
  return {
    key,
    rootDigest,
    bindDigest: settlementDigest(input, "Bind", { run: key, peer: input.peer }),
    sharesDigest: settlementDigest(input, "AnswerShares", agreed(input)),
    slashDigest: settlementDigest(input, "Slash", slash),
    confirmDigest: settlementDigest(input, "Confirm", { run: key, height: BigInt(height), root: rootDigest }),
  };
}

async function signedSettlement(input, key) {
  const signer = privateKeyToAccount(key);
  const made = settlement(input);
  return {
    ...input,
    ...made,
    secret: key,
    signer: signer.address,
    rootSignature: await signer.sign({ hash: made.rootDigest }),
    bindSignature: await signer.sign({ hash: made.bindDigest }),
    sharesSignature: await signer.sign({ hash: made.sharesDigest }),
    slashSignature: await signer.sign({ hash: made.slashDigest }),
    confirmSignature: await signer.sign({ hash: made.confirmDigest }),
  };
}

async function settlements() {
  const made = [];
  for (const chainId of [1612, 31337]) {
    for (const closed of [false, true]) {
      const label = `${chainId} ${closed}`;
      const input = {
        chainId,
        contract: place(`contract ${label}`),
        terms: {
          run: word(`run ${label}`),
          sponsor: place(`sponsor ${label}`),
          arbiter: closed ? place(`arbiter ${label}`) : ZERO_ADDRESS,
          rate: closed ? `${MOST}` : "250000000000",
          challengeBond: "25000000000000000000",
          minStake: closed ? `${MOST}` : "0",
          window: closed ? "18446744073709551615" : "86400",
          cooldown: "604800",
          halt: "2592000",
        },
        root: {
          height: closed ? "18446744073709551615" : "17",
          balances: word(`balances ${label}`),
          total: closed ? `${MOST}` : "31000000000000",
          fees: closed ? `${MOST}` : "7000000000000",
          lines: closed ? ZERO_HASH : word(`lines ${label}`),
          closed,
        },
        peer: word(`peer ${label}`),
        slash: { account: place(`liar ${label}`), amount: "3000000000000000000", evidence: word(`evidence ${label}`) },
      };
      made.push(await signedSettlement(input, secret(`member ${label}`)));
    }
  }
  return made;
}

// Trees.

const sum16 = (amount) => numberToHex(BigInt(amount), { size: 16 });
const sumLeaf = ({ address, balance }) => ({
  hash: keccak256(concat(["0x00", address, sum16(balance)])),
  sum: BigInt(balance),
});
const sumNode = (left, right) => ({
  hash: keccak256(concat(["0x01", left.hash, sum16(left.sum), right.hash, sum16(right.sum)])),
  sum: left.sum + right.sum,
});
const plain = ({ hash, sum }) => ({ hash, sum: `${sum}` });

// From accounts (any order) to the root and a proof of every leaf, those at both ends included.
function balances({ accounts }) {
  const between = [...accounts].sort((a, b) => (BigInt(a.address) < BigInt(b.address) ? -1 : 1));
  const first = { address: ZERO_ADDRESS, balance: "0" };
  const last = { address: LAST_ADDRESS, balance: "0" };
  const leaves = [first, ...between, last];
  const padded = [...leaves];
  while (Math.log2(padded.length) % 1 !== 0) padded.push(last);
  const levels = [padded.map(sumLeaf)];
  while (levels.at(-1).length > 1) {
    const below = levels.at(-1);
    levels.push(below.filter((_, at) => at % 2 === 0).map((left, at) => sumNode(left, below[2 * at + 1])));
  }
  const proofs = leaves.map((leaf, index) => ({
    index,
    address: getAddress(leaf.address),
    balance: leaf.balance,
    leaf: levels[0][index].hash,
    siblings: levels.slice(0, -1).map((level, up) => plain(level[(index >> up) ^ 1])),
  }));
  const root = levels.at(-1)[0];
  return { root: root.hash, total: `${root.sum}`, proofs };
}

// From lines (bytes) to the root and a proof of each: siblings from the bottom, `left` says on which side each stands.
function lines({ lines }) {
  if (lines.length === 0) return { root: ZERO_HASH, proofs: [] };
  let level = lines.map((line) => keccak256(concat(["0x02", line])));
  const proofs = level.map((leaf) => ({ leaf, siblings: [] }));
  let at = proofs.map((_, index) => index);
  while (level.length > 1) {
    proofs.forEach((proof, index) => {
      const other = at[index] ^ 1;
      if (other < level.length) proof.siblings.push({ hash: level[other], left: other < at[index] });
    });
    at = at.map((index) => index >> 1);
    const next = [];
    for (let left = 0; left < level.length; left += 2) {
      const pair = left + 1 < level.length;
      next.push(pair ? keccak256(concat(["0x03", level[left], level[left + 1]])) : level[left]);
    }
    level = next;
  }
  return { root: level[0], proofs };
}

const countedAccounts = (count) =>
  [...Array(count).keys()].map((at) => ({
    address: place(`account ${at}`),
    balance: count === 1 ? `${MOST}` : `${BigInt(at) * 10n ** 12n}`,
  }));

const countedLines = (count) =>
  [...Array(count).keys()].map((at) => stringToHex(`${"line ".repeat(at)}${at}`));

function trees(counts, inputs, made) {
  return counts.map(inputs).map((input) => ({ ...input, ...made(input) }));
}

async function golden() {
  return {
    channels: await channels(),
    settlements: await settlements(),
    balances: trees([0, 1, 2, 3, 6, 13], (count) => ({ accounts: countedAccounts(count) }), balances),
    lines: trees([0, 1, 2, 3, 5, 8, 11], (count) => ({ lines: countedLines(count) }), lines),
  };
}

// Checking what another program made.

const differences = [];
let compared = 0;

// Hexadecimal may be written in either case.
function same(where, found, wanted) {
  compared += 1;
  const text = (value) => JSON.stringify(value).toLowerCase();
  if (text(found) !== text(wanted)) differences.push(`${where}: ${text(found)} in the file, ${text(wanted)} here`);
}

async function signed(where, hash, signature, signer) {
  let found = "no key";
  try {
    found = await recoverAddress({ hash, signature });
  } catch (error) {
    found = `no key (${error.message})`;
  }
  same(`${where} is signed by`, found, signer);
}

async function check(file) {
  for (const [at, one] of file.channels.entries()) {
    const where = `channel ${at}`;
    const made = channel(one);
    for (const [name, value] of Object.entries(made)) same(`${where}, ${name}`, one[name], value);
    const { payer, payerAuthorizer, receiverAuthorizer } = one.config;
    const voucherSigner = BigInt(payerAuthorizer) === 0n ? payer : payerAuthorizer;
    await signed(`${where}, voucher`, made.voucherDigest, one.voucherSignature, voucherSigner);
    await signed(`${where}, refund`, made.refundDigest, one.refundSignature, receiverAuthorizer);
    await signed(`${where}, claim`, made.claimDigest, one.claimSignature, receiverAuthorizer);
    await signed(`${where}, deposit`, made.depositDigest, one.depositSignature, payer);
    same(`${where}, depositData`, one.depositData, depositData(one.deposit, one.depositSignature));
  }
  for (const [at, one] of file.settlements.entries()) {
    const where = `settlement ${at}`;
    const made = settlement(one);
    for (const [name, value] of Object.entries(made)) same(`${where}, ${name}`, one[name], value);
    await signed(`${where}, root`, made.rootDigest, one.rootSignature, one.signer);
    await signed(`${where}, bind`, made.bindDigest, one.bindSignature, one.signer);
    await signed(`${where}, shares`, made.sharesDigest, one.sharesSignature, one.signer);
    await signed(`${where}, slash`, made.slashDigest, one.slashSignature, one.signer);
    await signed(`${where}, confirm`, made.confirmDigest, one.confirmSignature, one.signer);
  }
  for (const [name, made] of [["balances", balances], ["lines", lines]]) {
    for (const [at, one] of file[name].entries()) {
      const again = made(one);
      same(`${name} ${at}, root`, one.root, again.root);
      if (name === "balances") same(`${name} ${at}, total`, one.total, again.total);
      same(`${name} ${at}, number of proofs`, one.proofs.length, again.proofs.length);
      for (const [index, proof] of again.proofs.entries()) {
        for (const [part, value] of Object.entries(proof)) {
          same(`${name} ${at}, proof ${index}, ${part}`, one.proofs[index]?.[part], value);
        }
      }
    }
  }
}

const path = new URL("golden.json", import.meta.url);
const [option, file] = process.argv.slice(2);
if (option === undefined) {
  writeFileSync(path, `${JSON.stringify(await golden(), null, 1)}\n`);
} else if (option === "--check" && file !== undefined) {
  await check(JSON.parse(readFileSync(file, "utf8")));
  if (differences.length > 0 || compared === 0) {
    console.error(differences.join("\n") || `${file} holds nothing to check`);
    process.exit(1);
  }
  console.log(`${compared} values of ${file} are what viem and @x402/evm make of the same inputs`);
} else {
  console.error("usage: node golden.mjs [--check FILE]");
  process.exit(2);
}
