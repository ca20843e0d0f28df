/**
 * npm run proof -- upgrade REVISION: an agent of that revision gives way to this one's, under traffic, and this one to that again. What was opened to a
 * pod that may open nothing goes on, TCP and UDP, idle and busy; what may not leave does not.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildRevision } from '../bench/against.js';
import { Agent } from '../netns/agent.js';
import { egressPolicy, toServer } from '../netns/policies.js';
import { servers, World } from '../netns/world.js';
import type { Report } from './report.js';

/** The last one before the flow table was an array. */
const BEFORE = 'bad002e';
const CONNECTIONS = 20;
const PAUSE_MS = 500;

export async function prove([revision = BEFORE]: readonly string[]): Promise<Report> {
  const here = process.cwd();
  const dir = mkdtempSync(join(tmpdir(), 'ea-upgrade-'));
  const tree = join(dir, 'tree');
  const violations: string[] = [];
  let said = 0;
  let world: World | undefined;
  try {
    buildRevision(here, tree, revision);
    world = await World.create({ tracked: true });
    const pod = await world.pod('server');
    const client = await world.pod('client');
    for (const port of [8080, 8081]) await pod.host.listen(pod.ip4, port, 'tcp', 'server');
    await pod.host.listen(pod.ip4, 8053, 'udp', 'server');
    for (const which of ['one', 'two'] as const) await world.internet.listen(servers[which].ip4, 80, 'tcp', which);
    world.write('policy.yaml', [
      egressPolicy('nothing', 'server', []),
      egressPolicy('client', 'client', [toServer('one')]),
    ]);
    const old = { main: join(tree, 'dist/agent/main.js') };
    let agent = await Agent.start(world, old);
    const idle = await Promise.all(Array.from({ length: CONNECTIONS }, () => world?.internet.open(pod.ip4, 8080)));
    for (const c of idle) await c?.say('before');
    for (const [to, opts] of [
      ['this', {}],
      [revision, old],
      ['this again', {}],
    ] as const) {
      const asked = await world.internet.load(pod.ip4, 8081, { timeout: 3 });
      const allowed = await client.host.load(servers.one.ip4, 80, { timeout: 3 });
      const denied = await client.host.load(servers.two.ip4, 80, { timeout: 0.05 });
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      await agent.stop();
      agent = await Agent.start(world, opts);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      for (const [what, load, may] of [
        ['opened to the pod', asked, 'ok'],
        ['allowed', allowed, 'ok'],
        ['denied', denied, 'timeout'],
      ] as const) {
        const results = await load.stop();
        said += Object.values(results).reduce<number>((n, x) => n + (x ?? 0), 0);
        const wrong = Object.keys(results).filter((result) => result !== may);
        if (wrong.length > 0) violations.push(`to ${to}: ${what}: ${JSON.stringify(results)}`);
      }
      for (const [i, c] of idle.entries()) {
        said++;
        const { text, result } = (await c?.say(`${to} ${i}`)) ?? {};
        if (text !== `${to} ${i}`) violations.push(`to ${to}: connection ${i}, opened before: ${result}`);
      }
    }
    await agent.stop();
  } finally {
    await world?.close();
    rmSync(dir, { recursive: true, force: true });
    execFileSync('git', ['worktree', 'prune'], { cwd: here, stdio: 'ignore' });
  }
  return {
    figures: `upgrade from ${revision}, back, and again: ${CONNECTIONS} idle connections, ${said} answers`,
    violations,
  };
}
