/** Says which edge a flow belongs to, with what is known now. */
import type { NamedFlow } from '../flow/names/named.js';
import { isInbound } from '../flow/names/terms.js';
import type { Flow, Party, ServiceRef } from '../flow/event/types.js';
import type { PolicyRef, RuleRef } from '../ir/types.js';
import type { EdgeParty, EdgeRule } from './edge.js';
import { NOBODY } from './edge.js';
import type { NewEdge } from './ledger.js';

/** What a description needs to know besides the flow. */
export interface EdgeFacts {
  readonly nodeName: string;
  /** Of a policy; 0: unknown. */
  generation(policy: PolicyRef): number;
  /**
   * The one workload behind a port of a Service, or the one node or address that is no pod's, and the port there;
   * undefined: there is none, or there are several.
   */
  behind(service: ServiceRef, port: number, protocol: number): { party: EdgeParty; port: number } | undefined;
}

type End = Omit<Party, 'ip' | 'port'>;

/** The workload of a pod; a pod without a controller is its own. */
function workloadOf(who: End): EdgeParty {
  const { namespace, workload } = who;
  return workload
    ? { kind: 'workload', namespace, workloadKind: workload.kind, name: workload.name }
    : { kind: 'workload', namespace, workloadKind: 'Pod', name: who.pod };
}

/**
 * The edge of a flow; undefined: another agent counts it, or this one counts it by another event.
 *
 * Edges between pods are counted where they begin, so of what was opened to a pod only what comes from outside or from
 * this node is counted. A connection through a Service is counted with its first event, at the one that is behind the
 * Service where there is one. What the post-DNAT check says counts where it denies, and where that one is not known:
 * whoever may write Services would have connections of which no edge says where they arrived.
 */
export function describe(flow: Flow | NamedFlow, facts: EdgeFacts): NewEdge | undefined {
  const e = flow.event;
  if (e.type === 'log' || e.type === 'dns') return undefined;
  const inbound = isInbound(e);
  const [local, remote] = endsOf(flow);
  if (inbound && !(remote.kind === 'world' || (remote.kind === 'node' && remote.node === facts.nodeName)))
    return undefined;
  const names = (inbound ? flow.sourceNames : flow.destinationNames) ?? [];
  const rule = ruleOf(flow.rule, facts);
  const auditRule = ruleOf(flow.auditRule, facts);
  const common = {
    inbound,
    protocol: e.protocol,
    verdict: e.verdict,
    auditVerdict: e.auditVerdict,
    reason: e.reason,
    ...(rule ? { rule } : {}),
    ...(auditRule ? { auditRule } : {}),
    address: e.remote,
  };
  const own = partyOf(local, e.local, []);
  if (inbound) {
    const source = partyOf(remote, e.remote, names);
    return { ...common, source, destination: own, service: '', servicePort: 0, port: e.localPort };
  }
  const { service } = flow;
  const name = service ? `${service.namespace}/${service.name}` : '';
  if (e.postDnat) {
    // What is translated leads where the first event could not say, unless that is known.
    const isTold = e.service === '' || (service && facts.behind(service, e.servicePort, e.protocol));
    if (e.verdict === 'allow' && e.auditVerdict !== 'deny' && isTold) return undefined;
    const destination = partyOf(remote, e.remote, names);
    return { ...common, source: own, destination, service: name, servicePort: e.servicePort, port: e.remotePort };
  }
  if (!service) {
    const destination = partyOf(remote, e.remote, names);
    return { ...common, source: own, destination, service: '', servicePort: 0, port: e.remotePort };
  }
  const behind = facts.behind(service, e.remotePort, e.protocol);
  const destination = behind?.party ?? serviceParty(service);
  const port = behind?.port ?? e.remotePort;
  return { ...common, source: own, destination, service: name, servicePort: e.remotePort, port };
}

function endsOf(flow: Flow | NamedFlow): [End, End] {
  if ('local' in flow) return [flow.local, flow.remote];
  return flow.source.ip === flow.event.local ? [flow.source, flow.destination] : [flow.destination, flow.source];
}

function serviceParty({ namespace, name }: ServiceRef): EdgeParty {
  return { kind: 'service', namespace, workloadKind: '', name };
}

/** Who is at an address. @param names under which it was learned */
export function partyOf(who: End, ip: string, names: readonly string[]): EdgeParty {
  if (who.kind === 'pod') return workloadOf(who);
  if (who.kind === 'node') return { kind: 'node', namespace: '', workloadKind: '', name: who.node ?? '' };
  const [name] = names;
  if (name !== undefined) return { kind: 'name', namespace: '', workloadKind: '', name };
  return ip === '' ? NOBODY : { kind: 'address', namespace: '', workloadKind: '', name: ip };
}

function ruleOf(ref: RuleRef | undefined, facts: EdgeFacts): EdgeRule | undefined {
  return ref && { ref, generation: facts.generation(ref.policy) };
}
