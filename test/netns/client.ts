/** What the tests ask of an agent, over its socket, and how they see its flows: from the endpoint's side. */
import { AgentClient as RpcClient } from '../../src/rpc/transport/client.js';
import type { FlowRecord, HubbleEndpoint } from '../../src/proto/messages.js';

export interface Side {
  ip: string;
  port: number;
  /** `namespace/name`, or empty. */
  pod: string;
  labels: Record<string, string>;
}

/** One flow event. */
export interface Told {
  type: string;
  verdict: string;
  reason: string;
  rule?: { kind: string; policy: string; index: number; text: string };
  local: Side;
  remote: Side;
  /** `tcp`, `udp`, `sctp`, `icmp`; empty for others. */
  protocol: string;
  /** `namespace/name` of the Service that was asked for, or empty. */
  service: string;
  drops: number;
  bytesOut: number;
  bytesIn: number;
  packetsOut: number;
  packetsIn: number;
  inbound: boolean;
  /** Names of the TCP flags. */
  flags: string[];
}

export interface Status {
  /** Pods whose hooks are in place. */
  endpoints: string[];
  /** Events lost, in the ring and in queues. */
  lost: number;
  drops: Record<string, number>;
  /** Entries of the flow table by pod, and what each may have in any case. */
  held: Record<string, number>;
  share: number;
}

export class AgentClient {
  readonly #client: RpcClient;
  readonly #stop = new AbortController();

  constructor(path: string) {
    this.#client = new RpcClient(path);
  }

  async status(): Promise<Status> {
    const s = await this.#client.status();
    const lost = (s.lost_in_ring ?? []).reduce((n: number, v) => n + Number(v), Number(s.lost_in_queues ?? 0));
    return {
      endpoints: (s.endpoints ?? [])
        .filter((e) => e.state !== 'missing')
        .map((e) => e.pod)
        .filter((p) => !p.startsWith('node/')),
      lost,
      held: Object.fromEntries((s.endpoints ?? []).map((e) => [e.pod, e.flows ?? 0])),
      share: s.flow_share ?? 0,
      drops: Object.fromEntries(Object.entries(s.drops ?? {}).map(([k, v]) => [k, Number(v)])),
    };
  }

  /** Whether a policy of this name is in force. */
  async enforces(policy: string): Promise<boolean> {
    const { policies } = await this.#client.policies();
    return (policies ?? []).some((p) => p.name === policy && p.state === 'in-force');
  }

  /** Hands over all flows, those of the past too, until close(). */
  follow(tell: (flow: Told) => void): void {
    void (async () => {
      try {
        const all = this.#client.getRecords({ follow: true, number: '18446744073709551615' }, this.#stop.signal);
        for await (const { record } of all) if (record) tell(told(record));
      } catch {
        // The agent was killed: part of some tests.
      }
    })();
  }

  close(): void {
    this.#stop.abort();
    this.#client.close();
  }
}

function told(r: FlowRecord): Told {
  const { flow } = r;
  const l4 = flow.l4 ?? {};
  const ports = l4.TCP ?? l4.UDP ?? l4.SCTP;
  const source = side(flow.source, flow.IP?.source, ports?.source_port);
  const destination = side(flow.destination, flow.IP?.destination, ports?.destination_port);
  // Who sends is the endpoint unless the packet is a reply to it, or the peer's own.
  const out = r.event === 'end' ? !r.inbound : Boolean(r.inbound) === Boolean(flow.is_reply?.value);
  return {
    type: r.event,
    verdict: r.verdict,
    reason: r.reason,
    ...(r.rule
      ? {
          rule: {
            kind: r.rule.kind,
            policy: r.rule.namespace ? `${r.rule.namespace}/${r.rule.name}` : r.rule.name,
            index: Number(r.rule.index ?? 0),
            text: r.rule.text,
          },
        }
      : {}),
    local: out ? source : destination,
    remote: out ? destination : source,
    protocol:
      Object.keys(l4)[0]
        ?.toLowerCase()
        .replace(/v[46]$/, '') ?? '',
    service: flow.destination_service ? `${flow.destination_service.namespace}/${flow.destination_service.name}` : '',
    drops: Number(r.drops ?? 0),
    bytesOut: Number(r.bytes_out ?? 0),
    bytesIn: Number(r.bytes_in ?? 0),
    packetsOut: Number(r.packets_out ?? 0),
    packetsIn: Number(r.packets_in ?? 0),
    inbound: r.inbound ?? false,
    flags: Object.keys(l4.TCP?.flags ?? {}),
  };
}

function side(e: HubbleEndpoint | undefined, ip: string | undefined, port: number | undefined): Side {
  const labels = (e?.labels ?? []).map((l) => l.slice(l.indexOf(':') + 1).split('=') as [string, string]);
  return {
    ip: ip ?? '',
    port: port ?? 0,
    pod: e?.pod_name ? `${e.namespace}/${e.pod_name}` : '',
    labels: Object.fromEntries(labels),
  };
}
