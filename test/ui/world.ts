/**
 * The world of the web UI's tests: a real agent in network namespaces, policies of every language, and a trickle of real
 * traffic that meets every verdict. Each world has namespaces of its own, so that tests run beside each other.
 */
import { join } from 'node:path';
import { Agent } from '../netns/agent.js';
import { startDns } from '../netns/dns-server.js';
import type { Host, Reply, RequestOptions } from '../netns/host.js';
import { Asker } from '../netns/resolver.js';
import { type Pod, servers, World } from '../netns/world.js';
import { PAYMENTS, POLICIES } from './world-policies.js';

const { one, two } = servers;
const DNS_VIP = '10.96.0.10';
const API_VIP = '10.96.0.20';
/** Of a Service with two backends, of which web may reach one. */
const MIXED_VIP = '10.96.0.30';
/** How long a request waits that policies drop, in seconds. */
const DROPPED = { timeout: 0.15 };
/** Between two rounds of the traffic, milliseconds. */
const PAUSE_MS = 500;

type Act = () => Promise<Reply>;

export interface UiWorld {
  /** The agent's. */
  readonly socket: string;
  /** Of the world, removed with it. */
  readonly dir: string;
  /** By `namespace/workload`. */
  readonly pods: Readonly<Record<string, Pod>>;
  readonly traffic: Traffic;
  /** Writes a manifest file of the agent's; returns when it is in force. @param name of the file, without `.yaml` */
  applyManifest(name: string, yaml: string): Promise<void>;
  /** Removes a manifest file; returns when it is in force no more. */
  removeManifest(name: string): Promise<void>;
  /** The agent ends, and begins again with the same state. */
  restartAgent(): Promise<void>;
  /** The agent ends; `restartAgent` begins it again. */
  stopAgent(): Promise<void>;
  /** Ends all, and removes it. */
  stop(): Promise<void>;
}

/** Real requests, again and again, one round after the other. */
export class Traffic {
  readonly #acts: ReadonlyMap<string, Act>;
  #running: Promise<void> | undefined;
  #goesOn = false;
  #wake: () => void = () => {};

  constructor(acts: ReadonlyMap<string, Act>) {
    this.#acts = acts;
  }

  /** What `once` takes. */
  get names(): string[] {
    return [...this.#acts.keys()];
  }

  /** Makes requests once, at the same time. @param names all if not given @returns what became of each, by its name */
  async once(...names: string[]): Promise<Record<string, Reply>> {
    const chosen = names.length === 0 ? this.names : names;
    const made = chosen.map(async (name) => {
      const act = this.#acts.get(name);
      if (!act) throw new Error(`there is no traffic ${name}`);
      return [name, await act()] as const;
    });
    return Object.fromEntries(await Promise.all(made));
  }

  /** Goes on until `pause`. */
  resume(): void {
    if (this.#running) return;
    this.#goesOn = true;
    this.#running = this.#run();
  }

  /** Returns when the round under way has ended. */
  async pause(): Promise<void> {
    this.#goesOn = false;
    this.#wake();
    await this.#running;
    this.#running = undefined;
  }

  async #run(): Promise<void> {
    while (this.#goesOn) {
      // What a test has broken on purpose shows in its flows.
      await this.once().catch(() => undefined);
      if (!this.#goesOn) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, PAUSE_MS);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

/** @param trickle whether traffic goes on by itself; otherwise each kind is made once */
export async function startWorld(opts: { trickle?: boolean } = {}): Promise<UiWorld> {
  const world = await World.create({
    namespaces: { shop: { team: 'shop' }, data: { team: 'data' }, 'kube-system': {} },
    masquerade: true,
  });
  try {
    const pods = await makePods(world);
    await serve(world, pods);
    for (const [name, text] of Object.entries(POLICIES)) world.write(`${name}.yaml`, text);
    // As on a node without a compiler, with the object that was built: compiling takes longer than all the rest.
    const command = ['nsenter', `--net=/run/netns/${world.node.netns}`, 'env', 'CLANG=/nonexistent', process.execPath];
    const start = () => Agent.start(world, { command, args: ['--name-seed', 'off'], follow: false });
    let agent = await start();
    const traffic = new Traffic(actsOf(world, pods));
    await traffic.once();
    if (opts.trickle !== false) traffic.resume();
    return {
      socket: join(agent.runDir, 'agent.sock'),
      dir: world.dir,
      pods,
      traffic,
      applyManifest: async (name, yaml) => agent.apply(fileOf(name), yaml),
      removeManifest: async (name) => {
        world.remove(fileOf(name));
        await agent.settled();
      },
      stopAgent: async () => {
        await agent.stop();
      },
      restartAgent: async () => {
        if (agent.child.exitCode === null && agent.child.signalCode === null) await agent.stop();
        agent = await start();
      },
      stop: async () => {
        await traffic.pause();
        await world.close();
      },
    };
  } catch (error) {
    await world.close();
    throw error;
  }
}

function fileOf(name: string): string {
  if (!/^[a-z0-9][a-z0-9.-]*$/.test(name)) throw new Error(`${name} is no name of a manifest`);
  // The pods, and what Agent.settled() writes.
  if (name === 'cluster' || name === 'zz-marker') throw new Error(`${name} is a manifest of the world's own`);
  return `${name}.yaml`;
}

/** Of one Deployment each, but for the database and the job. */
async function makePods(world: World): Promise<Record<string, Pod>> {
  const hash = '6d4b8c7f9d';
  const deployment = async (namespace: string, app: string, labels = {}, node: 'a' | 'b' = 'a') => {
    const owner = { kind: 'ReplicaSet', name: `${app}-${hash}` };
    const all = { app, 'pod-template-hash': hash, ...labels };
    return [
      `${namespace}/${app}`,
      await world.pod(`${app}-${hash}-x7k2p`, { namespace, labels: all, owner, node }),
    ] as const;
  };
  const other = async (namespace: string, app: string, name: string, kind: string, owner: string) => {
    const spec = { namespace, labels: { app }, owner: { kind, name: owner } };
    return [`${namespace}/${app}`, await world.pod(name, spec)] as const;
  };
  return Object.fromEntries(
    await Promise.all([
      deployment('shop', 'web'),
      deployment('shop', 'api'),
      deployment('shop', 'checkout'),
      deployment('shop', 'legacy'),
      deployment('shop', 'mail', {}, 'b'),
      other('shop', 'batch', 'batch-29384720-q8w7e', 'Job', 'batch-29384720'),
      other('data', 'db', 'db-0', 'StatefulSet', 'db'),
      deployment('data', 'cache'),
      deployment('kube-system', 'coredns', { 'k8s-app': 'kube-dns' }),
    ]),
  );
}

function podOf(pods: Readonly<Record<string, Pod>>, name: string): Pod {
  const pod = pods[name];
  if (!pod) throw new Error(`there is no pod of ${name}`);
  return pod;
}

/** Servers, Services and the resolver. */
async function serve(world: World, pods: Readonly<Record<string, Pod>>): Promise<void> {
  const pod = (name: string) => podOf(pods, name);
  const listen = (host: Host, port: number, name: string, address = '::') => host.listen(address, port, 'tcp', name);
  const coredns = pod('kube-system/coredns');
  await Promise.all([
    ...Object.entries({ one, two }).flatMap(([name, { ip4, ip6 }]) =>
      [ip4, ip6].flatMap((address) => [443, 80, 25, 23].map((port) => listen(world.internet, port, name, address))),
    ),
    listen(pod('shop/web').host, 8080, 'web'),
    listen(pod('shop/api').host, 8080, 'api'),
    listen(pod('shop/mail').host, 25, 'mail'),
    listen(pod('data/db').host, 5432, 'db'),
    listen(pod('data/cache').host, 6379, 'cache'),
    startDns(world, coredns.host, coredns.ip4, { hosts: { [PAYMENTS]: [one.ip4], 'tracker.example.net': [two.ip4] } }),
  ]);
  const tcp = (port: number, targetPort: number) => [{ name: 'main', port, targetPort }];
  await world.service({
    namespace: 'kube-system',
    name: 'kube-dns',
    vips: [DNS_VIP],
    ports: [
      { name: 'dns', port: 53, protocol: 'UDP', targetPort: 53 },
      { name: 'dns-tcp', port: 53, targetPort: 53 },
    ],
    backends: [coredns.ip4],
  });
  await world.service({
    namespace: 'shop',
    name: 'api',
    vips: [API_VIP],
    ports: tcp(80, 8080),
    backends: [pod('shop/api').ip4],
  });
  const backends = [one.ip4, two.ip4];
  await world.service({ namespace: 'shop', name: 'mixed', vips: [MIXED_VIP], ports: tcp(443, 443), backends });
}

/** The traffic by its names: who to whom, and what becomes of it. */
function actsOf(world: World, pods: Readonly<Record<string, Pod>>): Map<string, Act> {
  const pod = (name: string) => podOf(pods, name);
  const from =
    (host: Host, address: string, port: number, more: RequestOptions = {}): Act =>
    () =>
      host.request(address, port, { timeout: 1, ...more });
  const of = (name: string, ...rest: [string, number, RequestOptions?]) => from(pod(name).host, ...rest);
  const resolvConf = [`nameserver ${DNS_VIP}`, 'options timeout:1 attempts:1'];
  const checkout = new Asker(world, pod('shop/checkout'), resolvConf);
  const fetch =
    (name: string, timeout: number): Act =>
    () =>
      checkout.probe.call('fetch', { name, port: 443, timeout });
  const web = pod('shop/web').ip4;
  return new Map<string, Act>([
    ['allowed: web to api', of('shop/web', API_VIP, 80)],
    ['allowed: web to one', of('shop/web', one.ip4, 443)],
    ['allowed: web to one, IPv6', of('shop/web', one.ip6, 443)],
    ['denied: web to two', of('shop/web', two.ip4, 443, DROPPED)],
    ['partial: web to mixed', of('shop/web', MIXED_VIP, 443, DROPPED)],
    ['allowed: checkout to a name', fetch(PAYMENTS, 1)],
    ['denied: checkout to another name', fetch('tracker.example.net', DROPPED.timeout)],
    ['allowed: api to db', of('shop/api', pod('data/db').ip4, 5432)],
    ['allowed: api to cache', of('shop/api', pod('data/cache').ip4, 6379)],
    ['denied: api to cache', of('shop/api', pod('data/cache').ip4, 6380, DROPPED)],
    ['logged: db to one', of('data/db', one.ip4, 443)],
    ['logged and denied: db to two', of('data/db', two.ip4, 443, DROPPED)],
    ['allowed: cache to one', of('data/cache', one.ip4, 80)],
    ['denied: cache to two', of('data/cache', two.ip4, 80, DROPPED)],
    ['would deny: batch to two', of('shop/batch', two.ip4, 443)],
    ['allowed: batch to one', of('shop/batch', one.ip4, 443)],
    ['no policy: legacy to mail', of('shop/legacy', pod('shop/mail').ip4, 25)],
    ['no policy: legacy pings one', of('shop/legacy', one.ip4, 0, { proto: 'icmp' })],
    ['denied: legacy to telnet', of('shop/legacy', two.ip4, 23, DROPPED)],
    ['inbound: the internet to web', from(world.internet, web, 8080)],
    ['inbound: the node to web', from(world.node, web, 8080)],
    ['the node to one', from(world.node, one.ip4, 443)],
    ['denied: the node to two', from(world.node, two.ip4, 25, DROPPED)],
    ['inbound: node b to web', from(world.nodeB, web, 8080)],
  ]);
}
