/** Translates the egress rules of a policy to IR rules, each with the pods to which it applies. */
import { isRecord } from '../../identity/fields.js';
import type { Action, PolicyRef, PortMatch, Rule } from '../../ir/types.js';
import { hasPorts, parseProtocol, TCP } from '../../net/protocol.js';
import type { Fault } from '../base/dialect.js';
import type { Account } from './accounts.js';
import { type Context, type EntitySpec, readDestination } from './entity.js';
import { ALL } from './meaning.js';
import { type PortFields, type Report as PortReport, readPorts } from './ports.js';
import { type HttpSpec, readHttp, requestPorts } from './requests.js';
import type { Selector } from './selector.js';
import { readSource } from './source.js';
import type { Lookups, NetworkSet } from './supporting.js';

export interface ReadRule {
  /** The policy's pods to which the rule applies. */
  readonly senders: Selector;
  readonly rule: Rule;
}

export interface RuleContext {
  readonly policy: PolicyRef;
  readonly tier: string;
  readonly staged: boolean;
  readonly sets: readonly NetworkSet[];
  readonly accounts: readonly Account[];
  readonly lookups: Lookups;
  /** Whether the policy as a whole is invalid: it may deny, and does nothing else. */
  readonly closed: boolean;
  /** Whether the part at this path has no faults of shape. */
  readonly sound: (path: string) => boolean;
  readonly report: (fault: Fault) => void;
}

const ACTIONS: ReadonlyMap<unknown, Action> = new Map([
  ['Allow', 'allow'],
  ['Deny', 'deny'],
  ['Log', 'log'],
  ['Pass', 'pass'],
]);

/** A value that is not a list has no rules: the policy isolates and allows nothing. */
export function readRules(egress: unknown, context: RuleContext): ReadRule[] {
  if (!Array.isArray(egress)) return [];
  return egress.map((entry: unknown, index) => {
    const found: Fault[] = [];
    const report = (fault: Fault) => {
      found.push(fault);
    };
    const path = `spec.egress[${index}]`;
    const raw = isRecord(entry) ? entry.action : undefined;
    // `allow` in lower case is a mistake, but its meaning is clear.
    const meant = typeof raw === 'string' ? raw.charAt(0).toUpperCase() + raw.slice(1).toLowerCase() : undefined;
    const action = ACTIONS.get(meant);
    const read =
      action && context.sound(path) ? readRule(entry as RuleSpec, index, action, context, report) : undefined;
    const effect = action === 'allow' || action === 'log' ? `${path} ${action}s nothing` : `${path} denies everything`;
    for (const fault of found) context.report(fault.severity === 'error' ? { ...fault, effect } : fault);
    const closes = found.some((f) => f.severity === 'error');
    return read && !closes ? overruled(read, context) : closedRule(index, action, context);
  });
}

interface RuleSpec extends Omit<PortFields, 'ports' | 'notPorts'> {
  readonly source?: EntitySpec;
  readonly destination?: EntitySpec;
  readonly http?: HttpSpec;
}

function readRule(
  spec: RuleSpec,
  index: number,
  action: Action,
  context: RuleContext,
  report: Context['report'],
): ReadRule | undefined {
  const path = `spec.egress[${index}]`;
  const { source = {}, destination = {}, ipVersion } = spec;
  const { policy, sets, accounts, lookups } = context;
  const error = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  const around: Context = { namespace: policy.namespace, action, ipVersion, sets, accounts, lookups, report };
  const senders = readSource(source, `${path}.source`, around);
  const to = readDestination(destination, `${path}.destination`, around);
  const { ports = [], notPorts = [] } = destination;
  const matches = readPorts({ ...spec, ports, notPorts }, path, error);
  const http = spec.http && readHttp(spec.http, action, path, report);
  if (http) checkProtocol(spec, path, error);
  if (!senders || !to) return undefined;
  const atPorts = http ? requestPorts(matches) : matches;
  const ports4 = to.service ? withService(atPorts, to.service) : atPorts;
  return { senders, rule: makeRule(index, action, context, to.peers, ports4, http) };
}

/** Requests are read over TCP alone. */
function checkProtocol({ protocol, notProtocol }: RuleSpec, path: string, error: PortReport): void {
  const hint = 'write protocol: TCP';
  if (protocol !== undefined && parseProtocol(String(protocol).toLowerCase()) !== TCP)
    error(`${path}.protocol`, `${protocol} has no HTTP that is read`, hint);
  if (notProtocol !== undefined) error(`${path}.notProtocol`, 'cannot stand beside http', hint);
}

/** The backends of a Service, in the protocols of the rule. */
function withService(matches: Rule['ports'], service: NonNullable<PortMatch['service']>): PortMatch[] {
  if (!matches) return [{ protocol: null, service }];
  return matches.filter((m) => hasPorts(m.protocol ?? 0)).map(({ protocol }) => ({ protocol, service }));
}

function makeRule(
  index: number,
  action: Action,
  context: RuleContext,
  peers: Rule['peers'],
  ports: Rule['ports'],
  http?: Rule['http'],
): Rule {
  const { policy, tier, staged } = context;
  const ref = { policy, index, tier, staged, action };
  return Object.freeze({ ref, action, peers, ports, ...(http ? { http } : {}) });
}

/** An invalid rule: one that may deny denies everything, one that may allow allows nothing. */
function closedRule(index: number, action: Action | undefined, context: RuleContext): ReadRule {
  const opens = action === 'allow' || action === 'log';
  const nothing = opens ? [] : null;
  return { senders: ALL, rule: makeRule(index, opens ? action : 'deny', context, nothing, nothing) };
}

/** The closed form of a rule whose policy is uncertain about its pods or its position. */
function overruled({ senders, rule }: ReadRule, context: RuleContext): ReadRule {
  const { index } = rule.ref;
  if (!context.closed || rule.action === 'deny') return { senders, rule };
  if (rule.action === 'pass') return { senders, rule: makeRule(index, 'deny', context, rule.peers, rule.ports) };
  return closedRule(index, rule.action, context);
}
