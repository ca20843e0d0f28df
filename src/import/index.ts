/**
 * Makes policies of lists that other products enforce. Nothing is ever wider than the source says by its own rules: what
 * has no equivalent allows nothing, and is told by file and line.
 */
import { understandOne } from '../dialects/index.js';
import { AgentError } from '../errors.js';
import type { Manifest } from '../convert/terms/common.js';
import { documentText, policiesIn } from '../convert/text.js';
import { buildAutomaton } from '../names/automaton.js';
import { nameAtom } from '../names/pattern.js';
import { PatternFault } from '../names/subsets.js';
import { decide } from './base/decide.js';
import { Assumed, type Listing, placeText, type Remark, Remarks } from './base/model.js';
import { prove, type Proof, worldOf } from './proof.js';
import { readFirewall } from './aws/firewall.js';
import { readDnsFirewall } from './aws/route53.js';
import { readIstio } from './istio/index.js';
import { readSquid } from './squid/index.js';
import { toCalico } from './targets/calico.js';
import { toCilium } from './targets/cilium.js';
import { toCnp } from './targets/cnp.js';
import type { Source, Target } from './names.js';
import type { Maker, Order, Subject } from './targets/common.js';
import { toFqdn } from './targets/fqdn.js';

type Reader = (files: readonly string[], assumed: Assumed, subject: Subject) => Listing;

const READERS: Readonly<Record<Source, Reader>> = {
  squid: readSquid,
  'aws-network-firewall': readFirewall,
  istio: readIstio,
  'route53-dns-firewall': readDnsFirewall,
};

const MAKERS: Readonly<Record<Target, Maker>> = { cilium: toCilium, cnp: toCnp, calico: toCalico, fqdn: toFqdn };

/** Languages that tell TLS from HTTP. */
const TELLS: ReadonlySet<Target> = new Set(['cilium']);

export interface Imported {
  /** None if they would allow more than the source. */
  readonly objects: readonly Manifest[];
  /** The same as YAML documents. */
  readonly texts: readonly string[];
  readonly refused: readonly Remark[];
  readonly notes: readonly Remark[];
  readonly proof: Proof;
}

/**
 * Reads lists and makes policies.
 * @param given what the user says of conditions that no policy has
 * @throws AgentError if a file cannot be read
 */
export function importLists(
  from: Source,
  files: readonly string[],
  to: Target,
  subject: Subject,
  given: ReadonlyMap<string, boolean> = new Map(),
): Imported {
  const assumed = new Assumed(given);
  const listing = READERS[from](files, assumed, subject);
  const [unused] = assumed.unused;
  if (unused !== undefined)
    throw new AgentError('USAGE', `--assume ${unused}: no rule asks for that`, {
      hint: 'use a name that a refusal tells',
    });
  return fromListing(listing, from, files, to, subject);
}

/** Makes policies of what a list says. */
export function fromListing(
  listing: Listing,
  from: Source,
  files: readonly string[],
  to: Target,
  subject: Subject,
): Imported {
  const refused = new Remarks();
  const notes = new Remarks();
  for (const { where, message, hint } of listing.refused) refused.say(where, message, hint);
  for (const { where, message, hint } of listing.notes) notes.say(where, message, hint);
  if (listing.about === 'queries' && to !== 'cilium') {
    refused.say(listing.last, 'judges DNS queries by their names: only rules.dns of Cilium does that', '--to cilium');
    return { objects: [], texts: [], refused: refused.all, notes: notes.all, proof: NOTHING };
  }
  const { parts, refused: undecided } = decide(listing);
  for (const { where, message } of undecided) refused.say(where, message);
  const order: Order = { subject, listing, parts, refused, notes };
  const objects = MAKERS[to](order);
  notes.say(listing.last, dnsText(subject, listing.about));
  checkSize(order);
  const comment = `from ${files.map((file) => file).join(', ')} (${from})`;
  const texts = objects.map((object) => documentText(object, [comment]));
  const { policies, problems } = policiesIn(texts.join(''));
  const snapshot = worldOf(subject, policies);
  const faults = policies
    .flatMap((raw) => understandOne(raw, snapshot)?.faults ?? [])
    .filter((f) => f.severity === 'error')
    .map((f) => `${f.field}: ${f.message}`);
  const proof = prove(listing, policies, subject, TELLS.has(to));
  const wrong = [...problems, ...faults].slice(0, 3);
  for (const text of wrong) refused.say(listing.last, `what it becomes cannot be read: ${text}`);
  if (proof.wide !== undefined)
    refused.say(listing.last, `what it becomes allows ${proof.wide}, and the source does not: nothing is printed`);
  else if (proof.narrow !== undefined && refused.all.length === 0)
    refused.say(listing.last, `what it becomes does not allow ${proof.narrow}, and the source does`);
  if (proof.deaf !== undefined)
    refused.say(
      listing.last,
      `what it becomes denies DNS to ${proof.deaf}, since the source denies that address: a pod learns no address there`,
    );
  const failed = proof.wide !== undefined || wrong.length > 0;
  return {
    objects: failed ? [] : objects,
    texts: failed ? [] : texts,
    refused: refused.all,
    notes: notes.all,
    proof,
  };
}

/** Fewer names are always few enough. */
const FEW = 10_000;

/** Whether an agent has room for the names: it walks one automaton for all patterns of its node. */
function checkSize({ listing, parts, refused }: Order): void {
  const patterns = new Set(
    parts.flatMap(({ items }) => items.flatMap((one) => (one.kind === 'names' ? one.patterns : []))),
  );
  if (patterns.size < FEW) return;
  try {
    buildAutomaton([...patterns].map(nameAtom));
  } catch (e) {
    if (!(e instanceof PatternFault)) throw e;
    refused.say(
      listing.last,
      `${patterns.size} patterns of names are more than an agent takes: it would refuse the policies, and keep the last ones`,
      'leave out names that nobody uses, or that a domain covers',
    );
  }
}

const NOTHING: Proof = { packets: 0, names: 0, looked: 0, narrower: 0 };

function dnsText({ resolvers }: Subject, about: Listing['about']): string {
  const whom = resolvers.map((one) =>
    'cidr' in one
      ? one.cidr
      : `the pods ${Object.entries(one.labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(',')} of ${one.namespace}`,
  );
  if (about === 'queries') return `the names are judged in queries to ${whom.join(', ')} (--dns)`;
  return `DNS to ${whom.join(', ')} is allowed for every name (--dns): a pod that cannot ask learns no address`;
}

/** A remark with its place, for a line of text. */
export function remarkText({ where, message, hint }: Remark): string {
  return `${placeText(where)}: ${message}${hint === undefined ? '' : ` (${hint})`}`;
}
