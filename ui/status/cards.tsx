/** The cards of a node, each about one subject. */
import type { StatusResponse } from '../../src/proto/status.js';
import { ago, count, shown } from '../parts/words.js';
import { session } from '../state/api.js';
import { Card, Facts, Fill } from './pieces.js';
import { counted, duration, millis, num, place } from './words.js';

interface CardProps {
  readonly s: StatusResponse;
}

export function AgentCard({ s }: CardProps) {
  const now = Date.now();
  const [staged, refused] = [s.policies_staged ?? 0, s.policies_refused ?? 0];
  const [attached, expected] = [s.hooks_attached ?? 0, s.hooks_expected ?? 0];
  const applied = millis(s.applied_at);
  // Numbers of all namespaces are told to who may see them all.
  const isWhole = session.value?.namespaces === undefined;
  return (
    <Card title="Agent">
      <Facts
        list={[
          { name: 'Version', value: `${shown(s.version, 60)}, up ${duration(num(s.uptime_ns) / 1e6)}, pid ${s.pid}` },
          {
            name: 'Policies from',
            value: s.source === '' ? shown(s.mode, 40) : `${shown(s.mode, 40)} in ${shown(s.source, 200)}`,
          },
          apiFact(s, now),
          isWhole && {
            name: 'Policies',
            value: `${count(s.policies_in_force ?? 0)} in force, ${count(staged)} staged, ${count(refused)} refused`,
            ...(refused > 0 ? { tone: 'bad' } : {}),
          },
          isWhole && {
            name: 'Applied',
            value: applied === 0 ? 'not yet' : `${ago(applied, now)}, epoch ${count(s.epoch ?? 0)}`,
          },
          s.failing_since && {
            name: 'Stale',
            value: `for ${duration(now - millis(s.failing_since))}: ${shown(s.last_error ?? '', 300)}`,
            tone: 'bad',
          },
          isWhole && {
            name: 'Hooks',
            value: `${attached} of ${expected} attached (${shown(s.attach_mode, 30)}), denied: ${shown(s.deny_response, 30)}`,
            ...(attached < expected ? { tone: 'bad' } : {}),
          },
          gateFact(s),
        ]}
      />
    </Card>
  );
}

function apiFact({ api }: StatusResponse, now: number) {
  if (!api) return undefined;
  const objects = (api.kinds ?? []).reduce((n, kind) => n + num(kind.objects), 0);
  const why = api.error === undefined ? '' : `: ${shown(api.error, 300)}`;
  const name = 'API server';
  if (api.stale_since)
    return { name, value: `not followed for ${duration(now - millis(api.stale_since))}${why}`, tone: 'bad' as const };
  if (!api.synced) return { name, value: `not known yet${why}`, tone: 'bad' as const };
  return { name, value: `followed, ${counted(objects, 'object')} of ${counted((api.kinds ?? []).length, 'kind')}` };
}

function gateFact({ gate }: StatusResponse) {
  if (!gate) return undefined;
  const where = gate.installed ? `in ${shown(gate.file ?? '', 200)}` : 'not installed';
  const counts = `${counted(num(gate.passed), 'pod')} passed, ${count(num(gate.refused))} refused, ${count(num(gate.timed_out))} gave up, ${count(gate.pending ?? 0)} wait`;
  const error = gate.error === undefined ? '' : `${shown(gate.error, 300)}; `;
  return {
    name: 'CNI gate',
    value: `${where}; ${error}${counts}`,
    ...(gate.error === undefined ? {} : { tone: 'bad' as const }),
  };
}

export function TrafficCard({ s }: CardProps) {
  if (session.value?.namespaces !== undefined) return null;
  const now = Date.now();
  const max = num(s.maps?.find(({ name }) => name === 'flows')?.max);
  const ring = (s.lost_in_ring ?? []).reduce<number>((n, v) => n + num(v), 0);
  const queues = num(s.lost_in_queues);
  const stored = num(s.flows_not_stored);
  const drops = Object.entries(s.drops ?? {}).sort(([, a], [, b]) => num(b) - num(a));
  const over = (s.endpoints ?? []).filter((e) => (s.flow_share ?? 0) > 0 && (e.flows ?? 0) > (s.flow_share ?? 0));
  const overflow = num(s.ledger?.overflow);
  return (
    <Card title="Traffic">
      <Facts
        list={[
          {
            name: 'Flows',
            value: `${(s.flows_per_second ?? 0).toFixed(1)} a second, ${count(num(s.flows_seen))} seen`,
          },
          max > 0 && {
            name: 'Flow table',
            value: (
              <>
                <Fill share={num(s.flows_in_table) / max} /> of {count(max)}
                {(s.flow_share ?? 0) > 0 && `, ${count(s.flow_share ?? 0)} for each endpoint in any case`}
              </>
            ),
          },
          num(s.flows_evicted) > 0 && { name: 'Made room', value: counted(num(s.flows_evicted), 'flow') },
          stored > 0 && {
            name: 'Not stored',
            value: `${counted(stored, 'flow')} found no room: each packet is judged anew`,
            tone: 'warn',
          },
          over.length > 0 && {
            name: 'Over share',
            value: over
              .slice(0, 5)
              .map((e) => `${shown(e.pod, 80)} ${count(e.flows ?? 0)}`)
              .join(', '),
            tone: 'warn',
          },
          {
            name: 'Lost events',
            value: `${count(ring)} in the kernel's ring, ${count(queues)} by slow readers`,
            ...(ring + queues > 0 ? { tone: 'warn' } : {}),
          },
          {
            name: 'Dropped packets',
            value:
              drops.length === 0 ? 'none' : drops.map(([why, n]) => `${shown(why, 60)} ${count(num(n))}`).join(', '),
          },
          s.ledger?.began_at && {
            name: 'Ledger',
            value: `${count(s.ledger.edges ?? 0)} of ${counted(s.ledger.max ?? 0, 'edge')}, begun ${ago(millis(s.ledger.began_at), now)}`,
          },
          overflow > 0 && { name: 'Without an edge', value: counted(overflow, 'flow'), tone: 'warn' },
        ]}
      />
    </Card>
  );
}

export function MapsCard({ s }: CardProps) {
  const maps = (s.maps ?? []).map(({ name, entries, max }) => ({ name, entries: num(entries), max: num(max) }));
  const share = ({ entries, max }: (typeof maps)[number]) => (max > 0 ? entries / max : 0);
  maps.sort((a, b) => share(b) - share(a) || b.entries - a.entries);
  const used = maps.filter(({ entries }) => entries > 0);
  const empty = maps.filter(({ entries }) => entries === 0);
  return (
    <Card title="Maps of the kernel">
      <ul class="maps">
        {used.map((map) => (
          <li key={map.name}>
            <span class="mono">{shown(map.name, 40)}</span>
            <span class="dim">
              {count(map.entries)} of {count(map.max)}
            </span>
            <Fill share={share(map)} />
          </li>
        ))}
      </ul>
      {empty.length > 0 && <p class="empty-maps dim">Empty: {empty.map(({ name }) => shown(name, 40)).join(', ')}</p>}
    </Card>
  );
}

export function NamesCard({ s: { names: n } }: CardProps) {
  if (!n) return null;
  const resolvers = (n.resolvers ?? []).map((r) => `${place(shown(r.address, 60), r.port)} (${shown(r.source, 60)})`);
  const strange = (n.seen ?? []).map((one) => {
    const who = one.pod ? shown(one.pod, 80) : 'nobody';
    const answers = num(one.untrusted);
    return `${place(shown(one.address, 60), one.port)} (${answers > 0 ? `${counted(answers, 'answer')} to ${who}` : `used by ${who}`})`;
  });
  const [refused, overflow, untrusted] = [num(n.refused), num(n.overflow), num(n.untrusted)];
  return (
    <Card title="Names">
      <Facts
        list={[
          {
            name: 'Known',
            value: `${counted(n.names ?? 0, 'name')}, ${count(n.share ?? 0)} for each endpoint in any case`,
          },
          {
            name: 'Resolvers',
            value: resolvers.length === 0 ? 'none is trusted: no name is learned' : resolvers.slice(0, 6).join(', '),
            ...(resolvers.length === 0 ? { tone: 'warn' } : {}),
          },
          num(n.seeded) > 0 && { name: 'Asked for itself', value: counted(num(n.seeded), 'record') },
          refused + overflow > 0 && {
            name: 'Not learned',
            value: `${count(refused)} found no room, ${count(overflow)} addresses with too many names`,
            tone: 'warn',
          },
          untrusted > 0 && {
            name: 'Not trusted',
            value: `${counted(untrusted, 'answer')} of others, or that nobody asked for`,
            tone: 'warn',
          },
          strange.length > 0 && {
            name: 'Strangers',
            value: `${strange.slice(0, 6).join(', ')}: not learned from`,
            tone: 'warn',
          },
          num(n.dns_events_lost) > 0 && {
            name: 'Lost queries',
            value: counted(num(n.dns_events_lost), 'report'),
            tone: 'warn',
          },
        ]}
      />
    </Card>
  );
}

/** What connections say; nothing where no rule ever asked for it. */
export function SaidCard({ s: { said } }: CardProps) {
  const of = (key: keyof NonNullable<typeof said>) => num(said?.[key]);
  if (of('inspected') + of('judged') + of('pending') === 0) return null;
  return (
    <Card title="Layer 7">
      <Facts
        list={[
          { name: 'Inspected', value: `${counted(of('inspected'), 'connection')}, ${count(of('pending'))} pending` },
          { name: 'Judged', value: `${count(of('judged'))}, ${count(of('denied'))} denied` },
          of('audited') > 0 && { name: 'In audit only', value: count(of('audited')), tone: 'warn' },
          of('oversize') > 0 && { name: 'Oversize', value: `${count(of('oversize'))}: denied`, tone: 'warn' },
          of('without_buffer') > 0 && {
            name: 'No buffer',
            value: `${counted(of('without_buffer'), 'packet')}, sent again`,
          },
          of('ech_without_room') > 0 && {
            name: 'ECH without room',
            value: count(of('ech_without_room')),
            tone: 'warn',
          },
          of('events_lost') > 0 && { name: 'Lost reports', value: count(of('events_lost')), tone: 'warn' },
        ]}
      />
    </Card>
  );
}

export function ExportsCard({ s: { exports: list = [] } }: CardProps) {
  if (list.length === 0) return null;
  const now = Date.now();
  return (
    <Card title="Exports">
      <Facts
        list={list.map((e) => {
          const lost = Object.entries(e.lost ?? {}).filter(([, n]) => num(n) > 0);
          const losses =
            lost.length === 0
              ? ''
              : `; lost: ${lost.map(([where, n]) => `${count(num(n))} ${shown(where, 40)}`).join(', ')}`;
          const counts = `${counted(num(e.exported), 'record')} taken, ${count(num(e.queued))} wait${losses}`;
          const name = shown(e.target, 120);
          if (e.failing_since)
            return {
              name,
              value: `fails for ${duration(now - millis(e.failing_since))}: ${shown(e.last_error ?? '', 300)}; ${counts}`,
              tone: 'bad' as const,
            };
          return { name, value: counts, ...(losses === '' ? {} : { tone: 'warn' as const }) };
        })}
      />
    </Card>
  );
}
