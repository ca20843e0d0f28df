/**
 * Istio's ServiceEntries: what is in the registry may be reached, by the host in a request or a TLS handshake, or by
 * address. Everything else is closed where outboundTrafficPolicy is REGISTRY_ONLY, and open where it is ALLOW_ANY.
 */
import { isRecord } from '../../identity/fields.js';
import { tryParseCidr } from '../../net/addr.js';
import { ANYTHING } from '../base/conditions.js';
import { starred } from '../base/domains.js';
import { bound, MAX_NAMES, MAX_RULES } from '../base/limits.js';
import { type Assumed, type Listing, type ListRule, type Place, Remarks } from '../base/model.js';
import { type Domain, EVERYTHING, Region } from '../base/region.js';
import { addressesOf, type Ports, TCP_PORTS } from '../base/spans.js';
import { EVERY_SPEECH, HTTP, isEverySpeech, NAMING, type Speech, TLS } from '../base/speech.js';
import type { Subject } from '../targets/common.js';
import { type IstioObject, readObjects, recordsOf, textsOf } from './objects.js';
import { type Scope, scopeOf } from './sidecars.js';

/** What must be said, by protocol: the host of a request; in TLS, the server's name; else nothing, the address decides. */
const SPEECH: ReadonlyMap<string, Speech> = new Map([
  ...['HTTP', 'GRPC-WEB', 'HTTP_PROXY'].map((name) => [name, HTTP] as const),
  ...['HTTPS', 'TLS'].map((name) => [name, TLS] as const),
  ...['TCP', 'MONGO', 'MYSQL', 'REDIS'].map((name) => [name, EVERY_SPEECH] as const),
]);
/** The host of a request decides, and no policy reads it. */
const UNREAD = new Set(['HTTP2', 'GRPC']);

/** What connections to a port are, as they leave the pod, and to which of the hosts. */
interface Door {
  readonly ports: Ports;
  readonly speech: Speech;
  readonly visible: Region;
}

class Reader {
  readonly refused = new Remarks();
  readonly notes = new Remarks();
  readonly origins = new Map<string, Place>();
  readonly rules: ListRule[] = [];
  #names = 0;

  entry(entry: IstioObject, subject: Subject, scope: Scope): void {
    const { spec, at } = entry;
    if (!this.#isExported(entry, subject)) return;
    if (isRecord(spec.workloadSelector)) {
      this.refused.say(at('spec.workloadSelector'), 'its endpoints are pods: allow them by a rule for these pods');
      return;
    }
    if (spec.location === 'MESH_INTERNAL')
      this.notes.say(
        at('spec.location'),
        "is inside of the mesh: a pod's address is never meant by a name in Cilium, Calico and GKE: narrower",
      );
    const visible = scope.visible(entry.namespace);
    const ports = recordsOf(spec.ports);
    if (ports.length === 0) this.refused.say(at('spec.ports'), 'has no ports: it allows nothing');
    ports.forEach((port, i) => {
      this.#port(entry, port, `spec.ports[${i}]`, visible);
    });
  }

  #isExported({ namespace, spec, at }: IstioObject, subject: Subject): boolean {
    const to = textsOf(spec.exportTo);
    if (to.length === 0 || to.includes('*')) return true;
    const own = subject.namespace;
    if (own !== undefined && (to.includes(own) || (to.includes('.') && own === namespace))) return true;
    if (own === undefined && !to.includes('~'))
      this.refused.say(
        at('spec.exportTo'),
        'is for pods of some namespaces: it allows nothing in policies for all of them',
        '--namespace',
      );
    else this.notes.say(at('spec.exportTo'), 'is not for these pods: left out');
    return false;
  }

  #port(entry: IstioObject, port: Record<string, unknown>, field: string, visible: Region): void {
    const { spec, at } = entry;
    const number = port.targetPort ?? port.number;
    const protocol = String(port.protocol ?? 'TCP').toUpperCase();
    if (!isPort(number)) {
      this.refused.say(at(field), 'has no port number: it allows nothing');
      return;
    }
    if (UNREAD.has(protocol)) {
      this.refused.say(
        at(`${field}.protocol`),
        `${protocol} is HTTP/2 without TLS, whose requests no policy reads: it allows nothing`,
        'TCP allows the addresses of its hosts, TLS what TLS says',
      );
      return;
    }
    const said = SPEECH.get(protocol);
    if (!said) {
      this.refused.say(at(`${field}.protocol`), `${protocol.slice(0, 20)} is not known: it allows nothing`);
      return;
    }
    const translated = port.targetPort !== undefined && port.targetPort !== port.number;
    if (translated)
      this.notes.say(at(`${field}.targetPort`), 'is the port to which the proxy in the pod connects, so it is allowed');
    // Where the proxy sends requests to another port, it may begin TLS there.
    const speech = translated && said === HTTP ? NAMING : said;
    const door: Door = { ports: { tcp: [[number, number]], udp: [], other: false }, speech, visible };
    const resolution = spec.resolution ?? 'NONE';
    const endpoints = recordsOf(spec.endpoints);
    const addresses = textsOf(spec.addresses);
    if (resolution === 'STATIC' || (endpoints.length > 0 && resolution !== 'NONE')) {
      if (endpoints.length === 0) this.refused.say(at('spec.endpoints'), 'are missing: it allows nothing');
      endpoints.forEach((one, i) => {
        this.#endpoint(entry, one, `spec.endpoints[${i}]`, door, port);
      });
    } else if (resolution === 'NONE' && addresses.length > 0 && said !== HTTP)
      this.#addresses(entry, addresses, 'spec.addresses', door);
    else this.#hosts(entry, door, resolution === 'DNS' || resolution === 'DNS_ROUND_ROBIN');
  }

  /** What an endpoint is: an address, or a name that the proxy resolves. */
  #endpoint(
    entry: IstioObject,
    endpoint: Record<string, unknown>,
    field: string,
    door: Door,
    port: Record<string, unknown>,
  ): void {
    const { at } = entry;
    const address = String(endpoint.address ?? '');
    const own = isRecord(endpoint.ports) ? endpoint.ports[String(port.name)] : undefined;
    const to: Door = isPort(own) ? { ...door, ports: { tcp: [[own, own]], udp: [], other: false } } : door;
    if (address.startsWith('unix:')) {
      this.notes.say(at(field), 'is a socket in the pod: left out');
      return;
    }
    if (tryParseCidr(address)) {
      this.#addresses(entry, [address], field, to);
      return;
    }
    const domain = starred(address);
    if (!domain || domain.below) {
      this.refused.say(at(`${field}.address`), `${quoted(address)} is neither an address nor a name`);
      return;
    }
    const where = at(`${field}.address`);
    if (!this.#isVisible(entry, door.visible)) return;
    this.#named([domain], where);
    this.#at(entry, to, where, { looked: Region.of([domain]) });
  }

  #addresses(entry: IstioObject, texts: readonly string[], field: string, door: Door): void {
    const blocks = texts.map((text) => tryParseCidr(text)?.text);
    const bad = blocks.indexOf(undefined);
    if (bad >= 0) {
      this.refused.say(entry.at(field), `${quoted(texts[bad] ?? '')} is not an address: it allows nothing`);
      return;
    }
    if (!this.#isVisible(entry, door.visible)) return;
    this.#at(entry, door, entry.at(field), { addresses: addressesOf(blocks as string[]) });
  }

  /** A rule for some addresses, where connections must name a host, if they say any. */
  #at(
    { spec, at }: IstioObject,
    { ports, speech, visible }: Door,
    where: Place,
    place: Partial<Pick<ListRule, 'addresses' | 'looked'>>,
  ): void {
    if (isEverySpeech(speech)) {
      this.#allow({ ...place, ports, where });
      return;
    }
    const hosts = textsOf(spec.hosts).flatMap((host, i) => {
      const domain = starred(host);
      if (domain) this.#named([domain], at(`spec.hosts[${i}]`));
      else this.refused.say(at(`spec.hosts[${i}]`), `${notHost(host)}: it allows nothing`);
      return domain ?? [];
    });
    const names = Region.of(hosts).and(visible);
    if (!names.isEmpty) this.#allow({ ...place, names, speech, ports, where });
  }

  /** Whether a Sidecar leaves one of its hosts to the pods. */
  #isVisible({ spec, at }: IstioObject, visible: Region): boolean {
    const seen = textsOf(spec.hosts).some((host) => {
      const domain = starred(host);
      return domain ? !Region.of([domain]).and(visible).isEmpty : visible === EVERYTHING;
    });
    if (!seen) this.notes.say(at('spec.hosts'), 'no Sidecar of these pods has its hosts: left out');
    return seen;
  }

  #hosts({ spec, at }: IstioObject, { ports, speech, visible }: Door, exact: boolean): void {
    textsOf(spec.hosts).forEach((host, i) => {
      const where = at(`spec.hosts[${i}]`);
      const domain = starred(host);
      if (!domain) {
        this.refused.say(where, `${notHost(host)}: it allows nothing`);
        return;
      }
      if (exact && domain.below) {
        this.refused.say(where, `${quoted(host)} cannot be resolved, as resolution DNS demands: it allows nothing`);
        return;
      }
      const names = Region.of([domain]).and(visible);
      if (names.isEmpty) {
        this.notes.say(where, 'no Sidecar of these pods has it: left out');
        return;
      }
      this.#named([domain], where);
      this.#allow(isEverySpeech(speech) ? { looked: names, ports, where } : { names, speech, ports, where });
    });
  }

  #named(domains: readonly Domain[], where: Place): void {
    bound((this.#names += domains.length), MAX_NAMES, 'names');
    for (const { name } of domains) if (!this.origins.has(name)) this.origins.set(name, where);
  }

  #allow(rule: Partial<ListRule> & Pick<ListRule, 'ports' | 'where'>): void {
    this.rules.push({ ...ANYTHING, action: 'allow', ...rule });
    bound(this.rules.length, MAX_RULES, 'rules');
  }
}

function notHost(host: string): string {
  return `${quoted(host)} is neither a name nor *. and a name`;
}

function isPort(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65535;
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

/** @throws AgentError */
export function readIstio(files: readonly string[], _: Assumed, subject: Subject): Listing {
  const reader = new Reader();
  const { refused, notes } = reader;
  const objects = readObjects(files);
  const scope = scopeOf(objects, subject, files[0]!, refused, notes);
  for (const entry of objects.entries) reader.entry(entry, subject, scope);
  notes.say(
    { file: files[0]! },
    "Istio's proxy judges HTTP by the Host header, TLS by the server's name, and other protocols by address. The policies ask for the same in what leaves a pod, and for an address that the pod learned for the name from DNS. Narrower: Services of the cluster are in the registry, too, and need a policy of their own; UDP, which the proxy lets pass, is denied",
  );
  return {
    about: 'connections',
    rules: reader.rules,
    otherwise: scope.mode === 'ALLOW_ANY' ? 'allow' : 'deny',
    last: scope.where,
    universe: TCP_PORTS,
    refused: refused.all,
    notes: notes.all,
    origins: reader.origins,
  };
}
