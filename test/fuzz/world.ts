/**
 * A random cluster as manifests, with policies of every dialect in it, that changes object by object. Everything comes out of one
 * Random: the same seed, the same history.
 */
import { mangled, randomCilium, randomGroup } from '../policy/cilium-random.js';
import { NODE_IP } from '../policy/world.js';
import { calicoPolicy, networkSet, tier, TIER_NAMES } from './objects/calico.js';
import { account, API_SERVER, ENFORCEMENT, namespace, node, pod, service, slice, SLICES } from './objects/cluster.js';
import { ciliumName, domainName } from './objects/domains.js';
import { applicationNetworkPolicy, fqdnNetworkPolicy, networkPolicy } from './objects/kubernetes.js';
import { meantPolicy, written } from './objects/admin.js';
import { ACCOUNTS, type Manifest, NAMESPACES, NODES, SERVICES } from './objects/names.js';
import type { Random } from './random.js';
import { randomSaying } from './sayings.js';

/** What a name holds from now on; undefined: it is gone. */
export type Change = readonly [id: string, object: Manifest | undefined];

/** Addresses of the own node's interfaces, which change too. */
export const OWN_IPS: readonly (readonly string[])[] = [
  [NODE_IP],
  [NODE_IP, 'fd00:1::1'],
  [NODE_IP, '10.244.0.254', 'fd00:1::1'],
];

export function idOf({ apiVersion, kind, metadata }: Manifest): string {
  return `${apiVersion} ${kind} ${metadata.namespace === undefined ? '' : `${metadata.namespace}/`}${metadata.name}`;
}

/** Of a hundred policies. */
const DIALECTS: readonly (readonly [number, (r: Random, n: number) => Manifest])[] = [
  [20, (r, n) => networkPolicy(r, `${r.pick(NAMESPACES)}/np${n}`)],
  [19, (r, n) => written(meantPolicy(r, n, true))],
  [22, (r, n) => calicoPolicy(r, `calico${n}`)],
  [22, (r, n) => randomCilium(r, n) as Manifest],
  [5, (r, n) => fqdnNetworkPolicy(r, `${r.pick(NAMESPACES)}/fqdn${n}`)],
  [6, (r, n) => applicationNetworkPolicy(r, `${r.pick(NAMESPACES)}/app${n}`)],
  [6, (r) => supporting(r)],
];

/** Tiers, network sets, CIDR groups. */
function supporting(r: Random): Manifest {
  if (r.chance(35)) return tier(r, r.pick(TIER_NAMES));
  return r.chance(60) ? networkSet(r, `set${r.below(3)}`) : (randomGroup(r) as Manifest);
}

/** Names for policies: the fewer, the more often one is changed instead of made. */
const POLICY_NAMES = 4;

export class Cluster {
  readonly objects = new Map<string, Manifest>();
  ownIps: readonly string[] = OWN_IPS[0] as readonly string[];
  #uids = 0;
  /** Whether rules ask what connections say. Where many do, Services judged in part are rare. */
  readonly #asks: boolean;

  constructor(private readonly r: Random) {
    this.#asks = r.chance(75);
    for (const name of NAMESPACES) this.#put(namespace(r, name));
    for (const name of NODES) if (r.chance(85)) this.#put(node(r, name));
    for (const space of NAMESPACES)
      for (const name of ACCOUNTS) if (r.chance(60)) this.#put(account(r, `${space}/${name}`));
    for (let n = 0; n < 6; n++) this.#put(this.#pod(`${r.chance(65) ? 'default' : r.pick(NAMESPACES)}/p${n}`));
    if (r.chance(60)) for (const object of API_SERVER) this.#put(object);
    for (const name of SERVICES) {
      if (r.chance(25)) continue;
      this.#put(service(r, `default/${name}`));
      for (const family of SLICES) if (r.chance(70)) this.#put(slice(r, `default/${name}-${family}`));
    }
    for (const name of TIER_NAMES) if (r.chance(75)) this.#put(tier(r, name));
    for (let n = r.below(3); n > 0; n--) this.#put(supporting(r));
    for (let n = r.below(11); n > 0; n--) this.#put(this.#policy());
  }

  /** Some changes that come together; most often one. */
  step(): Change[] {
    const { r } = this;
    if (r.chance(5)) this.ownIps = r.pick(OWN_IPS);
    return Array.from({ length: r.chance(25) ? 2 + r.below(4) : 1 }, () => this.#change());
  }

  #change(): Change {
    const { r } = this;
    const at = r.below(100);
    if (at < 48) return this.#policyChange();
    if (at < 70) return this.#drop(12, this.#pod(this.#podKey()));
    if (at < 78) return this.#drop(5, namespace(r, r.pick(NAMESPACES)));
    if (at < 84) return this.#drop(15, node(r, r.pick(NODES)));
    if (at < 87) return this.#drop(20, account(r, `${r.pick(NAMESPACES)}/${r.pick(ACCOUNTS)}`));
    if (at < 93) return this.#drop(15, service(r, `default/${r.pick(SERVICES)}`));
    return this.#drop(20, slice(r, `default/${r.pick(SERVICES)}-${r.pick(SLICES)}`));
  }

  #policyChange(): Change {
    const { r } = this;
    const there = [...this.objects.keys()].filter((id) => !id.startsWith('v1 ') && !id.startsWith('discovery'));
    if (there.length > 12 || (there.length > 0 && r.chance(28))) return this.#set(r.pick(there), undefined);
    const old = there.length > 0 && r.chance(15) ? this.objects.get(r.pick(there)) : undefined;
    if (old) return this.#set(idOf(old), this.#annotated(faulty(r, old)));
    const made = this.#policy();
    return this.#set(idOf(made), made);
  }

  #policy(): Manifest {
    const { r } = this;
    if (r.chance(20)) return this.#telling();
    let at = r.below(100);
    const [, make] = DIALECTS.find(([share]) => (at -= share) < 0) ?? (DIALECTS[0] as (typeof DIALECTS)[number]);
    const made = this.#asking(this.#annotated(make(r, r.below(POLICY_NAMES))));
    return r.chance(4) ? faulty(r, made) : made;
  }

  /** For all pods of a namespace, and so simple that it decides: what a connection says, a Service in part, or a name. */
  #telling(): Manifest {
    const { r } = this;
    if (r.chance(25)) return this.#naming();
    const asks = this.#asks && r.chance(60);
    const backends = this.#backends(`default/${r.pick(SERVICES)}-v4`);
    const cidr = `${backends.length > 0 ? r.pick(backends) : '192.0.2.130'}/32`;
    const egress = asks ? [{}] : [{ to: [{ ipBlock: { cidr } }] }];
    return {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: `np${r.below(POLICY_NAMES)}`, namespace: 'default' },
      spec: { podSelector: {}, policyTypes: ['Egress'], egress },
      ...(asks ? { says: [randomSaying(r, 0)] } : {}),
    };
  }

  /** The same for names, and for the queries that ask for them. */
  #naming(): Manifest {
    const { r } = this;
    if (r.chance(40)) {
      const ports = [{ port: '53', protocol: 'ANY' }];
      const egress = [{ toPorts: [{ ports, rules: { dns: [ciliumName(r), ciliumName(r)] } }] }];
      return {
        apiVersion: 'cilium.io/v2',
        kind: 'CiliumNetworkPolicy',
        metadata: { name: `cilium${r.below(POLICY_NAMES)}`, namespace: 'default' },
        spec: { endpointSelector: {}, egress },
      };
    }
    const to = [{ domainNames: Array.from({ length: 1 + r.below(3) }, () => domainName(r)) }];
    return {
      apiVersion: 'networking.k8s.aws/v1alpha1',
      kind: 'ApplicationNetworkPolicy',
      metadata: { name: `app${r.below(POLICY_NAMES)}`, namespace: 'default' },
      spec: { podSelector: {}, policyTypes: ['Egress'], egress: [{ to }] },
    };
  }

  /** Addresses of an EndpointSlice. @param key `namespace/name` */
  #backends(key: string): string[] {
    const found = this.objects.get(`discovery.k8s.io/v1 EndpointSlice ${key}`);
    return ((found?.endpoints ?? []) as { addresses: string[] }[]).flatMap(({ addresses }) => addresses);
  }

  /** Audit, or what only looks like it. */
  #annotated(object: Manifest): Manifest {
    const { r } = this;
    if (!r.chance(9)) return object;
    const annotations = { [ENFORCEMENT]: r.pick(['audit', 'audit', 'audit', 'enforce', 'Audit']) };
    return { ...object, metadata: { ...object.metadata, annotations } };
  }

  /** What its rules ask of connections stands beside its spec. */
  #asking(object: Manifest): Manifest {
    const { r } = this;
    if (!this.#asks || !r.chance(60)) return object;
    return { ...object, says: Array.from({ length: 1 + r.below(4) }, () => randomSaying(r)) };
  }

  #podKey(): string {
    const { r } = this;
    const pods = [...this.objects].filter(([id]) => id.startsWith('v1 Pod '));
    if (pods.length === 0 || (pods.length < 9 && r.chance(20))) return `${r.pick(NAMESPACES)}/p${r.below(9)}`;
    const { namespace: space, name } = (r.pick(pods)[1] as Manifest).metadata;
    return `${space}/${name}`;
  }

  /** Another one of its name, or the same one with something else. */
  #pod(key: string): Manifest {
    const { r } = this;
    const before = this.objects.get(`v1 Pod ${key}`) as
      | (Manifest & { metadata: { uid: string }; spec: object; status: object })
      | undefined;
    const fresh = pod(r, key, `uid-${++this.#uids}`) as NonNullable<typeof before>;
    if (!before || r.chance(25)) return fresh;
    const metadata = { ...fresh.metadata, uid: before.metadata.uid };
    return r.pick([
      { ...before, metadata },
      { ...before, spec: fresh.spec },
      { ...before, status: fresh.status },
    ]);
  }

  #drop(percent: number, object: Manifest): Change {
    const id = idOf(object);
    return this.#set(id, this.objects.has(id) && this.r.chance(percent) ? undefined : object);
  }

  #put(object: Manifest): void {
    this.#set(idOf(object), object);
  }

  #set(id: string, object: Manifest | undefined): Change {
    if (object) this.objects.set(id, object);
    else this.objects.delete(id);
    return [id, object];
  }
}

/** Something in its spec is not as it should be. */
function faulty(r: Random, object: Manifest): Manifest {
  const { says, ...rest } = object;
  const { metadata } = object;
  return { ...(mangled(r, rest) as Manifest), metadata, ...(says === undefined ? {} : { says }) };
}
