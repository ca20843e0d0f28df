/** egressctl from outside of the cluster, over port-forwards; and the relay, as Hubble's clients ask it. */
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { commands } from '../docs/markdown.js';
import { compiled, type Output, run, until } from '../netns/shell.js';
import { type Cluster, SYSTEM } from './cluster.js';
import { byName, policy } from './objects.js';
import { SHOP, settled, type World } from './world.js';

const PORT = 14245;

export async function readers(t: Test, cluster: Cluster, { client, ip }: World): Promise<void> {
  await cluster.apply(policy(SHOP, 'main', { matchLabels: { name: 'client' } }, [{ to: [byName('web-1')] }]));
  await settled('the policy', 'timeout', () => client.tcp(ip('db'), 8080, 700));
  t.match(await client.tcp(ip('web-1'), 8080, 700), /^ok/, 'a connection for the history');
  const main = join(compiled, 'src/cli/main.js');
  const ctl = (...args: string[]) =>
    run(process.execPath, [main, '--kubeconfig', cluster.place.kubeconfig, ...args], { check: false });

  // A Secret that was made after the agents started reaches their files when kubelet looks again.
  await until(
    'the agents listen',
    async () => (await ctl('version')).status === 0 && (await ctl('status')).status === 0,
    150_000,
  );
  const status = await ctl('status');
  t.equal(status.status, 0, status.stderr);
  const nodes = (await cluster.kubectl('get', 'nodes', '-o', 'name')).trim().split('\n');
  for (const node of nodes) t.match(status.stdout, node.replace('node/', ''), `${node} stands in status`);

  const flows = await ctl('flows', '--last', '50', '--from-pod', `${SHOP}/client`, '--verdict', 'DENIED');
  t.equal(flows.status, 0, flows.stderr);
  t.match(flows.stdout, /client.*db.*DENIED\s+np\/egress-e2e-shop\/main#default/, 'flows name the rule');

  const denied = await ctl('explain', '--from', `${SHOP}/client`, '--to', `${SHOP}/db:8080`);
  t.equal(denied.status, 3, 'explain: denied is exit code 3');
  const allowed = await ctl('explain', '--from', `${SHOP}/client`, '--to', `${SHOP}/web-1:8080`);
  t.equal(allowed.status, 0, 'explain: allowed is exit code 0');

  await documented(t, cluster);
  await remembered(t, ctl);

  // The relay, with the certificate that its callers need.
  const secret = await cluster.json<{ data: Record<string, string> }>(
    '-n',
    SYSTEM,
    'get',
    'secret',
    'egress-client-tls',
  );
  const file = (name: string) => Buffer.from(secret.data[name] ?? '', 'base64');
  const forward = spawn(
    cluster.place.kubectl,
    ['--kubeconfig', cluster.place.kubeconfig, '-n', SYSTEM, 'port-forward', 'svc/egress-relay', `${PORT}:4245`],
    { stdio: 'ignore' },
  );
  const relay = new AgentClient({
    name: 'relay',
    address: `127.0.0.1:${PORT}`,
    tls: { ca: file('ca.crt'), cert: file('tls.crt'), key: file('tls.key') },
    serverName: 'egress-relay.egress-system.svc',
  });
  try {
    const seen = await until(
      'the relay answers',
      async () => {
        const { nodes: all = [] } = await relay.nodes();
        return all.length === nodes.length && all.every((n) => n.state === 'NODE_CONNECTED') && all;
      },
      60_000,
    );
    t.same(seen.map((n) => `node/${n.name}`).sort(), [...nodes].sort(), 'the relay is connected to every node');
    let count = 0;
    for await (const { flow } of relay.getFlows({ number: 20 })) if (flow) count++;
    t.equal(count, 20, 'and hands out the flows of all');
  } finally {
    relay.close();
    forward.kill();
  }
  await cluster.kubectl('-n', SHOP, 'delete', 'networkpolicy', 'main');
}

/** Who talked to whom, and what is made of it: each question goes to the relay. */
async function remembered(t: Test, ctl: (...args: string[]) => Promise<Output>): Promise<void> {
  const client = `${SHOP}/client`;
  const asked = async (...args: string[]) => {
    const { status, stdout, stderr } = await ctl(...args);
    t.equal(status, 0, args.join(' '), { stdout, stderr });
    t.notMatch(stderr, /relay|did not answer/, 'the relay answers');
    return stdout;
  };
  // What an agent sees takes up to a minute to reach the relay.
  const seen = /client +\S*\/web-1 +8080\/tcp +allow +np\/egress-e2e-shop\/main#0/;
  await until('the history', async () => seen.test((await ctl('history', '--workload', client)).stdout), 90_000);
  t.match(await asked('history', '--workload', client), /db +8080\/tcp +deny +np\/egress-e2e-shop\/main#default/);
  t.match(await asked('history', 'status'), /^place +memory\n/);
  const policy = await asked('recommend', client, '--min-days', '1');
  t.match(policy, /egress-agent\.io\/enforcement: audit/, 'it is staged');
  t.match(policy, /name: web-1/);
  t.notMatch(policy, /name: db/, 'what was denied is not recommended');
  const activity = await asked('activity', `np/${SHOP}/main`);
  t.match(activity, /main#0 +allow +[1-9]/);
  t.match(activity, /main#default +deny +[1-9]/);
}

/** The commands of README.md and docs/ that need a cluster, with this world's pods in place of the documents'. */
async function documented(t: Test, { place }: Cluster): Promise<void> {
  const bin = mkdtempSync(join(tmpdir(), 'egress-agent-bin-'));
  t.teardown(() => rmSync(bin, { recursive: true, force: true }));
  for (const name of ['egressctl', 'kubectl-egress']) {
    const main = join(bin, `${name}.mjs`);
    symlinkSync(join(compiled, 'src/cli/main.js'), main);
    writeFileSync(join(bin, name), `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`);
    chmodSync(join(bin, name), 0o755);
  }
  symlinkSync(place.kubectl, join(bin, 'kubectl'));
  const env = { PATH: `${bin}:${process.env.PATH}`, KUBECONFIG: place.kubeconfig };
  for (const { where, command } of commands('cluster')) {
    const here = command.replaceAll('shop/web', `${SHOP}/client`).replaceAll('shop/db:5432', `${SHOP}/db:8080`);
    const { status, stdout, stderr } = await run('bash', ['-c', here], { check: false, env });
    t.ok([0, 3].includes(status), `${where}: ${command}: ${status}`, { stdout, stderr });
  }
}
