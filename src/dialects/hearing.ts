/**
 * What policies ask of connections beside their rules: whether those to addresses of names are verified, and what
 * becomes of QUIC. The agent's options say it, and for one policy its annotations.
 */
import type { Problem } from '../errors.js';
import type { RawPolicy } from '../identity/snapshot.js';
import { asksForName, type Peer, VERIFICATIONS, type Verification } from '../ir/peers.js';
import { asksForSaid } from '../ir/said.js';
import type { PortMatch, Rule } from '../ir/types.js';
import { UDP } from '../net/protocol.js';
import type { Placed, Understood } from './base/dialect.js';
import { annotationsOf } from './enforcement.js';

/** `off`: who was admitted by address is not asked for a name. */
export const VERIFY_NAMES = ['off', ...VERIFICATIONS] as const;
/**
 * `reject`: where it matters what a connection says, no hello of QUIC matches, so that clients fall back to TCP.
 * `by-address`: names are not verified over UDP.
 */
export const QUIC = ['inspect', 'reject', 'by-address'] as const;

export interface Hearing {
  readonly verifyNames: 'off' | Verification;
  readonly quic: (typeof QUIC)[number];
}

/** Nothing is asked beside what rules say themselves. */
export const BY_RULES: Hearing = { verifyNames: 'off', quic: 'inspect' };

/** The options by their annotations. */
const ANNOTATIONS = {
  'egress-agent.io/verify-names': { option: 'verifyNames', values: VERIFY_NAMES, flag: '--verify-names' },
  'egress-agent.io/quic': { option: 'quic', values: QUIC, flag: '--quic' },
} as const;

/** The annotations that say what is asked, as far as an object has them. */
export function hearingAnnotations(raw: RawPolicy): Readonly<Record<string, unknown>> {
  const own = annotationsOf(raw) ?? {};
  return Object.fromEntries(Object.keys(ANNOTATIONS).flatMap((key) => (key in own ? [[key, own[key]]] : [])));
}

/**
 * The object's policies with what its annotations say, or else the options. A value that means nothing changes nothing.
 */
export function withHearing(raw: RawPolicy, result: Understood, options: Hearing): Understood {
  const hearing: Record<keyof Hearing, string> = { ...options };
  for (const [key, value] of Object.entries(hearingAnnotations(raw))) {
    const { option, values } = ANNOTATIONS[key as keyof typeof ANNOTATIONS];
    const known = values.find((one) => one === value);
    if (known !== undefined) hearing[option] = known;
  }
  const { verifyNames, quic } = hearing as Hearing;
  if (verifyNames === BY_RULES.verifyNames && quic === BY_RULES.quic) return result;
  return { ...result, policies: result.policies.map((placed) => hearingBy(placed, { verifyNames, quic })) };
}

/** What nodes send themselves is not read. */
function hearingBy(placed: Placed, hearing: Hearing): Placed {
  const { policy } = placed;
  if (policy.nodes !== undefined) return placed;
  const rules = policy.rules.flatMap((rule) => (rule.action === 'allow' ? asking(rule, hearing) : rule));
  return { ...placed, policy: Object.freeze({ ...policy, rules }) };
}

/** A rule that asks for more, or for less over UDP. DNS queries are judged by their own names alone. */
function asking(rule: Rule, { verifyNames, quic }: Hearing): Rule[] {
  const verifies =
    verifyNames !== 'off' && !rule.serverNames && !rule.queries && (rule.peers?.some(asksForName) ?? false);
  const verified = verifies ? { ...rule, peers: rule.peers!.map((peer) => verifiedBy(peer, verifyNames)) } : rule;
  if (quic === 'inspect' || !asksForSaid(verified)) return [Object.freeze(verified)];
  if (quic === 'reject') return [Object.freeze<Rule>({ ...verified, quic })];
  const ports = overUdp(rule.ports);
  // Over UDP the first of both matches, whatever a connection says.
  const plain = verifies && !rule.http && ports.length > 0 ? [Object.freeze<Rule>({ ...rule, ports })] : [];
  return [...plain, Object.freeze(verified)];
}

function verifiedBy(peer: Peer, verify: Verification): Peer {
  if (peer.kind === 'all') return { ...peer, of: peer.of.map((one) => verifiedBy(one, verify)) };
  return peer.kind === 'names' ? { ...peer, verify } : peer;
}

function overUdp(ports: Rule['ports']): PortMatch[] {
  return (ports ?? [{ protocol: null }])
    .filter(({ protocol }) => protocol === null || protocol === UDP)
    .map((match) => ({ ...match, protocol: UDP }));
}

/** Problems of the annotations. */
export function hearingProblems(raw: RawPolicy): Problem[] {
  return Object.entries(hearingAnnotations(raw)).flatMap(([key, value]) => {
    const { values, flag } = ANNOTATIONS[key as keyof typeof ANNOTATIONS];
    if (values.some((one) => one === value)) return [];
    const where = { ...raw.where, field: `metadata.annotations["${key}"]` };
    const message = `${JSON.stringify(value)} means nothing here: the agent's ${flag} stays in force`;
    return [
      { severity: 'warning', where, message, hint: `write ${values.join(', ').replace(/, (?=[^,]*$)/, ' or ')}` },
    ];
  });
}
