// Debian's Chromium for tests: `node browser.mjs CHROMIUM`. Each line on stdin is a piece of JavaScript and its argument,
// [code, argument] in JSON, which is run with Playwright's `context`; a line on stdout says what came of it.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const profile = mkdtempSync(join(tmpdir(), "pocketrec-chromium-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.argv[2],
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});
context.setDefaultTimeout(300_000); // what never comes ends at last; nothing is measured by it
const shared = {}; // what one piece of code leaves for the next
for await (const line of createInterface({ input: process.stdin })) {
  const [code, argument] = JSON.parse(line);
  let answer;
  try {
    const found = await new Function("context", "shared", "argument", `return (${code})({ context, shared, argument })`)(
      context, shared, argument,
    );
    answer = { found: found ?? null };
  } catch (error) {
    answer = { error: String(error.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await context.close();
rmSync(profile, { recursive: true, force: true });
