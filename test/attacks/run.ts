/** Runs attacks on a bed, and judges by what arrived. */
import { setTimeout as sleep } from 'node:timers/promises';
import { At } from './at.js';
import type { Attack, Control, Family, Forbidden, Hook, Style } from './attack.js';
import { Bed, STANDARD } from './bed.js';

const STYLES: readonly Style[] = ['ptp', 'bridge'];
const FAMILIES: readonly Family[] = [4, 6];
/** Milliseconds: what has not arrived by then after the last control never will; everything is on one machine. */
const GRACE_MS = 80;
const CONTROL_MS = 4000;

export interface Outcome {
  attack: string;
  hook: Hook;
  variants: number;
  sentBytes: number;
  /** A line for each marker at each place where it should not be. */
  arrived: { variant: string; place: string; bytes: number; frame: string }[];
  arrivedBytes: number;
  /** Bytes that arrived because of a known limit, by its name. */
  limits: Record<string, number>;
  /** What else must not be. */
  wrong: string[];
  /** Controls that did not arrive, and what went wrong: the attack proves nothing. */
  broken: string[];
  /** Reasons of drops that grew meanwhile, with whether an event told of one. */
  reasons: string[];
}

/** One attack, everywhere that it makes sense. */
export async function attackOn(bed: Bed, attack: Attack, short: boolean): Promise<Outcome> {
  const out: Outcome = {
    attack: attack.name,
    hook: bed.hook,
    variants: 0,
    sentBytes: 0,
    arrived: [],
    arrivedBytes: 0,
    limits: {},
    wrong: [],
    broken: [],
    reasons: [],
  };
  const forms = (attack.styles ?? STYLES).flatMap((s) => (attack.families ?? FAMILIES).map((f) => [s, f] as const));
  const chosen = short ? [forms[attack.name.length % forms.length] as (typeof forms)[number]] : forms;
  await bed.policies(attack.policies?.((name) => name) ?? STANDARD);
  await bed.forget();
  const from = bed.agent.flows.length;
  const [before, sentBefore] = [(await bed.agent.status()).drops, await sent(bed)];
  const ats: At[] = [];
  for (const [style, family] of chosen) {
    const at = new At(bed, style, family, short);
    ats.push(at);
    try {
      await attack.run(at);
    } catch (error) {
      out.broken.push(`${style} v${family}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const controls = ats.flatMap((at) => at.controls);
  const forbidden = ats.flatMap((at) => at.forbidden);
  if (controls.length === 0) out.broken.push('it has no control');
  out.broken.push(...(await missing(bed, controls)));
  await sleep(GRACE_MS);
  await judge(bed, forbidden, out);
  out.wrong = ats.flatMap((at) => at.wrongs);
  out.variants = forbidden.length;
  out.sentBytes = (await sent(bed)) - sentBefore;
  out.reasons = await reasonsSince(bed, from, before);
  for (const at of ats)
    await at.cleanUp().catch((error: unknown) => out.broken.push(`it does not clean up: ${String(error)}`));
  return out;
}

async function missing(bed: Bed, controls: readonly Control[]): Promise<string[]> {
  const end = performance.now() + CONTROL_MS;
  for (;;) {
    const found = await bed.find(controls.map((c) => c.marker));
    const lacking = controls.filter(
      (c) => !found.some((f) => f.marker === c.marker.toString('hex') && f.place === c.place),
    );
    if (lacking.length === 0) return [];
    if (performance.now() > end) return lacking.map((c) => `control "${c.variant}" did not arrive at ${c.place}`);
    await sleep(20);
  }
}

async function judge(bed: Bed, forbidden: readonly Forbidden[], out: Outcome): Promise<void> {
  const byMarker = new Map(forbidden.map((f) => [f.marker.toString('hex'), f]));
  const told = new Set<string>();
  for (const arrival of await bed.find(forbidden.map((f) => f.marker))) {
    const { variant, counts, limit } = byMarker.get(arrival.marker) as Forbidden;
    const { place, bytes, device } = arrival;
    if (!counts(arrival) || told.has(`${arrival.marker} ${place} ${device}`)) continue;
    told.add(`${arrival.marker} ${place} ${device}`);
    if (limit !== undefined) {
      out.limits[limit] = (out.limits[limit] ?? 0) + bytes;
      continue;
    }
    out.arrivedBytes += bytes;
    out.arrived.push({ variant, place, bytes, frame: arrival.frame.subarray(0, 96).toString('hex') });
  }
}

async function sent(bed: Bed): Promise<number> {
  const all = await Promise.all([...bed.actors.values()].map((a) => a.sentBytes()));
  return all.reduce((a, b) => a + b, 0);
}

async function reasonsSince(bed: Bed, from: number, before: Record<string, number>): Promise<string[]> {
  const { drops } = await bed.agent.status();
  const events = new Set(bed.agent.flows.slice(from).map((f) => (f.verdict === 'deny' ? f.reason : '')));
  const grown = Object.keys(drops).filter((reason) => (drops[reason] ?? 0) > (before[reason] ?? 0));
  return grown.sort().map((reason) => (events.has(reason) ? reason : `${reason} (counted)`));
}

/** What became of one attack on all hooks, for the table. */
export function line(outcomes: readonly Outcome[]): string {
  const sum = (of: (o: Outcome) => number) => outcomes.reduce((n, o) => n + of(o), 0);
  const reasons = [...new Set(outcomes.flatMap((o) => o.reasons))].sort().join(', ');
  const broken = sum((o) => o.broken.length);
  const limits = outcomes.flatMap((o) => Object.entries(o.limits).map(([name, bytes]) => `${bytes} by ${name}; `));
  const wrong = sum((o) => o.wrong.length);
  const [first] = outcomes;
  return [
    (first?.attack ?? '').padEnd(28),
    String(sum((o) => o.variants)).padStart(8),
    String(sum((o) => o.sentBytes)).padStart(10),
    String(sum((o) => o.arrivedBytes)).padStart(9),
    ` ${wrong ? `${wrong} WRONG; ` : ''}${broken ? `BROKEN ${broken}; ` : ''}${limits.join('')}${reasons}`,
  ].join('');
}

export const HEAD = `${'attack'.padEnd(28)}${'variants'.padStart(8)}${'sent'.padStart(10)}${'arrived'.padStart(9)} dropped as`;

export interface RunOptions {
  attacks: readonly Attack[];
  hooks: readonly Hook[];
  short: boolean;
  tell?: (line: string) => void;
}

/** All attacks on a bed for each hook; the beds stand side by side. */
export async function runAttacks(opts: RunOptions): Promise<Outcome[]> {
  const beds: Bed[] = [];
  const out: Outcome[] = [];
  try {
    for (const hook of opts.hooks) beds.push(await Bed.create(hook));
    for (const attack of opts.attacks) {
      const all = await onAll(beds, attack, opts.short);
      out.push(...all);
      opts.tell?.(line(all));
    }
  } finally {
    await Promise.all(beds.map((bed) => bed.close()));
  }
  return out;
}

async function onAll(beds: readonly Bed[], attack: Attack, short: boolean): Promise<Outcome[]> {
  if (!attack.alone) return Promise.all(beds.map((bed) => attackOn(bed, attack, short)));
  const all: Outcome[] = [];
  for (const bed of beds) all.push(await attackOn(bed, attack, short));
  return all;
}

/** What must not have been, a line each. */
export function violationsOf(outcomes: readonly Outcome[]): string[] {
  return outcomes.flatMap((o) => [
    ...o.arrived.map(
      (a) => `${o.attack} (${o.hook}): ${a.variant}: ${a.bytes} bytes arrived at ${a.place}: ${a.frame}`,
    ),
    ...o.wrong.map((w) => `${o.attack} (${o.hook}): ${w}`),
    ...o.broken.map((b) => `${o.attack} (${o.hook}) is broken: ${b}`),
  ]);
}
