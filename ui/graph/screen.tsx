/** The graph: who talks to whom, from the cluster into namespaces and workloads. */
import { effect, signal } from '@preact/signals';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { into, levelText, outOf, type Unit } from '../../src/ui/graph/levels.js';
import { VERDICTS } from '../../src/ui/graph/model.js';
import { type Arrow, stepFrom } from '../../src/ui/graph/walk.js';
import { useKeys } from '../frame/keys.js';
import { GLYPHS } from '../parts/verdict.js';
import { count } from '../parts/words.js';
import { set } from '../state/url.js';
import { goTo, isTable, select, selected, showMore } from './address.js';
import { Canvas, type LineView } from './canvas.js';
import { Head, Nothing } from './head.js';
import { type Live, useLive } from './live.js';
import { Panel } from './panel.js';
import { compact, onlyMember, portsText } from './scene.js';
import { EdgeTable } from './table.js';

/** Width of the panel. */
const PANEL = 320;
/** Pixels for a key. */
const PAN = 80;
/** What gets the focus when it is drawn: after a level was entered or left by a key. */
let wanted: string | undefined;

export function GraphScreen() {
  const live = useLive();
  const canvas = useRef<Canvas | undefined>(undefined);
  const keys = useMemo(
    () => [
      {
        keys: 't',
        about: 'graph: the same as a table',
        run: () => set({ view: isTable.peek() ? undefined : 'table' }),
      },
      { keys: '0', about: 'graph: back to where it began', run: () => canvas.current?.camera.reset() },
      { keys: '+', about: 'graph: larger', run: () => canvas.current?.camera.zoom(1.25) },
      { keys: '-', about: 'graph: smaller', run: () => canvas.current?.camera.zoom(0.8) },
      { keys: 'Escape', about: 'graph: drop the selection, then out', run: () => leave(live) },
      ...HINTS,
    ],
    [live],
  );
  useKeys(keys);
  return (
    <div class={`graph${isTable.value ? ' as-table' : ''}`}>
      <Head live={live} />
      <div class="graph-body">
        {!isTable.value && <Drawing live={live} canvas={canvas} key={levelText(live.level)} />}
        <Panel live={live} />
      </div>
      <EdgeTable live={live} />
    </div>
  );
}

/** Keys that the drawing itself hears, for the list of keys. */
const HINTS = [
  ['Arrows', 'graph: to the next node'],
  ['Enter', 'graph: into a namespace or workload'],
  ['Space', 'graph: select'],
  ['e', 'graph: along the lines of a node; arrows go to the others and to its ends'],
].map(([keys = '', about = '']) => ({ keys, about, run: () => {} }));

function leave(live: Live): void {
  if (selected.peek() !== '') {
    select('');
    return;
  }
  const outer = outOf(live.level);
  if (!outer) return;
  wanted = outer.kind === 'cluster' ? `ns/${(live.level as { namespace: string }).namespace}` : levelText(live.level);
  goTo(outer);
}

/** Into a namespace or workload; what has no inside is selected. */
function enter(live: Live, key: string): void {
  if (key === '') return;
  if (key.startsWith('rest/')) {
    showMore();
    return;
  }
  const node = live.graph.nodes.get(key);
  const next = node && into(node.unit, onlyMember(node) as Unit | undefined);
  if (!next || levelText(next) === levelText(live.level)) {
    select(key);
    return;
  }
  wanted = '';
  goTo(next);
}

const left = signal(0);

function Drawing({ live, canvas: shared }: { live: Live; canvas: { current: Canvas | undefined } }) {
  const svg = useRef<SVGSVGElement>(null);
  useEffect(() => {
    const element = svg.current as SVGSVGElement;
    const canvas = new Canvas(element, {
      select: (key) => select(key),
      enter: (key) => enter(live, key),
      point: (key) => point(key),
      label: (line) => labelOf(live, line),
    });
    shared.current = canvas;
    const walk = new Walk(live, canvas);
    let pointed = '';
    const point = (key: string) => {
      pointed = key;
      canvas.light(key === '' ? walk.focused : key, selected.peek());
    };
    let isFirst = true;
    live.show({
      // Beside the panel, so that it hides nothing when it comes.
      size: () => ({ width: shell(element) - PANEL, height: element.clientHeight }),
      center: () => selected.peek(),
      draw: (view) => {
        canvas.draw(view);
        left.value = view.more;
        walk.keep();
        if (wanted !== undefined) walk.focus(wanted);
        wanted = undefined;
        if (isFirst && view.nodes.length > 0) performance.mark('graph-drawn');
        isFirst &&= view.nodes.length === 0;
      },
    });
    const ending = new AbortController();
    const { signal } = ending;
    element.addEventListener('keydown', (event) => walk.key(event), { signal });
    // Around the drawing: SVG elements that listen to the focus get it themselves.
    const around = element.parentElement as HTMLElement;
    around.addEventListener('focusin', (event) => walk.focusIn(event), { signal });
    around.addEventListener('focusout', () => canvas.light(pointed, selected.peek()), { signal });
    const stop = effect(() => {
      canvas.light(pointed, selected.value);
      live.redraw();
    });
    return () => {
      stop();
      ending.abort();
      live.show(undefined);
      canvas.end();
      shared.current = undefined;
    };
  }, [live, shared]);
  return (
    <div class="canvas">
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is no drawing */}
      <svg ref={svg} class="drawing" role="group" aria-label="graph of connections" aria-roledescription="graph">
        <defs>
          {VERDICTS.map((seen) => (
            <marker
              key={seen}
              id={`end-${seen}`}
              class={seen}
              markerUnits="userSpaceOnUse"
              markerWidth="12"
              markerHeight="16"
              refX="8"
              refY="8"
              orient="auto"
            >
              {seen === 'denied' ? <path d="M8 2V14" class="bar" /> : <path d="M2 4.5L8 8L2 11.5" class="arrow" />}
            </marker>
          ))}
        </defs>
      </svg>
      <Nothing live={live} />
      <ul class="legend" aria-label="legend">
        {VERDICTS.map((seen) => (
          <li key={seen} class={seen}>
            <svg width="32" height="8" aria-hidden="true">
              <path d="M0 4H26" class="stroke" stroke-width={seen === 'no-policy' ? 1 : 2.5} />
              {seen === 'denied' && <path d="M27 0V8" class="bar" />}
            </svg>
            <span aria-hidden="true">{GLYPHS[seen]}</span> {seen.replace('-', ' ')}
          </li>
        ))}
      </ul>
      {left.value > 0 && (
        <p class="left-out">{count(left.value)} thin lines are not drawn: select a node to see its own</p>
      )}
      <div class="zoom">
        <button type="button" title="larger (+)" onClick={() => shared.current?.camera.zoom(1.25)}>
          +
        </button>
        <button type="button" title="smaller (-)" onClick={() => shared.current?.camera.zoom(0.8)}>
          −
        </button>
        <button type="button" title="back to where it began (0)" onClick={() => shared.current?.camera.reset()}>
          0
        </button>
      </div>
    </div>
  );
}

/** Width of the drawing with the panel. */
function shell(svg: SVGSVGElement): number {
  return svg.closest('.graph-body')?.clientWidth ?? svg.clientWidth + PANEL;
}

function labelOf(live: Live, line: LineView): string {
  const entries = live.entriesOf(line.key) ?? [];
  const sum = entries.reduce((n, { edge }) => n + edge.connections, 0);
  return `${GLYPHS[line.seen]} ${portsText(entries)} · ${compact(sum)}`;
}

/** The focus in the drawing: one stop of the Tab key, and arrow keys inside of it. */
class Walk {
  readonly #live: Live;
  readonly #canvas: Canvas;
  #at = '';
  /** The node along whose lines the focus goes. */
  #origin = '';

  constructor(live: Live, canvas: Canvas) {
    this.#live = live;
    this.#canvas = canvas;
  }

  /** Key of what has the focus; empty: it is elsewhere. */
  get focused(): string {
    return (document.activeElement as HTMLElement | SVGElement | null)?.dataset?.['key'] ?? '';
  }

  /** After a drawing: something must be the stop of the Tab key. */
  keep(): void {
    if (!this.#canvas.element(this.#at)) this.#move(this.#canvas.view.nodes[0]?.key ?? '');
  }

  /** @param key the first node if there is no such thing */
  focus(key: string): void {
    const found = this.#canvas.element(key) ? key : (this.#canvas.view.nodes[0]?.key ?? '');
    this.#canvas.element(found)?.focus({ preventScroll: true });
  }

  focusIn(event: FocusEvent): void {
    const { focused: key } = this;
    if (key === '') return;
    this.#move(key);
    const node = this.#canvas.node(key);
    if (node) this.#origin = key;
    const { x = 0, y = 0 } = this.#canvas.line(key)?.curve ?? {};
    // What was clicked is seen already. Of a line, what is said of it is to be seen.
    if ((event.target as Element).matches(':focus-visible'))
      this.#canvas.camera.show(node?.box ?? { x: x - 100, y: y - 20, w: 200, h: 40 });
    this.#canvas.light(key, selected.peek());
  }

  key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isArrow = event.key.startsWith('Arrow');
    if (isArrow && event.shiftKey) this.#pan(event.key as Arrow);
    else if (this.focused === '') return;
    else if (isArrow) this.#step(event.key as Arrow);
    else if (event.key === 'Enter') enter(this.#live, this.focused);
    else if (event.key === ' ') select(this.focused);
    else if (event.key === 'e') this.#along(0);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #pan(arrow: Arrow): void {
    const { camera } = this.#canvas;
    camera.pan(
      arrow === 'ArrowLeft' ? PAN : arrow === 'ArrowRight' ? -PAN : 0,
      arrow === 'ArrowUp' ? PAN : arrow === 'ArrowDown' ? -PAN : 0,
    );
  }

  #step(arrow: Arrow): void {
    const { focused } = this;
    const line = this.#canvas.line(focused);
    if (line && arrow === 'ArrowLeft') this.focus(line.from);
    else if (line && arrow === 'ArrowRight') this.focus(line.to);
    else if (line) this.#along(arrow === 'ArrowUp' ? -1 : 1);
    else {
      const next = stepFrom(this.#canvas.view.nodes, focused, arrow);
      if (next !== undefined) this.focus(next);
    }
  }

  /** Along the lines of the node where the focus was last, the most important first. */
  #along(step: number): void {
    const lines = this.#canvas.view.lines.filter((l) => l.from === this.#origin || l.to === this.#origin).reverse();
    const at = lines.findIndex((l) => l.key === this.focused);
    const next = lines[at < 0 ? 0 : (at + (step === 0 ? 1 : step) + lines.length) % lines.length];
    if (next) this.focus(next.key);
  }

  #move(key: string): void {
    this.#canvas.element(this.#at)?.setAttribute('tabindex', '-1');
    this.#at = key;
    this.#canvas.element(key)?.setAttribute('tabindex', '0');
  }
}
