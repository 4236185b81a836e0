// A soramoded of a test: the program that $SORAMODED names.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Daemon {
  constructor(...flags) {
    this.folder = mkdtempSync(join(tmpdir(), "soramode-"));
    this.socket = join(this.folder, "soramode.sock");
    this.flags = flags.length > 0 ? flags : ["--state-dir", join(this.folder, "state")];
  }

  start() {
    this.process = spawn(process.env.SORAMODED, ["--socket", this.socket, ...this.flags], { stdio: "ignore" });
    this.ended = once(this.process, "exit");
    return this;
  }

  /** Ends it with a signal, and starts it again. */
  async restart(signal) {
    this.process.kill(signal);
    await this.ended;
    this.start();
  }

  async close() {
    this.process?.kill("SIGKILL");
    await this.ended;
    rmSync(this.folder, { recursive: true });
  }
}
