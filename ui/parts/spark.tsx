/** When something was seen, as small bars. */
import { count } from './words.js';

interface SparkProps {
  /** `days`: bit n is n days ago, today at the right. `hours`: bit n is the hour n of the day, in UTC. */
  readonly of: 'days' | 'hours';
  /** The bitmap of an edge. Days have more bits than a number's integer operators take. */
  readonly bits: number;
  /** As many numbers as there are days or hours, in the order of the bits: the heights. */
  readonly values?: readonly number[];
  /** Days that are of interest; the default is all 35. */
  readonly span?: number;
  /** The class of a verdict colors it. */
  readonly class?: string;
}

const ALL = { days: 35, hours: 24 } as const;
const [WIDTH, GAP, HEIGHT] = [3, 1, 16];

/** Whether a bit is set, of up to 53. */
export function hasBit(bits: number, n: number): boolean {
  return Math.floor(bits / 2 ** n) % 2 === 1;
}

/** What the bars say: `on 12 of 35 days, last today`. */
export function sparkText({ of, bits, span = ALL[of] }: Pick<SparkProps, 'of' | 'bits' | 'span'>): string {
  const set = Array.from({ length: span }, (_, n) => n).filter((n) => hasBit(bits, n));
  if (of === 'hours') return set.length === 0 ? 'at no hour of the day' : `at ${set.length} of 24 hours of the day`;
  const [last] = set;
  if (last === undefined) return `on none of ${span} days`;
  const when = last === 0 ? 'today' : last === 1 ? 'yesterday' : `${last} days ago`;
  return `on ${set.length} of ${span} days, last ${when}`;
}

export function Spark({ of, bits, values, span = ALL[of], class: extra = '' }: SparkProps) {
  const text = sparkText({ of, bits, span });
  const most = Math.max(1, ...(values ?? []));
  const width = span * (WIDTH + GAP) - GAP;
  const bars = Array.from({ length: span }, (_, n) => {
    const isSet = hasBit(bits, n);
    const value = values?.[n] ?? 0;
    // The logarithm: one connection is to be seen beside a million.
    const share = values ? Math.log1p(value) / Math.log1p(most) : 1;
    const height = isSet ? Math.max(3, Math.round(share * HEIGHT)) : 1;
    const x = (of === 'days' ? span - 1 - n : n) * (WIDTH + GAP);
    const about = values ? `${text}; most ${count(most)}` : text;
    return { n, x, height, isSet, about };
  });
  return (
    <svg class={`spark ${extra}`} width={width} height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} role="img">
      <title>{bars[0]?.about ?? text}</title>
      {bars.map(({ n, x, height, isSet }) => (
        <rect
          key={n}
          class={isSet ? 'on' : 'off'}
          x={x}
          y={HEIGHT - height}
          width={WIDTH}
          height={height}
          rx={isSet ? 1 : 0}
        />
      ))}
    </svg>
  );
}
