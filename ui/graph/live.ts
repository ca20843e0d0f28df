/** Keeps the graph of the address up to date with the stream, and tells when there is something new to draw. */
import { effect, type ReadonlySignal, signal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import { Arrangement, type Drawing } from '../../src/ui/graph/geometry.js';
import type { Level } from '../../src/ui/graph/levels.js';
import { type Entry, Graph } from '../../src/ui/graph/model.js';
import { Places } from '../../src/ui/graph/places.js';
import { edges, edgesHead, edgesTick } from '../state/store.js';
import { level, levelParam, mostNodes, rules, rulesText } from './address.js';
import { regionOf } from './region.js';
import { restNode, type Scene, viewOf } from './scene.js';

/** How long all edges are waited for, before those that are there are drawn. */
const PATIENCE_MS = 1500;
/** Text beside the drawing changes less often than the drawing: nobody reads faster. */
const TEXT_MS = 500;

/** New edges that are taken at once: a task of a few milliseconds. */
const MOST_NEW = 800;
const EMPTY: Scene = { nodes: [], lines: [], titles: [], more: 0, of: [], drawing: { boxes: new Map(), titles: [] } };

/** Where it is drawn. */
export interface Surface {
  readonly size: () => { readonly width: number; readonly height: number };
  readonly draw: (view: Scene) => void;
  /** A node whose lines are all drawn. */
  readonly center: () => string;
}

/** The graph of one level. */
export class Live {
  readonly level: Level;
  readonly #most: number;
  readonly #began = performance.now();
  readonly #tick = signal(0);
  graph: Graph;
  #places: Places;
  #arrangement: Arrangement | undefined;
  #drawing: Drawing | undefined;
  #isProvisional = false;
  #isAsking = false;
  #surface: Surface | undefined;
  #told = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #patience: ReturnType<typeof setTimeout> | undefined;
  #next: ReturnType<typeof setTimeout> | undefined;
  /** The last view that was drawn. */
  view: Scene | undefined;

  constructor() {
    this.level = level.peek();
    this.#most = mostNodes.peek();
    this.graph = new Graph(rules());
    this.#places = new Places(this.level, this.#most);
  }

  /** Another number: what is beside the drawing is to be shown anew. */
  get tick(): ReadonlySignal<number> {
    return this.#tick;
  }

  get places(): Places {
    return this.#places;
  }

  /** Other edges are to be drawn; places are kept. */
  filter(): void {
    this.graph = new Graph(rules());
    this.update();
    this.#tell(true);
  }

  show(surface: Surface | undefined): void {
    this.#surface = surface;
    if (surface) this.update();
  }

  end(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#patience);
    clearTimeout(this.#next);
    this.#surface = undefined;
  }

  /** Takes what there is now, and draws it. */
  update(): void {
    const isWhole = edgesHead.peek().caughtUp;
    const waited = performance.now() - this.#began;
    if (!isWhole && waited < PATIENCE_MS) {
      // What is there can be taken already, if nothing is drawn that it would replace.
      if (!this.view) this.graph.update(edges, MOST_NEW);
      this.#patience ??= setTimeout(() => this.update(), PATIENCE_MS - waited + 1);
      return;
    }
    if (!this.graph.update(edges, MOST_NEW)) {
      clearTimeout(this.#next);
      this.#next = setTimeout(() => this.update());
      return;
    }
    this.#draw(isWhole);
    this.#tell(false);
  }

  /** Draws what is there once more: something else is pointed at. */
  redraw(): void {
    this.#draw(!this.#isProvisional);
  }

  #draw(isWhole: boolean): void {
    const surface = this.#surface;
    if (!surface) return;
    if (isWhole && this.#isProvisional) {
      this.#places = new Places(this.level, this.#most);
      this.#arrangement = this.#drawing = undefined;
    }
    this.#isProvisional = !isWhole;
    const changed = this.#places.update(this.graph);
    if (!this.#arrangement) {
      // An empty drawing has no places that could be kept.
      if (this.graph.nodes.size === 0) {
        if (this.view) surface.draw((this.view = EMPTY));
        return;
      }
      if (this.level.kind === 'namespace') {
        void this.#ask(surface);
        return;
      }
      this.#arrangement = new Arrangement(this.level, surface.size());
    }
    if (changed || !this.#drawing) this.#drawing = this.#arrangement.draw(this.#places);
    this.view = viewOf(this.graph, this.#places, this.#drawing, surface.center(), this.view);
    surface.draw(this.view);
  }

  async #ask(surface: Surface): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    const region = await regionOf(this.graph, this.#places).catch((e: unknown) => {
      console.warn('the layout of the namespace failed:', e);
      return undefined;
    });
    this.#isAsking = false;
    this.#arrangement = new Arrangement(this.level, surface.size(), region);
    this.#draw(!this.#isProvisional);
    this.#tell(true);
  }

  #tell(isNow: boolean): void {
    // What is drawn first takes the place of what is said meanwhile. Later on the text has a task of its own, after the
    // frame: together they would take too long.
    if (!isNow && this.#told > 0) {
      this.#timer ??= setTimeout(() => this.#tell(true), Math.max(0, this.#told + TEXT_MS - performance.now()));
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#told = performance.now();
    this.#tick.value++;
  }

  /** The edges of a node or line; of all without a key. @returns undefined: there is no such thing now */
  entriesOf(key: string): Entry[] | undefined {
    const all = [...this.graph.entries()];
    if (key === '') return all;
    if (this.graph.nodes.has(key)) return all.filter((e) => e.from.unit.key === key || e.to.unit.key === key);
    if (this.graph.links.has(key)) return all.filter((e) => e.link.key === key);
    const as = (node: Entry['from']) => this.#places.drawnAs(node.unit.key);
    if (restNode(key, this.#places)) return all.filter((e) => as(e.from) === key || as(e.to) === key);
    const line = this.view?.lines.find((l) => l.key === key);
    if (!line) return undefined;
    return all.filter((e) => e.seen === line.seen && as(e.from) === line.from && as(e.to) === line.to);
  }
}

/** The graph of the address, while the screen is shown. */
export function useLive(): Live {
  const [at, most] = [levelParam.value, mostNodes.value];
  const live = useMemo(() => new Live(), [at, most]);
  useEffect(() => {
    let text = rulesText.peek();
    const stops = [
      effect(() => {
        edgesTick.value;
        live.update();
      }),
      effect(() => {
        const now = rulesText.value;
        if (now === text || levelParam.value !== at) return;
        text = now;
        live.filter();
      }),
    ];
    return () => {
      for (const stop of stops) stop();
      live.end();
    };
  }, [live, at]);
  return live;
}
