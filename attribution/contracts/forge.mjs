#!/usr/bin/env node
// Runs npm's forge with npm's solc: `node forge.mjs test`. Nothing is fetched.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
const here = fileURLToPath(new URL(".", import.meta.url));
const forge = `${here}node_modules/@foundry-rs/forge-linux-amd64/bin/forge`;
const { status, error } = spawnSync(forge, process.argv.slice(2), { cwd: here, stdio: "inherit" });
if (error) console.error(`forge does not start (${error.message}): run npm ci in ${here} first`);
process.exit(status ?? 1);
