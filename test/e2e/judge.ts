/** One question, asked three times: what the packet comes to, what the flow says of it, and what explain says. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { Test } from 'tap';
import type { Explanation } from '../../src/explain/explain.js';
import { formatRule } from '../../src/ir/names.js';
import type { ExplainResponse, FlowRecord } from '../../src/proto/messages.js';
import type { StatusResponse } from '../../src/proto/status.js';
import { type Output, run, until } from '../netns/shell.js';
import { type Cluster, Control, SYSTEM } from './cluster.js';
import { SHOP, settled, type World } from './world.js';

/** An address that no cluster has (RFC 5737). */
export const OUTSIDE = '203.0.113.7';

/** Milliseconds for one connection. */
const QUICK = 500;

/**
 * Runs in the agent's pod for as long as the scenario: `explain` and `status` over the agent's socket. egressctl asks the same, but
 * its process has to start for each question.
 */
const ASKER = `
  import { createInterface } from 'node:readline';
  import { AgentClient } from '/opt/egress-agent/dist/src/rpc/transport/client.js';
  const client = new AgentClient('/run/egress-agent/agent.sock');
  createInterface({ input: process.stdin })
    .on('line', async (line) => {
      const { id, op, ...rest } = JSON.parse(line);
      const result = await client[op](...(op === 'explain' ? [rest] : [])).catch((e) => ({ error: e.message }));
      process.stdout.write(JSON.stringify({ id, result }) + '\\n');
    })
    .on('close', () => process.exit(0));
`;

export class Judge {
  /** The last verdict on each address that the client connected to. */
  readonly #flows = new Map<string, FlowRecord>();
  readonly #asker: Control;
  readonly #reader: ChildProcess;

  private constructor(
    private readonly cluster: Cluster,
    private readonly world: World,
    private readonly agent: string,
  ) {
    this.#asker = new Control(cluster, SYSTEM, agent, ['node', '--input-type=module', '-e', ASKER]);
    const reading = ['egressctl', 'flows', '--follow', '-o', 'json', '--from-pod', `${SHOP}/client`];
    this.#reader = spawn(cluster.place.kubectl, this.exec(reading), { stdio: ['ignore', 'pipe', 'inherit'] });
    createInterface({ input: this.#reader.stdout as Readable }).on('line', (line) => {
      const record = JSON.parse(line) as FlowRecord;
      const to = record.flow?.IP?.destination;
      // What the destination sees of it is another flow.
      if (to !== undefined && record.event === 'verdict' && !record.inbound) this.#flows.set(to, record);
    });
  }

  static async of(cluster: Cluster, world: World): Promise<Judge> {
    return new Judge(cluster, world, await cluster.agentPod());
  }

  close(): void {
    this.#asker.close();
    this.#reader.kill();
  }

  /** egressctl in the agent's pod; its status is the caller's concern. */
  ctl(...args: string[]): Promise<Output> {
    return run(this.cluster.place.kubectl, this.exec(['egressctl', ...args]), { check: false });
  }

  private exec(command: readonly string[]): string[] {
    return ['--kubeconfig', this.cluster.place.kubeconfig, '-n', SYSTEM, 'exec', this.agent, '--', ...command];
  }

  status(): Promise<StatusResponse> {
    return this.#asker.ask<StatusResponse>('status', {});
  }

  connect(to: string): Promise<string> {
    return this.world.client.tcp(this.address(to), 8080, QUICK);
  }

  /** Allowed by the rule; none: by no policy. @param to name of a pod, or OUTSIDE, from where nobody answers */
  allowed(t: Test, to: string, rule: string | undefined, what: string): Promise<void> {
    return this.decided(t, to, 'allow', rule, what);
  }

  denied(t: Test, to: string, rule: string, what: string): Promise<void> {
    return this.decided(t, to, 'deny', rule, what);
  }

  private async decided(t: Test, to: string, verdict: 'allow' | 'deny', rule: string | undefined, what: string) {
    const wanted = `${verdict} ${rule}`;
    const ask = async () => {
      const { json } = await this.#asker.ask<ExplainResponse>('explain', {
        ...this.question(to),
        port: 8080,
        protocol: 6,
      });
      const answer = JSON.parse(json) as Explanation;
      return `${answer.verdict.verdict} ${answer.rule && formatRule(answer.rule)}`;
    };
    t.equal(await settledText(wanted, ask), wanted, `${what}: explain`);
    if (to !== OUTSIDE) {
      const result = verdict === 'deny' ? 'timeout' : 'ok';
      t.equal(await settled(what, result, () => this.connect(to)), result, `${what}: the packet`);
    }
    const told = async () => {
      await this.connect(to);
      const last = this.#flows.get(this.address(to));
      return `${last?.verdict} ${last?.rule?.text}`;
    };
    t.equal(await settledText(wanted, told), wanted, `${what}: the flow`);
  }

  /** Passes, and the flow says which staged rule would have denied it. */
  async audited(t: Test, to: string, rule: string, what: string): Promise<void> {
    t.equal(await settled(what, 'ok', () => this.connect(to)), 'ok', `${what}: the packet passes`);
    const wanted = `allow, audit deny ${rule}`;
    const told = async () => {
      await this.connect(to);
      const last = this.#flows.get(this.address(to));
      return `${last?.verdict}, audit ${last?.audit_verdict} ${last?.audit_rule?.text}`;
    };
    t.equal(await settledText(wanted, told), wanted, `${what}: the flow`);
  }

  /** As a user reads it: the last flow's line, and explain with its exit code. */
  async shown(t: Test, to: string, verdict: 'ALLOWED' | 'DENIED' | 'AUDIT', rule: string): Promise<void> {
    const { from } = this.question(to);
    const flows = await this.ctl('flows', '--last', '50', '--from-pod', from, '--to-ip', this.address(to));
    // Among them the ends of flows that were judged before, and were silent since.
    const lines = flows.stdout.split('\n').filter((line) => line.includes(` ${verdict} `));
    const what = `egressctl flows shows ${verdict} by ${rule}`;
    t.ok(
      lines.some((line) => line.includes(rule)),
      what,
      { found: lines },
    );
    const { status, stdout } = await this.ctl('explain', '--from', from, '--to', `${this.address(to)}:8080`);
    t.equal(status, verdict === 'DENIED' ? 3 : 0, `egressctl explain of ${verdict}: its exit code`);
    t.match(stdout, rule, 'and it names the rule');
  }

  private question(to: string): { from: string; to: string } {
    return { from: `${SHOP}/client`, to: this.address(to) };
  }

  private address(to: string): string {
    return to === OUTSIDE ? to : this.world.ip(to);
  }
}

/** What is said at last: what is wanted, or after a while something else. */
async function settledText(wanted: string, ask: () => Promise<string>): Promise<string> {
  let last = '';
  const same = async () => {
    last = await ask();
    return last === wanted;
  };
  await until(wanted, same, 10_000).catch(() => undefined);
  return last;
}
