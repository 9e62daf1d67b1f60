// Drives the admin pages in a headless Chromium: accessibility, a narrow screen, the keyboard.
//
// Usage: node check.mjs URL DETAILS [--pictures FOLDER]
//
// DETAILS is a file of JSON: { "token": the administrator's, "machine": id, "host": its name }.
// The machine is deleted. Exits with 1 and says what is wrong, or prints what was checked.
// CHROMIUM names the program; otherwise the usual names are tried.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, details, option, folder] = process.argv.slice(2);
const { token, machine, host } = JSON.parse(readFileSync(details, "utf8"));
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

// What WCAG 2.2 AA asks for, and what axe counts as good practice.
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const SERIOUS = ["serious", "critical"];
const NARROW = { width: 360, height: 740 };
const WIDE = { width: 1280, height: 800 };
// Tab stops after which a key press must have got anywhere on a page.
const MOST_TABS = 80;

const faults = [];
const fail = (fault) => faults.push(fault);

function program() {
  for (const name of [process.env.CHROMIUM, "chromium", "chromium-browser", "google-chrome"]) {
    if (!name) continue;
    try {
      execFileSync(name, ["--version"], { stdio: "ignore" });
      return execFileSync("/bin/sh", ["-c", `command -v "${name}"`]).toString().trim();
    } catch {
      // The next one.
    }
  }
  throw new Error("no Chromium is installed");
}

const browser = await chromium.launch({
  executablePath: program(),
  // Tests run as root in containers; the only pages that are opened are ours.
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

/** A page of a fresh browser that has not logged in. */
async function open(viewport, colorScheme) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce", bypassCSP: false });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("console", (message) => {
    if (message.type() === "error" && !/favicon|status of (403|404|409)/.test(message.text())) {
      fail(`console: ${message.text()}`);
    }
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) fail(`asked elsewhere: ${request.url()}`);
  });
  return page;
}

/** Presses Tab until the focus is on what `locator` names; every stop has to be seen. */
async function tabTo(page, locator, what) {
  for (let stops = 0; stops < MOST_TABS; stops += 1) {
    if (await locator.evaluate((it) => it === document.activeElement)) return;
    await page.keyboard.press("Tab");
    const focus = await page.evaluate(() => {
      const it = document.activeElement;
      if (!it || it === document.body) return null;
      const style = getComputedStyle(it);
      const box = it.getBoundingClientRect();
      const seen = box.width > 0 && box.height > 0 && box.left >= 0;
      return {
        name: `${it.tagName} ${it.textContent.trim().slice(0, 30)}`,
        marked: seen && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
      };
    });
    if (focus && !focus.marked) fail(`focus cannot be seen on ${focus.name} at ${page.url()}`);
  }
  throw new Error(`${what} cannot be reached by keyboard at ${page.url()}`);
}

/** Presses Enter on a link or button that the keyboard has reached, and waits for the next page. */
async function press(page, role, name) {
  const target = page.getByRole(role, { name, exact: true });
  await tabTo(page, target, `${role} ${name}`);
  await Promise.all([page.waitForEvent("load"), page.keyboard.press("Enter")]);
}

async function logIn(page) {
  await page.goto(url);
  const field = page.getByLabel("Administrator's token");
  await tabTo(page, field, "the token field");
  await page.keyboard.type(token);
  await Promise.all([page.waitForEvent("load"), page.keyboard.press("Enter")]);
  await heading(page, "Overview");
}

async function heading(page, text) {
  const found = await page.locator("h1").textContent();
  if (found !== text) throw new Error(`${text} was wanted, ${found} is there, at ${page.url()}`);
}

/** Axe, and no sideways scrolling. */
async function examine(page, what) {
  const { width } = page.viewportSize();
  const reach = await page.evaluate(() => document.scrollingElement.scrollWidth);
  if (reach > width) fail(`${what}: ${reach} px wide on ${width} px`);
  // Outside of the page's policy, which lets no script run.
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId } = await session.send("Page.createIsolatedWorld", {
    frameId: frameTree.frame.id,
    worldName: "axe",
  });
  const run = async (expression) => {
    const asked = { expression, contextId: executionContextId, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await session.send("Runtime.evaluate", asked);
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  await run(`${readFileSync(axe, "utf8")}; true`);
  const found = await run(
    `axe.run(document, { runOnly: ${JSON.stringify(RULES)}, resultTypes: ["violations"] })
       .then(({ violations, passes }) => ({ passes: passes.length, violations: violations.map((it) =>
         ({ id: it.id, impact: it.impact, help: it.help, nodes: it.nodes.map((n) => n.html) })) }))`,
  );
  await session.detach();
  if (found.passes < 5) fail(`${what}: axe has looked at nothing`);
  for (const it of found.violations) {
    const text = `${what}: ${it.impact} ${it.id}: ${it.help}: ${it.nodes.slice(0, 3).join(" | ")}`;
    if (SERIOUS.includes(it.impact)) fail(text);
    else console.log(`note: ${text}`);
  }
}

const PAGES = [
  "/", "/machines", "/machines?query=nobody-has-this", `/machines/${machine}`,
  `/machines/${machine}/delete`, "/tokens", "/tokens/new", "/tokens/enroll-token/rotate",
  "/keys", "/keys/end", "/relays", "/map", "/events", "/nothing-is-here",
];

async function everyPage() {
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [WIDE, NARROW]) {
      const page = await open(viewport, colorScheme);
      const what = (path) => `${path} (${colorScheme}, ${viewport.width} px)`;
      await page.goto(`${url}/login`);
      await examine(page, what("/login"));
      await logIn(page);
      for (const path of PAGES) {
        await page.goto(url + path);
        await examine(page, what(path));
      }
      await page.context().close();
    }
  }
  return `${PAGES.length + 1} pages, light and dark, wide and narrow`;
}

/** Everything that an administrator does, without a mouse. */
async function byKeyboard() {
  const page = await open(WIDE, "light");
  await page.goto(url);
  await page.keyboard.press("Tab");
  await logIn(page);

  await press(page, "link", "Tokens");
  await press(page, "link", "Create a token");
  await tabTo(page, page.getByLabel("Name", { exact: true }), "the name");
  await page.keyboard.type("by-keyboard");
  await tabTo(page, page.getByLabel("It ends"), "the expiry");
  await page.keyboard.press("ArrowUp");
  await press(page, "button", "Create the token");
  await heading(page, "Token created");
  await examine(page, "the secret of a token");
  const first = await page.getByLabel("Secret of by-keyboard").inputValue();
  if (!/^[0-9a-f]{64}$/.test(first)) fail("the secret is not shown");
  if (page.url().includes(first)) fail("the secret is in the address");

  await press(page, "link", "I have copied it");
  await press(page, "link", "Rotate by-keyboard");
  await press(page, "button", "Rotate by-keyboard");
  await heading(page, "Token rotated");
  const second = await page.getByLabel("Secret of by-keyboard").inputValue();
  if (second === first) fail("the secret is the old one");

  await press(page, "link", "I have copied it");
  await press(page, "link", "Revoke by-keyboard");
  await press(page, "button", "Revoke by-keyboard");
  await heading(page, "Tokens");
  const said = await page.getByRole("status").textContent();
  if (!said.includes("revoked")) fail(`after a token was revoked: ${said}`);

  await press(page, "link", "Machines");
  await tabTo(page, page.getByLabel("Search", { exact: true }), "the search");
  await page.keyboard.type(host);
  await press(page, "button", "Show");
  await press(page, "link", host);
  await press(page, "link", "Delete…");
  await press(page, "button", `Delete ${host}`);
  await heading(page, "Machines");

  await page.goBack();
  await page.goForward();
  await press(page, "button", "Log out");
  await heading(page, "Log in");
  await page.goto(`${url}/machines`);
  await heading(page, "Log in");
  await page.context().close();
  return "log in, create, rotate and revoke a token, delete a machine, log out: by keyboard";
}

async function pictures() {
  mkdirSync(folder, { recursive: true });
  for (const [name, viewport] of [["wide", WIDE], ["phone", NARROW]]) {
    const page = await open(viewport, "light");
    await logIn(page);
    for (const [title, path] of [["overview", "/"], ["machines", "/machines"], ["tokens", "/tokens"]]) {
      await page.goto(url + path);
      await page.screenshot({ path: join(folder, `admin-${title}-${name}.png`) });
    }
    await page.context().close();
  }
  const page = await open(WIDE, "dark");
  await logIn(page);
  await page.screenshot({ path: join(folder, "admin-overview-dark.png") });
  await page.context().close();
}

try {
  if (option === "--pictures") await pictures();
  console.log(`checked: ${await everyPage()}`);
  console.log(`checked: ${await byKeyboard()}`);
} catch (error) {
  fail(error.stack ?? String(error));
}
await browser.close();
for (const fault of new Set(faults)) console.error(`fault: ${fault}`);
process.exit(faults.length > 0 ? 1 : 0);
