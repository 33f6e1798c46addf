// Shared by the checks in a real Chromium. $TIDEGATE_CHROMIUM is the path of a Chromium other than Debian's.

import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

export const LIMIT_MS = 20_000;
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Launches Chromium, with a new profile. */
export function launch() {
  const executablePath = process.env.TIDEGATE_CHROMIUM || '/usr/bin/chromium';
  if (existsSync(executablePath)) return chromium.launch({ executablePath, args: FLAGS });
  console.error(`no Chromium at ${executablePath}: apt-get install chromium, or set TIDEGATE_CHROMIUM to the path of one`);
  process.exit(1);
}

/** Collects what the browser's console would show: errors, violations of the content security policy, exceptions. */
export function watch(page) {
  const problems = [];
  page.on('console', (message) => message.type() === 'error' && problems.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => problems.push(`uncaught: ${error.message}`));
  page.on('requestfailed', (request) => problems.push(`request failed: ${request.url()} ${request.failure()?.errorText}`));
  page.on('crash', () => problems.push('the page crashed'));
  return problems;
}

/** Runs checks in order and prints a line for each. The first failure ends the run, because later checks depend on it. */
export async function runChecks(what, checks, problems) {
  let passed = 0;
  let failed = 0;
  const all = [...checks, ['the browser reports no error', () => noneOf(problems)]];
  for (const [name, check] of all) {
    const started = performance.now();
    try {
      await check();
      passed += 1;
      console.log(`ok   ${name} (${Math.round(performance.now() - started)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}: ${error.message.split('\n')[0]}`);
      break;
    }
  }
  for (const problem of problems) console.log(`     browser: ${problem}`);
  console.log(`${what}: ${passed} passed, ${failed} failed`);
  return failed === 0;
}

function noneOf(problems) {
  if (problems.length) throw new Error(`${problems.length} reported, listed below`);
}

export async function open(page, url) {
  const response = await page.goto(url, { timeout: LIMIT_MS, waitUntil: 'domcontentloaded' });
  if (response?.status() !== 200) throw new Error(`${url} answers ${response?.status()}`);
}
