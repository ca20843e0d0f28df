/** The pods that the scenarios share: a client in each of two namespaces, and servers. */
import { until } from '../netns/shell.js';
import { type Cluster, Control, isReady, type PodObject } from './cluster.js';
import { namespace, pod, service } from './objects.js';

export interface World {
  /** Address of a pod, by `namespace/name`. */
  ip(name: string): string;
  /** Address of a Service. */
  vip(name: string): string;
  /** In shop/client. */
  readonly client: Control;
  /** In other/client. */
  readonly other: Control;
  /** On the node's network, in namespace shop. */
  readonly host: Control;
  close(): void;
}

const SHOP = 'egress-e2e-shop';
const OTHER = 'egress-e2e-other';
export { OTHER, SHOP };

export async function makeWorld(cluster: Cluster): Promise<World> {
  await cluster.apply(...namespace(SHOP, { team: 'shop' }), ...namespace(OTHER, { team: 'other' }));
  const web = (name: string, app: string, alt: number) => ({
    args: ['serve', name, 'tcp:8080', 'tcp:8081', `tcp:${alt}`, 'udp:5353'],
    labels: { app },
    ports: { http: 8080, alt },
  });
  await cluster.apply(
    pod(SHOP, 'client'),
    pod(OTHER, 'client'),
    pod(SHOP, 'host', { hostNetwork: true }),
    pod(SHOP, 'web-1', web('web-1', 'web', 9001)),
    pod(SHOP, 'web-2', web('web-2', 'web', 9002)),
    pod(SHOP, 'db', web('db', 'db', 9003)),
    pod(OTHER, 'web', web('other-web', 'web', 9004)),
    service(SHOP, 'web', { app: 'web' }, 80, 'http'),
    service(SHOP, 'db', { app: 'db' }, 80, 8080),
  );
  const pods = new Map<string, string>();
  await until(
    'the pods run',
    async () => {
      const all = await cluster.json<{ items: PodObject[] }>('get', 'pods', '-A');
      const mine = all.items.filter((p) => [SHOP, OTHER].includes(p.metadata.namespace));
      for (const p of mine) pods.set(`${p.metadata.namespace}/${p.metadata.name}`, p.status.podIP ?? '');
      return mine.length >= 7 && mine.every((p) => isReady(p) && p.status.podIP);
    },
    120_000,
  );
  const vips = new Map<string, string>();
  const services = await cluster.json<{ items: { metadata: { name: string }; spec: { clusterIP: string } }[] }>(
    '-n',
    SHOP,
    'get',
    'services',
  );
  for (const s of services.items) vips.set(s.metadata.name, s.spec.clusterIP);
  const client = new Control(cluster, SHOP, 'client');
  const other = new Control(cluster, OTHER, 'client');
  const host = new Control(cluster, SHOP, 'host');
  return {
    ip: (name) => pods.get(name) ?? pods.get(`${SHOP}/${name}`) ?? '',
    vip: (name) => vips.get(name) ?? '',
    client,
    other,
    host,
    close: () => {
      for (const c of [client, other, host]) c.close();
    },
  };
}

/** Applies policies, and waits until what they decide is so: an event from the API server takes some milliseconds. */
export async function settled(what: string, expected: string, ask: () => Promise<string>): Promise<string> {
  let last = '';
  await until(
    what,
    async () => {
      last = (await ask()).split(' ')[0] as string;
      return last === expected;
    },
    20_000,
  ).catch(() => undefined);
  return last;
}
