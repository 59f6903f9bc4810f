#!/usr/bin/env node
// Gas of whole transactions: `node gas.mjs` measures and writes gas.txt, `node gas.mjs --check` measures and fails when
// gas.txt says something else. test/Gas.t.sol does the measuring, and fails above the targets.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
const at = (name) => fileURLToPath(new URL(name, import.meta.url));
const run = spawnSync(process.execPath, [at("forge.mjs"), "test", "--isolate", "--match-path", "test/Gas.t.sol", "-vvvv"], {
  encoding: "utf8",
  maxBuffer: 1 << 30,
});
const measured = [...run.stdout.matchAll(/emit Measured\(label: "([^"]+)", gas: (\d+)/g)];
if (run.status !== 0 || measured.length === 0) {
  console.error(run.stdout.slice(-4000), run.stderr);
  process.exit(1);
}
// What is measured more than once is told at its worst.
const worst = new Map();
for (const [, label, gas] of measured) worst.set(label, Math.max(worst.get(label) ?? 0, Number(gas)));
const width = Math.max(...[...worst.keys()].map((label) => label.length));
const lines = [...worst].sort().map(([label, gas]) => `${label.padEnd(width)} ${`${gas}`.padStart(8)}`);
const text = `${lines.join("\n")}\n`;
if (!process.argv.includes("--check")) writeFileSync(at("gas.txt"), text);
else if (readFileSync(at("gas.txt"), "utf8") !== text) {
  console.error(`gas.txt says something else; run node gas.mjs and commit it. Measured:\n${text}`);
  process.exit(1);
}
process.stdout.write(text);
