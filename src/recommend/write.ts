/** Writes the policies of one workload: in a language, staged, with the evidence of each rule beside it. */
import { createHash } from 'node:crypto';
import { documentText, type Note } from '../convert/text.js';
import type { EdgeParty } from '../edges/edge.js';
import { hasPorts } from '../net/protocol.js';
import { stagedForm } from '../staging/forms.js';
import { evidenceText, type ModelRule, ruleTo } from './rules/model.js';
import type { Language } from './base/names.js';
import { toCalico } from './targets/calico.js';
import { toCilium } from './targets/cilium.js';
import { toCnp } from './targets/cnp.js';
import type { Item, Maker, Manifest, Subject } from './targets/common.js';
import { toApplicationNetworkPolicy, toFqdn, toNetworkPolicy } from './targets/networkpolicy.js';
import type { Target } from './rules/resolve.js';
import type { PortRange } from './base/types.js';

const MAKERS: Readonly<Record<Language, Maker>> = {
  networkpolicy: toNetworkPolicy,
  cnp: toCnp,
  calico: toCalico,
  cilium: toCilium,
  fqdn: toFqdn,
  applicationnetworkpolicy: toApplicationNetworkPolicy,
};

/** Lines of evidence beside one rule. */
const MOST_LINES = 25;
/** Ports of a name in GKE's language, which has no ranges. */
const SINGLE_PORTS = 100;

export function hasNames(language: Language): boolean {
  return language !== 'networkpolicy';
}

/** Why a language cannot say something; undefined: it can. */
export function unsayable(language: Language, { protocol, lo, hi }: PortRange, target: Target): string | undefined {
  const isIcmp = protocol === 1 || protocol === 58;
  if (language === 'calico') {
    if (target.kind === 'name' && !hasPorts(protocol)) return 'names have ports';
    return undefined;
  }
  if (!hasPorts(protocol) && !(isIcmp && language === 'cilium' && target.kind !== 'name'))
    return `it has no port, and ${language} no other way to say it`;
  if (language === 'fqdn' && target.kind === 'name') {
    if (protocol !== 6 && protocol !== 17) return 'its names are for TCP and UDP';
    if (hi - lo >= SINGLE_PORTS) return 'its names have single ports alone';
  }
  return undefined;
}

/** A staged object, and its text. */
export interface Staged {
  readonly object: Manifest;
  readonly text: string;
}

/** @param head comments, one line each */
export function write(
  language: Language,
  subject: Subject,
  rules: readonly ModelRule[],
  head: readonly string[],
): Staged[] {
  return MAKERS[language](subject, rules).map(({ object, items }, i) => {
    const notes = items.flatMap((item, index): Note[] =>
      item === undefined ? [] : [{ path: ['spec', 'egress', index], lines: linesOf(item) }],
    );
    const one = stagedForm({ ...object }) as unknown as Manifest;
    return { object: one, text: documentText(one, i === 0 ? head : [], notes) };
  });
}

function linesOf({ rule, protocol }: Item): string[] {
  const evidence = rule.evidence.filter((e) => protocol === undefined || e.protocol === protocol);
  const lines = [
    ...evidence.map((e) => `${e.to}: ${evidenceText(e)}`),
    ...rule.beyond.map((text) => `beyond what was seen: ${text}`),
  ];
  const shown = lines.slice(0, MOST_LINES);
  if (lines.length > shown.length) shown.push(`and ${lines.length - shown.length} more`);
  return [ruleTo(rule), ...shown];
}

/** Kinds that a name has as they are, in small letters. Whoever writes a pod says of what kind its owner is. */
const KINDS: ReadonlySet<string> = new Set([
  ...['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'ReplicationController', 'Job', 'CronJob', 'Pod'],
]);

/**
 * The name of a workload's policies: the same whatever else is recommended, and no other workload's. What a name must not
 * have, or is too long, is told apart by a hash, and so are kinds that may differ in nothing but their capitals.
 */
export function policyName({ workloadKind, name }: EdgeParty): string {
  const own = `${workloadKind.toLowerCase()}-${name}-egress`;
  if (
    KINDS.has(workloadKind) &&
    /^[a-z]+-[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*-egress$/.test(own) &&
    own.length <= 150
  )
    return own;
  const hash = createHash('sha256')
    .update(JSON.stringify([workloadKind, name]))
    .digest('hex')
    .slice(0, 10);
  const plain = own.replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-+|-+$/g, '');
  return `${plain.slice(0, 120) || 'workload'}-${hash}`.replaceAll(/-+/g, '-');
}
