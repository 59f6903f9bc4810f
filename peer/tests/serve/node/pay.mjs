// x402's client for Node pays a server: `node pay.mjs URL KEY MODEL allowance|deposit`.
import assert from "node:assert/strict";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { privateKeyToAccount } from "viem/accounts";

const [, , baseURL, key, model, kind] = process.argv;
const account = privateKeyToAccount(key);
const payer = { address: account.address, signTypedData: (data) => account.signTypedData(data) };
// On an allowance nothing lies on the chain, and a client that reads it finds zeros. It needs that answer to catch up.
const signer = kind === "allowance" ? { ...payer, readContract: async () => [0n, 0n] } : payer;
const options = kind === "allowance" ? { depositStrategy: () => false } : undefined;
const scheme = new BatchSettlementEvmScheme(signer, options);
const client = new x402Client().register("eip155:*", scheme);
// Test OPEN is no token that the client knows, so its bounds in dollars say nothing.
client.setSpendControls(false);

const kinds = [];
let loses = false;
const over = async (input, init) => {
  const request = new Request(input, init);
  const payment = request.headers.get("PAYMENT-SIGNATURE");
  const response = await fetch(request);
  if (payment && response.ok) {
    kinds.push(JSON.parse(Buffer.from(payment, "base64")).payload.type);
    if (loses) {
      loses = false;
      throw new Error("the response is lost");
    }
  }
  return response;
};
const pay = wrapFetchWithPayment(over, client);
const ask = (content, max_tokens) => pay(`${baseURL}/chat/completions`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ model, messages: [{ role: "user", content }], max_tokens }),
});
const charged = async (response) => {
  const text = await response.text();
  assert.equal(response.status, 200, text);
  assert.ok(JSON.parse(text).choices[0].message.content.length > 0);
  const settled = JSON.parse(Buffer.from(response.headers.get("PAYMENT-RESPONSE"), "base64"));
  assert.ok(settled.success && BigInt(settled.extra.chargedAmount) > 0n);
  return BigInt(settled.extra.channelState.chargedCumulativeAmount);
};

const totals = [];
for (const content of ["Once", "The", "A ship"]) totals.push(await charged(await ask(content, 8)));
assert.ok(totals[0] < totals[1] && totals[1] < totals[2], totals.join(" "));
if (kind === "allowance") {
  assert.deepEqual(kinds, ["voucher", "voucher", "voucher"]);
  loses = true;
  await assert.rejects(ask("The sea", 8), /lost/);
  // The client does not know of that charge; its next voucher is stale, and it catches up.
  totals.push(await charged(await ask("The wind", 8)));
  // A request that may cost less than the last one did not.
  totals.push(await charged(await ask("It", 1)));
  assert.ok(totals[3] < totals[4], totals.join(" "));
} else {
  assert.deepEqual(kinds, ["deposit", "voucher", "voucher"]);
}
console.log("paid for every answer");
