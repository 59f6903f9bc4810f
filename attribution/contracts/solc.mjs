#!/usr/bin/env node
// npm's solc as a program, for forge and slither: they ask for `--version`, or pipe standard JSON in.
import { readFileSync } from "node:fs";
import solc from "solc";
if (process.argv.includes("--version")) console.log(`solc, the solidity compiler\nVersion: ${solc.version()}`);
else process.stdout.write(solc.compile(readFileSync(0, "utf8")));
