// Pictures of the status page in each state, and what a browser finds wrong with it. Run by .ci/screenshots.
"use strict";
const { execFileSync, spawn } = require("node:child_process");
const { once } = require("node:events");
const { mkdtempSync, rmSync } = require("node:fs");
const { connect, createServer } = require("node:net");
const { tmpdir } = require("node:os");
const path = require("node:path");
const axe = require("axe-core");
const { chromium } = require("playwright-core");

const [programs, pictures] = process.argv.slice(2);
const PAGE_BYTES_MAX = 30 * 1024;
const WIDTHS = [360, 800, 1400];
const BAD = ["serious", "critical"];
// Names that would be markup if they were not escaped.
const HOSTILE = ["<script>alert(1)</script>", "<img src=http://127.0.0.1:9/x onerror=alert(1)>", `&amp;"'${"w".repeat(200)}`];

const problems = [];
const check = (holds, problem) => holds || problems.push(problem);

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** A soramoded with its commands; it ends with this program. */
class Daemon {
  constructor(process, port, socket, run) {
    Object.assign(this, { process, url: `http://127.0.0.1:${port}/`, socket, run });
  }

  static async start(folder, flags) {
    const port = await freePort();
    const socket = path.join(folder, "s");
    const observe = ["--observe-listen", `127.0.0.1:${port}`];
    const args = ["--socket", socket, "--ephemeral", "--node-name", "sfu-01.example", ...observe, ...flags];
    const daemon = spawn(path.join(programs, "soramoded"), args, { stdio: ["ignore", "ignore", "inherit"] });
    const run = (...words) => execFileSync(path.join(programs, "soramode"), ["--socket", socket, ...words], { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8", timeout: 30_000 });
    const started = new Daemon(daemon, port, socket, run);
    await started.ready();
    return started;
  }

  async ready() {
    for (let tries = 0; tries < 300 && this.process.exitCode === null; tries += 1) {
      try {
        return await fetch(`${this.url}live`);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    throw new Error("soramoded does not answer");
  }

  connect() {
    for (const channel of ["daily-standup", "数学の授業", ...HOSTILE]) {
      for (const client of [1, 2]) this.run("connect", channel, "--client-id", `client-${client}`);
    }
  }

  /** Subscribes as an SFU that ends sessions. */
  async subscribe() {
    this.subscriber = connect(this.socket).unref();
    this.subscriber.write('{"jsonrpc":"2.0","id":1,"method":"Subscribe","params":{"ends":true}}\n');
    await once(this.subscriber, "data");
  }

  async stop() {
    this.subscriber?.destroy();
    const ended = once(this.process, "exit");
    this.process.kill("SIGTERM");
    await ended;
  }
}

const STATES = {
  open: { flags: [], prepare: (daemon) => daemon.connect() },
  plan: {
    flags: ["--peer", "http://127.0.0.1:9/"],
    async prepare(daemon) {
      daemon.connect();
      await daemon.subscribe();
      const plan = ["--until", "2h", "--tighten-after", "10m", "--end-after", "40m", "--accept-risk=cuts-clients", "--no-wait"];
      daemon.run("drain", ...plan, "-m", "CHG-123 <b>kernel</b>");
    },
  },
  fault: {
    flags: ["--sora-listen", "127.0.0.1:0", "--sora-api", "http://127.0.0.1:9/", "--shadow"],
    prepare(daemon) {
      daemon.connect();
      daemon.run("set", "block_new_connection", "-m", "CHG-124", "--until", "1s");
    },
  },
};

/** Opens the page, looks at it, and takes its picture. */
async function look(browser, url, state, { width, colorScheme, locale }) {
  const name = `${state}-${width}-${colorScheme}-${locale}`;
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, locale, bypassCSP: true });
  const page = await context.newPage();
  let bytes = 0;
  page.on("request", (request) => check(request.url().startsWith(url), `${name}: a request to ${request.url()}`));
  page.on("response", async (response) => (bytes += Number(response.headers()["content-length"] ?? Infinity)));
  page.on("requestfailed", (request) => check(false, `${name}: no answer from ${request.url()}`));
  page.on("console", (message) => check(message.type() !== "error", `${name}: ${message.text()}`));
  page.on("pageerror", (error) => check(false, `${name}: ${error}`));
  page.on("dialog", (dialog) => check(false, `${name}: a script ran: ${dialog.message()}`) && dialog.dismiss());
  // Without its refresh, which would interrupt axe.
  await page.goto(`${url}?refresh=off`, { waitUntil: "networkidle" });
  check(bytes <= PAGE_BYTES_MAX, `${name}: ${bytes} bytes`);
  const { scrollWidth, lang } = await page.evaluate(() => ({ scrollWidth: document.documentElement.scrollWidth, lang: document.documentElement.lang }));
  check(scrollWidth <= width, `${name}: ${scrollWidth} px wide`);
  check(locale.startsWith(lang), `${name}: in ${lang}`);
  await page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true });
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  for (const { id, impact, help, nodes } of violations) {
    const finding = `${name}: ${impact}: ${id}: ${help}: ${nodes[0].html}`;
    check(!BAD.includes(impact), finding);
    if (!BAD.includes(impact)) console.log(finding);
  }
  await context.close();
}

async function main() {
  const folder = mkdtempSync(path.join(tmpdir(), "soramode-page-"));
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args });
  try {
    for (const [state, { flags, prepare }] of Object.entries(STATES)) {
      const daemon = await Daemon.start(folder, flags);
      try {
        prepare(daemon);
        for (const width of WIDTHS) {
          for (const colorScheme of ["light", "dark"]) await look(browser, daemon.url, state, { width, colorScheme, locale: "en-GB" });
          await look(browser, daemon.url, state, { width, colorScheme: "light", locale: "ja-JP" });
        }
      } finally {
        await daemon.stop();
      }
    }
  } finally {
    await browser.close();
    rmSync(folder, { recursive: true });
  }
  for (const problem of new Set(problems)) console.error(`the status page: ${problem}`);
  process.exitCode = problems.length > 0 ? 1 : 0;
}

main();
