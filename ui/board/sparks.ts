/** When the rules of each policy decided something, as far as the edges that the page has show it. */
import { computed, signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { edges, edgesTick } from '../state/store.js';
import { window_ } from '../state/url.js';

/** Edges are looked through at most so often, milliseconds: there may be 20,000. */
const PAUSE_MS = 3000;

export interface PolicySpark {
  /** As an edge has them. */
  bits: number;
  /** Edges in each day or hour. */
  readonly values: number[];
}

/** Hours of the day in short windows, days in long ones. */
export const sparkOf = computed<'hours' | 'days'>(() =>
  window_.value === 'live' || window_.value === '24h' ? 'hours' : 'days',
);
export const sparkSpan = computed(() => (sparkOf.value === 'hours' ? 24 : window_.value === '7d' ? 7 : 35));

/** By the policy's id. */
export const sparks = signal<ReadonlyMap<string, PolicySpark>>(new Map());

/** Keeps `sparks` fresh while the component is shown. */
export function useSparks(): void {
  const of = sparkOf.value;
  useEffect(() => {
    let [tick, at] = [-1, 0];
    const look = () => {
      if (edgesTick.peek() === tick || document.hidden || Date.now() - at < PAUSE_MS) return;
      tick = edgesTick.peek();
      if (edges.size === 0) return;
      at = Date.now();
      sparks.value = count(of, sparkSpan.peek());
    };
    const timer = setInterval(look, 500);
    look();
    return () => clearInterval(timer);
  }, [of]);
}

function count(of: 'hours' | 'days', span: number): Map<string, PolicySpark> {
  const found = new Map<string, PolicySpark>();
  for (const { info, hours, days } of edges.values()) {
    const bits = of === 'hours' ? hours : days;
    for (const rule of [info.rule, info.auditRule?.staged ? info.auditRule : undefined]) {
      if (!rule) continue;
      const hash = rule.text.indexOf('#');
      const id = hash < 0 ? rule.text : rule.text.slice(0, hash);
      let spark = found.get(id);
      if (!spark) found.set(id, (spark = { bits: 0, values: new Array<number>(span).fill(0) }));
      let rest = bits;
      for (let n = 0; n < span && rest > 0; n++) {
        if (rest % 2 === 1) {
          const before = spark.values[n] ?? 0;
          if (before === 0) spark.bits += 2 ** n;
          spark.values[n] = before + 1;
        }
        rest = Math.floor(rest / 2);
      }
    }
  }
  return found;
}
