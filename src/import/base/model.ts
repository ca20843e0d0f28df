/** What a list says, before it becomes policies: rules about connections or about queries, the first match decides. */
import type { Region } from './region.js';
import { type Addresses, andAddresses, andPorts, noPorts, type Ports } from './spans.js';
import { andSpeech, noSpeech, type Speech } from './speech.js';

/** Where something is said. */
export interface Place {
  readonly file: string;
  readonly line?: number;
  /** A field in it, such as `spec.hosts[0]`. */
  readonly field?: string;
}

/** A sentence about what is said there. */
export interface Remark {
  readonly where: Place;
  readonly message: string;
  readonly hint?: string;
}

/** Connections: those that name some servers, in some ways, to some addresses, on some ports. */
export interface Box {
  /** What they name. Those that may name a server and do not are without a name, and so are all others. */
  readonly names: Region;
  readonly speech: Speech;
  /** null: every address. */
  readonly addresses: Addresses | null;
  readonly ports: Ports;
}

/** @returns undefined if nothing is in both */
export function andBoxes(a: Box, b: Box): Box | undefined {
  const names = a.names.and(b.names);
  const speech = andSpeech(a.speech, b.speech);
  const ports = andPorts(a.ports, b.ports);
  const addresses =
    a.addresses === null ? b.addresses : b.addresses === null ? a.addresses : andAddresses(a.addresses, b.addresses);
  if (names.isEmpty || noSpeech(speech) || noPorts(ports) || addresses?.length === 0) return undefined;
  return { names, speech, addresses, ports };
}

export type Effect = 'allow' | 'deny';

export interface ListRule extends Box {
  readonly action: Effect;
  /** If present, the address must also have been looked up under one of these names. In rules that allow only. */
  readonly looked?: Region;
  readonly where: Place;
}

/** How a query that is not allowed is answered. */
export type Refusal = 'nodata' | 'nxdomain' | 'refused';

/** What the files say, closed: what has no equivalent allows nothing, and denies all that it may deny. */
export interface Listing {
  /** Whether the rules judge connections, or the names in DNS queries. */
  readonly about: 'connections' | 'queries';
  /** The first that matches decides. */
  readonly rules: readonly ListRule[];
  /** What is decided if none matches. */
  readonly otherwise: Effect;
  /** Where `otherwise` is said. */
  readonly last: Place;
  /** The protocols and ports that the source judges at all. */
  readonly universe: Ports;
  /** What is not kept, so that less is allowed than the source allows. */
  readonly refused: readonly Remark[];
  readonly notes: readonly Remark[];
  /** Where a domain is named. */
  readonly origins: ReadonlyMap<string, Place>;
  readonly refusal?: Refusal;
}

/** Collects remarks, each once. */
export class Remarks {
  readonly all: Remark[] = [];
  readonly #said = new Set<string>();

  say(where: Place, message: string, hint?: string): void {
    const key = `${where.file}\0${where.line}\0${where.field}\0${message}`;
    if (this.#said.has(key)) return;
    this.#said.add(key);
    this.all.push(hint === undefined ? { where, message } : { where, message, hint });
  }
}

/** What the user says of conditions that policies do not have, such as who asks and when. */
export class Assumed {
  readonly #given: ReadonlyMap<string, boolean>;
  readonly #used = new Set<string>();

  constructor(given: ReadonlyMap<string, boolean> = new Map()) {
    this.#given = given;
  }

  /** Whether the condition holds; undefined if the user did not say. */
  get(name: string): boolean | undefined {
    this.#used.add(name);
    return this.#given.get(name);
  }

  /** Names that no source asked for. */
  get unused(): string[] {
    return [...this.#given.keys()].filter((name) => !this.#used.has(name));
  }
}

/** `file:3: spec.hosts[0]` */
export function placeText({ file, line, field }: Place): string {
  return `${file}${line === undefined ? '' : `:${line}`}${field === undefined ? '' : `: ${field}`}`;
}
