/** What a flow or edge itself says about its verdict, and whether the policies of now say the same. A pure module. */
import type { WhyNow } from './explain.js';
import type { WhyRef } from './why.js';

/** Reasons that are no rule, in words: see docs/operations.md. */
const REASONS: Readonly<Record<string, string>> = {
  rule: 'a rule decided',
  'no-policy': 'no policy selects the sender',
  reply: 'it answers a connection that was opened to the pod',
  observed: 'the node itself sent it, and no policy governs the node',
  malformed: 'it cannot be parsed',
  'unknown-ethertype': 'it cannot be parsed',
  'ext-headers': 'it has too many extension headers, or a source route',
  'tiny-fragment': 'it is a fragment that hides a header',
  'overlapping-fragment': 'it is a fragment that overwrites another',
  fragment: 'it is part of a packet that was denied',
  'spoofed-address': 'it is not from the address of the pod',
  'spoofed-mac': 'it is not from the address of the pod',
  'spoofed-neighbour': 'it speaks for the address of somebody else',
  'next-hop': 'its frame is for another receiver than its packet',
  encapsulation: 'it holds a packet that a node would unwrap',
  'no-owner': 'it was translated, and nobody knows for which pod',
  'out-of-order': 'it came before what must be judged first',
  'unreadable-answer': 'it is an answer of a resolver that cannot be read',
  'unreadable-query': 'it is a DNS query that cannot be read',
  'unreadable-hello': 'what the connection says decides, and its hello cannot be read',
  'unreadable-request': 'what the connection says decides, and its request cannot be read',
  'encrypted-hello': 'what the connection says decides, and its hello is encrypted',
  retold: 'it repeats what was judged, and says something else',
  unsaid: 'the connection has not said yet what decides about it',
  'unrelated-error': 'it is an ICMP error about no flow of the pod',
};

const DONE = { allow: 'Allowed', deny: 'Denied', partial: 'Judged behind a Service', none: 'Not judged' } as const;

/** `Denied by np/shop/web#default`, `Allowed: no policy selects the sender` */
export function thenText({ verdict, reason, rule }: WhyRef): string {
  if (rule !== '') return `${verdict === 'none' ? 'Logged' : DONE[verdict]} by ${rule}`;
  const why = REASONS[reason] ?? reason.replaceAll('-', ' ');
  return why === '' || why === 'none' ? DONE[verdict] : `${DONE[verdict]}: ${why}`;
}

/** A reason in words. */
export function reasonText(reason: string): string {
  return REASONS[reason] ?? reason.replaceAll('-', ' ');
}

/** What staged policies said then; empty: nothing else. */
export function thenStaged({ verdict, auditVerdict, auditRule }: WhyRef): string {
  if (auditVerdict === 'none' || (auditVerdict === verdict && auditRule === '')) return '';
  const words = { allow: 'allow', deny: 'deny', partial: 'judge' } as const;
  return `staged policies would ${words[auditVerdict]} it${auditRule === '' ? '' : ` by ${auditRule}`}`;
}

/** Whether the policies say now what they said then. `other`: it was not for them to say. */
export function compared(then: WhyRef, now: WhyNow): 'same' | 'verdict' | 'rule' | 'other' {
  const isPolicys = then.reason === 'rule' || then.reason === 'no-policy' || then.reason === 'none';
  if (!isPolicys || then.verdict === 'none' || then.verdict === 'partial' || now.verdict === 'partial') return 'other';
  if (then.verdict !== now.verdict) return 'verdict';
  // A rule that may not be seen is not there.
  if (then.rule === '' && then.reason === 'rule') return 'same';
  return keyOf(then.rule) === keyOf(now.rule) ? 'same' : 'rule';
}

/** Without the rule's own name. */
function keyOf(rule: string): string {
  const at = rule.indexOf(' "');
  return at < 0 ? rule : rule.slice(0, at);
}
