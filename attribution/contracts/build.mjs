#!/usr/bin/env node
// Compiles the contracts with npm's solc and writes what the repository keeps of them:
//
//   node build.mjs           writes artifacts/
//   node build.mjs --check   compiles again; exit status 1, and a line for each file, when artifacts/ differ
//   node build.mjs --input   prints the whole standard JSON input, sources included, as explorers of chains want it
//
// artifacts/NAME.json     ABI, creation and runtime bytecode; `immutables` are the places of the runtime that the
//                         constructor fills
// artifacts/input.json    the standard JSON input with each source's keccak256 in the place of its text
// artifacts/HASHES        keccak256 of every bytecode and of the input, and the compiler
//
// Bytecode carries no metadata, so that comments do not change it.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const built = {
  "src/Settlement.sol": "Settlement",
  "src/Channels.sol": "Channels",
  "src/Collector.sol": "Collector",
  "src/Till.sol": "Till",
  "src/TestOpen.sol": "TestOpen",
};
/// Bytes of runtime code that a chain takes (EIP-170).
const MOST_BYTES = 24576;

function fail(message) {
  console.error(message);
  process.exit(1);
}

let solc, keccak256;
try {
  ({ default: solc } = await import("solc"));
  ({ default: { keccak256 } } = await import("js-sha3"));
} catch (error) {
  fail(`the compiler is not here (${error.message}): run npm ci in ${here} first`);
}

const hash = (bytes) => `0x${keccak256(bytes)}`;
const fileOf = (name) => join(here, name.startsWith("src/") ? name : `node_modules/${name}`);

// Every source that the contracts reach, by the name under which they import it.
function sources() {
  const found = {};
  const wanted = Object.keys(built);
  while (wanted.length > 0) {
    const name = wanted.pop();
    if (found[name] !== undefined) continue;
    found[name] = readFileSync(fileOf(name), "utf8");
    for (const [, path] of found[name].matchAll(/^\s*(?:import|\})[^;]*?"([^"]+)";/gm)) {
      wanted.push(path.startsWith(".") ? normalize(join(dirname(name), path)) : path);
    }
  }
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function input() {
  const output = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"];
  return {
    language: "Solidity",
    sources: Object.fromEntries(Object.entries(sources()).map(([name, content]) => [name, { content }])),
    settings: {
      evmVersion: "cancun",
      metadata: { appendCBOR: false, bytecodeHash: "none" },
      optimizer: { enabled: true, runs: 200 },
      outputSelection: Object.fromEntries(Object.entries(built).map(([file, name]) => [file, { [name]: output }])),
      remappings: [],
      viaIR: true,
    },
  };
}

function compile(whole) {
  const result = JSON.parse(solc.compile(JSON.stringify(whole)));
  // OpenZeppelin's own use of transient storage warns once; nothing else may.
  const bad = (result.errors ?? []).filter(({ severity, errorCode }) => severity === "error" || errorCode !== "2394");
  if (bad.length > 0) fail(bad.map(({ formattedMessage }) => formattedMessage).join("\n"));
  return result.contracts;
}

function artifact(name, { abi, evm }) {
  const runtime = evm.deployedBytecode.object;
  if (runtime.length / 2 > MOST_BYTES) fail(`${name}: ${runtime.length / 2} bytes of code, a chain takes ${MOST_BYTES}`);
  const immutables = Object.values(evm.deployedBytecode.immutableReferences ?? {}).flat();
  immutables.sort((a, b) => a.start - b.start);
  return {
    contractName: name,
    abi,
    bytecode: { object: `0x${evm.bytecode.object}` },
    deployedBytecode: { object: `0x${runtime}` },
    immutables,
  };
}

const pretty = (value) => `${JSON.stringify(value, null, 1)}\n`;

// File names and contents of artifacts/.
function artifacts(whole) {
  const contracts = compile(whole);
  const named = Object.entries(whole.sources).map(([name, { content }]) => [name, { keccak256: hash(content) }]);
  const canonical = pretty({ ...whole, sources: Object.fromEntries(named) });
  const files = { "input.json": canonical };
  const lines = [`solc ${solc.version()}`, `${hash(canonical)} input.json`];
  for (const [file, name] of Object.entries(built)) {
    const made = artifact(name, contracts[file][name]);
    files[`${name}.json`] = pretty(made);
    for (const part of ["bytecode", "deployedBytecode"]) {
      lines.push(`${hash(Buffer.from(made[part].object.slice(2), "hex"))} ${name} ${part}`);
    }
  }
  files.HASHES = `${lines.join("\n")}\n`;
  return files;
}

const whole = input();
if (process.argv.includes("--input")) {
  process.stdout.write(pretty(whole));
} else {
  const files = artifacts(whole);
  const folder = join(here, "artifacts");
  const check = process.argv.includes("--check");
  if (!check) mkdirSync(folder, { recursive: true });
  const stale = [];
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    if (!check) writeFileSync(path, content);
    else if (!existsSync(path) || readFileSync(path, "utf8") !== content) stale.push(name);
  }
  if (stale.length > 0) fail(`artifacts/ are not what src/ compiles to: ${stale.join(", ")}. Run node build.mjs and commit them`);
  console.log(`${check ? "as committed" : "written"}: ${Object.keys(files).join(", ")}`);
}
