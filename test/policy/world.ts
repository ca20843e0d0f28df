/** Short ways to say what the world is and what is asked of it. */
import { toIr } from '../../src/dialects/index.js';
import { formatProblem } from '../../src/errors.js';
import { buildSnapshot } from '../../src/identity/builder.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { parseManifest } from '../../src/identity/files/yaml.js';
import type { Packet, Verdict } from '../../src/ir/packet.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { ruleId, ruleKey } from '../../src/ir/names.js';
import { implicitRules, type Ir, type RuleRef } from '../../src/ir/types.js';
import { parseProtocol } from '../../src/net/protocol.js';

export const NODE = 'node-a';
export const NODE_IP = '192.168.0.1';

/** Snapshot of a manifest text; problems of the text are in it. */
export function snapshotOf(text: string, ownNodeIps: readonly string[] = [NODE_IP]): Snapshot {
  const documents = parseManifest('test.yaml', text);
  const problems = documents.flatMap((d) => d.problems);
  return buildSnapshot(
    documents.flatMap((d) => d.objects),
    { nodeName: NODE, ownNodeIps, problems },
  );
}

export function problemsOf(text: string): string[] {
  const snapshot = snapshotOf(text);
  return [...snapshot.problems, ...toIr(snapshot).problems].map((p) => `${p.severity} ${formatProblem(p)}`);
}

/** `10.0.0.1:80/tcp`, `[fd00::1]:80/tcp`, `10.0.0.1/icmp`. */
export function packet(from: string, target: string): Packet {
  const match = /^\[?([0-9a-f.:]+?)\]?(?::(\d+))?\/(\w+)$/.exec(target);
  if (!match) throw new Error(`not a target: ${target}`);
  const protocol = parseProtocol(match[3] as string) as number;
  return { from, to: match[1] as string, protocol, port: Number(match[2] ?? 0) };
}

/** Every rule that an id can stand for in this IR. */
function ruleNames(ir: Ir): Map<number, string> {
  const names = new Map<number, string>();
  const add = (ref: RuleRef) => {
    for (const staged of [false, true]) names.set(ruleId({ ...ref, staged }), ruleKey(ref));
  };
  for (const tier of ir.tiers) {
    for (const rule of implicitRules(tier.policies)) add(rule.ref);
    for (const policy of tier.policies) {
      for (const rule of policy.rules) add(rule.ref);
      add({ policy: policy.ref, index: -1, tier: tier.name, staged: false, action: tier.defaultAction });
    }
  }
  return names;
}

/** `allow [np/default/web#0]`, `allow` where no rule decided. */
export function show(ir: Ir, verdict: Pick<Verdict, 'verdict' | 'rule'>): string {
  if (verdict.rule === 0) return verdict.verdict;
  return `${verdict.verdict} [${ruleNames(ir).get(verdict.rule) ?? verdict.rule}]`;
}

/** A judge of `from → target` for a manifest text. */
export function judgeOf(text: string, ownNodeIps?: readonly string[]): (from: string, target: string) => string {
  const snapshot = snapshotOf(text, ownNodeIps);
  const { ir } = toIr(snapshot);
  return (from, target) => show(ir, evaluate(ir, snapshot, packet(from, target)));
}

/** A Pod manifest in one line of YAML. */
export function pod(
  key: string,
  ip: string | readonly string[],
  labels: Record<string, string> = {},
  more = {},
): string {
  const [namespace, name] = key.split('/');
  const ips = typeof ip === 'string' ? [ip] : ip;
  const object = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, labels },
    spec: { nodeName: NODE, containers: [], ...more },
    status: { podIPs: ips.map((ip) => ({ ip })) },
  };
  return `---\n${JSON.stringify(object)}\n`;
}

export function namespace(name: string, labels: Record<string, string> = {}, status = {}): string {
  return `---\n${JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels }, status })}\n`;
}

/** A NetworkPolicy, its spec in YAML flow style or as an object. */
export function policy(key: string, spec: object | string): string {
  const [ns, name] = key.split('/');
  const text = typeof spec === 'string' ? spec : JSON.stringify(spec);
  return `---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: ${ns}, name: ${name}}, spec: ${text}}\n`;
}
