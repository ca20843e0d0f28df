/**
 * Draws the graph. Elements are kept by the key of what they show, and only attributes that have changed are written:
 * a diff of everything would take too long for hundreds of lines that change each second.
 */
import type { Box, Curve } from '../../src/ui/graph/geometry.js';
import type { Seen } from '../../src/ui/graph/model.js';
import { Camera } from './camera.js';
import { cut, make, put } from './svg.js';

export interface NodeView {
  readonly key: string;
  readonly box: Box;
  /** For its look: namespace, workload, name … */
  readonly kind: string;
  readonly title: string;
  /** On the right of the title. */
  readonly note: string;
  /** Verdicts with their counts, the first of them the most important. */
  readonly counts: readonly { readonly seen: Seen; readonly text: string }[];
  /** Its whole name with what it is, and its counts in words. */
  readonly spoken: string;
  readonly about: string;
}

export interface LineView {
  readonly key: string;
  readonly from: string;
  readonly to: string;
  readonly seen: Seen;
  readonly curve: Curve;
  readonly breadth: number;
  readonly spoken: string;
}

export interface View {
  readonly nodes: readonly NodeView[];
  /** The most important last. */
  readonly lines: readonly LineView[];
  readonly titles: readonly { readonly x: number; readonly y: number; readonly text: string }[];
  readonly frame?: { readonly box: Box; readonly title: string; readonly counts: NodeView['counts'] };
}

/** From so many lines on they are drawn faintly until something is pointed at. */
const DENSE = 90;
/** What is new is drawn for so many milliseconds a frame, and at least so many elements. */
const SLICE_MS = 10;
const MOST_BEHIND = 30;

interface Drawn {
  readonly g: SVGGElement;
  readonly parts: Record<string, SVGElement>;
}

/** What happens to a node or line. */
export interface Events {
  readonly select: (key: string) => void;
  readonly enter: (key: string) => void;
  /** Empty: nothing is pointed at. */
  readonly point: (key: string) => void;
  /** What is said of a line at its middle. */
  readonly label: (line: LineView) => string;
}

export class Canvas {
  readonly camera: Camera;
  readonly #frame = make('g', { class: 'frame-box' });
  readonly #titles = make('g', { class: 'titles', 'aria-hidden': 'true' });
  readonly #lines = make('g', { class: 'lines' });
  readonly #nodes = make('g', { class: 'nodes' });
  readonly #tip = make('g', { class: 'tip', 'aria-hidden': 'true' });
  readonly #svg: SVGSVGElement;
  readonly #events: Events;
  readonly #drawn = new Map<string, Drawn>();
  readonly #ending = new AbortController();
  #view: View = { nodes: [], lines: [], titles: [] };
  #lineOf = new Map<string, LineView>();
  #nodeOf = new Map<string, NodeView>();
  #pointed = '';
  #selected = '';
  #titleText = '';
  #center = '';
  #isBehind = false;
  #frameId = 0;

  constructor(svg: SVGSVGElement, events: Events) {
    this.#svg = svg;
    this.#events = events;
    const scene = make('g', { class: 'scene' });
    scene.append(this.#frame, this.#titles, this.#lines, this.#nodes, this.#tip);
    svg.append(scene);
    const { signal } = this.#ending;
    this.camera = new Camera(svg, scene, signal);
    const keyOf = (event: Event) => (event.target as Element).closest<SVGGElement>('[data-key]')?.dataset['key'] ?? '';
    const on = (name: string, run: (key: string) => void) =>
      svg.addEventListener(name, (event) => run(keyOf(event)), { signal });
    on('click', (key) => {
      if (!this.camera.dragged) events.select(key);
    });
    on('dblclick', (key) => events.enter(key));
    on('pointerover', (key) => events.point(key));
    svg.addEventListener('pointerleave', () => events.point(''), { signal });
  }

  end(): void {
    this.#ending.abort();
    cancelAnimationFrame(this.#frameId);
    for (const child of [...this.#svg.querySelectorAll(':scope > .scene')]) child.remove();
  }

  get view(): View {
    return this.#view;
  }

  node(key: string): NodeView | undefined {
    return this.#nodeOf.get(key);
  }

  line(key: string): LineView | undefined {
    return this.#lineOf.get(key);
  }

  element(key: string): SVGGElement | undefined {
    return this.#drawn.get(key)?.g;
  }

  /** Draws, and goes on in the next frames if there is much that is new. */
  draw(view: View): void {
    const isSame = view.lines === this.#view.lines && !this.#isBehind;
    this.#view = view;
    this.#nodeOf = new Map(view.nodes.map((n) => [n.key, n]));
    if (!isSame) this.#lineOf = new Map(view.lines.map((l) => [l.key, l]));
    for (const [key, { g }] of this.#drawn) {
      if (this.#nodeOf.has(key) || this.#lineOf.has(key)) continue;
      g.remove();
      this.#drawn.delete(key);
    }
    this.#drawTitles(view);
    this.#drawFrame(view.frame);
    this.#isBehind = !this.#drawAll(view, isSame);
    if (this.#isBehind) {
      cancelAnimationFrame(this.#frameId);
      this.#frameId = requestAnimationFrame(() => this.draw(this.#view));
    }
    if (isSame) this.#drawTip(this.#lineOf.get(this.#center));
    else this.light(this.#pointed, this.#selected);
  }

  /** @returns whether all was drawn in time */
  #drawAll({ nodes, lines }: View, isSame: boolean): boolean {
    const end = performance.now() + SLICE_MS;
    let left = MOST_BEHIND;
    const isLate = (key: string) => !this.#drawn.has(key) && --left < 0 && performance.now() > end;
    for (const node of nodes) {
      if (isLate(node.key)) return false;
      this.#drawNode(node);
    }
    let before: SVGGElement | null = null;
    for (const line of lines) {
      if (isLate(line.key)) return false;
      const g = this.#drawLine(line);
      if (isSame) continue;
      // Order is what lies on top; lines seldom change theirs.
      const wanted: Element | null = before === null ? this.#lines.firstElementChild : before.nextElementSibling;
      if (wanted !== g) this.#lines.insertBefore(g, wanted);
      before = g;
    }
    return true;
  }

  /** Shows the lines and neighbors of what is pointed at or selected, and lets all else step back. */
  light(pointed: string, selected: string): void {
    this.#pointed = pointed;
    this.#selected = selected;
    const center = this.#drawn.has(pointed) ? pointed : this.#drawn.has(selected) ? selected : '';
    this.#center = center;
    const lit = new Set<string>(center === '' ? [] : [center]);
    if (center !== '')
      for (const { key, from, to } of this.#view.lines)
        if (key === center || from === center || to === center) for (const one of [key, from, to]) lit.add(one);
    const isDense = this.#view.lines.length > DENSE;
    put(this.#svg, 'class', `drawing${isDense ? ' dense' : ''}${center === '' ? '' : ' lit'}`);
    for (const [key, { g, parts }] of this.#drawn) {
      const base = parts['path'] ? `line ${this.#lineOf.get(key)?.seen}` : `node ${this.#nodeOf.get(key)?.kind}`;
      put(g, 'class', `${base}${lit.has(key) ? ' on' : ''}${key === selected ? ' selected' : ''}`);
      put(g, 'aria-pressed', String(key === selected));
    }
    this.#drawTip(this.#lineOf.get(center));
  }

  #drawNode({ key, box, title, note, counts, spoken, about }: NodeView): void {
    let drawn = this.#drawn.get(key);
    if (!drawn) {
      const g = make('g', { role: 'button', tabindex: '-1', 'data-key': key });
      const parts = {
        back: make('rect', { class: 'back', rx: '7' }),
        title: make('text', { class: 'name' }),
        note: make('text', { class: 'note', 'text-anchor': 'end' }),
        counts: make('text', { class: 'counts', 'aria-hidden': 'true' }),
        hint: make('title', {}),
      };
      g.append(parts.hint, parts.back, parts.title, parts.note, parts.counts);
      this.#nodes.append(g);
      this.#drawn.set(key, (drawn = { g, parts }));
    }
    const { g, parts } = drawn as Drawn & { parts: Record<'back' | 'title' | 'note' | 'counts' | 'hint', SVGElement> };
    const isLow = box.h < 40;
    put(g, 'transform', `translate(${box.x} ${box.y})`);
    put(g, 'aria-description', about);
    put(parts.back, 'width', box.w);
    put(parts.back, 'height', box.h);
    put(parts.title, 'x', 11);
    put(parts.title, 'y', isLow ? 18.5 : 18);
    put(parts.note, 'x', box.w - 11);
    put(parts.note, 'y', 18);
    const text = counts.map((c) => `${c.seen} ${c.text}`).join();
    if (parts.counts.dataset['text'] !== text) {
      parts.counts.dataset['text'] = text;
      putCounts(parts.counts, counts);
    }
    put(parts.counts, 'x', isLow ? box.w - 11 : 11);
    put(parts.counts, 'y', isLow ? 18.5 : 35);
    put(parts.counts, 'text-anchor', isLow ? 'end' : 'start');
    const beside = isLow ? counts.reduce((sum, c) => sum + 6.6 * c.text.length + 9, 8) : 7 * note.length + 8;
    const room = box.w - 22;
    // The name is more important than what it is a name of.
    const hasNote = !isLow && note !== '' && cut(title, room - beside) === title;
    put(parts.note, 'text', hasNote ? note : '');
    put(parts.title, 'text', cut(title, isLow || hasNote ? room - beside : room));
    put(parts.hint, 'text', spoken);
  }

  #drawLine({ key, curve, breadth, seen, spoken }: LineView): SVGGElement {
    let drawn = this.#drawn.get(key);
    if (!drawn) {
      const g = make('g', { role: 'button', tabindex: '-1', 'data-key': key });
      const parts = { hit: make('path', { class: 'hit' }), path: make('path', { class: 'stroke' }) };
      g.append(parts.hit, parts.path);
      this.#drawn.set(key, (drawn = { g, parts }));
    }
    const { hit, path } = drawn.parts as { hit: SVGElement; path: SVGElement };
    put(drawn.g, 'aria-label', spoken);
    put(hit, 'd', curve.d);
    put(path, 'd', curve.d);
    put(path, 'stroke-width', breadth);
    put(path, 'marker-end', `url(#end-${seen})`);
    return drawn.g;
  }

  #drawTip(line: LineView | undefined): void {
    put(this.#tip, 'class', `tip${line ? ` shown ${line.seen}` : ''}`);
    if (!line) return;
    if (!this.#tip.firstElementChild)
      this.#tip.append(make('rect', { rx: '5', height: '24' }), make('text', { y: '16', class: 'said' }));
    const [back, text] = [...this.#tip.children] as [SVGElement, SVGTextElement];
    put(text, 'text', this.#events.label(line));
    const width = text.getComputedTextLength() + 18;
    put(back, 'width', Math.round(width));
    put(text, 'x', 9);
    put(this.#tip, 'transform', `translate(${Math.round(line.curve.x - width / 2)} ${Math.round(line.curve.y - 12)})`);
  }

  #drawTitles({ titles }: View): void {
    const text = JSON.stringify(titles);
    if (text === this.#titleText) return;
    this.#titleText = text;
    this.#titles.replaceChildren(
      ...titles.map(({ x, y, text }) => {
        const title = make('text', { x: String(x), y: String(y) });
        title.textContent = text;
        return title;
      }),
    );
  }

  #drawFrame(frame: View['frame']): void {
    if (!frame) {
      this.#frame.replaceChildren();
      return;
    }
    if (!this.#frame.firstElementChild)
      this.#frame.append(
        make('rect', { rx: '12' }),
        make('text', { class: 'name' }),
        make('text', { class: 'counts' }),
      );
    const [back, title, counts] = [...this.#frame.children] as [SVGElement, SVGElement, SVGElement];
    const { x, y, w, h } = frame.box;
    for (const [name, value] of Object.entries({ x, y, width: w, height: h })) put(back, name, value);
    put(title, 'x', x + 18);
    put(title, 'y', y + 25);
    put(title, 'text', cut(frame.title, w / 2));
    put(counts, 'x', x + w - 18);
    put(counts, 'y', y + 25);
    put(counts, 'text-anchor', 'end');
    const text = frame.counts.map((c) => `${c.seen} ${c.text}`).join();
    if (counts.dataset['text'] === text) return;
    counts.dataset['text'] = text;
    putCounts(counts, frame.counts);
  }
}

/** Numbers change each second, verdicts seldom: then the elements are used again. */
function putCounts(element: SVGElement, counts: NodeView['counts']): void {
  const spans = [...element.children];
  if (spans.length === counts.length && counts.every(({ seen }, n) => spans[n]?.classList.contains(seen)))
    for (const [n, { text }] of counts.entries()) put(spans[n] as Element, 'text', text);
  else element.replaceChildren(...counts.map(({ seen, text }, n) => countSpan(seen, text, n > 0)));
}

function countSpan(seen: Seen, text: string, isNext: boolean): SVGElement {
  const span = make('tspan', { class: seen, ...(isNext ? { dx: '9' } : {}) });
  put(span, 'text', text);
  return span;
}
