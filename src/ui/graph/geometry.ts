/** Where on the drawing places are, in pixels, and how lines run. Once given, a place does not move when others come. */
import { type Column, COLUMNS, type Level, restUnit } from './levels.js';
import type { Places } from './places.js';

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

export interface Title {
  readonly column: Column;
  readonly x: number;
  /** Of its base line. */
  readonly y: number;
}

/** Where everything is. */
export interface Drawing {
  readonly boxes: ReadonlyMap<string, Box>;
  readonly titles: readonly Title[];
  /** Around the workloads of the level's namespace. */
  readonly frame?: Box;
}

/** The size of a node. */
export const WIDTH = 196;
export const HEIGHT = 44;
/** Outside, where there are many, and with long names. */
const LOW = 28;
const WIDE = 268;
const SPACE = 8;
/** Left and above of all. */
const MARGIN = { x: 28, y: 44 };
/** Between two columns. */
const GAP = { least: 120, most: 420 };
/** What stands beside others hides lines: a column is divided late, and seldom. */
const MOST_BESIDE = { inside: 2, outside: 3 };
const ROWS = 44;
const FRAME = { side: 20, top: 40, bottom: 18 };

/** Between what stands below each other, with room for a title. */
const BELOW = 52;
/** From a title's base line to the first node. */
const TITLE = 18;

/** How a column is divided: that does not change later. */
interface Shape {
  readonly beside: number;
  readonly rows: number;
  /** Of its first row. */
  readonly x: number;
  readonly y: number;
  /** What comes later goes below its end; where another column begins there, on its right. */
  readonly growsDown: boolean;
}

interface Size {
  readonly column: Column;
  readonly beside: number;
  readonly rows: number;
  readonly width: number;
  readonly height: number;
}

export class Arrangement {
  readonly #level: Level;
  readonly #viewport: { readonly width: number; readonly height: number };
  readonly #region: ReadonlyMap<string, { readonly x: number; readonly y: number }>;
  readonly #shapes = new Map<Column, Shape>();

  /**
   * @param viewport what is seen at once
   * @param region centers of the namespace's own workloads, if something else has laid them out
   */
  constructor(
    level: Level,
    viewport: { readonly width: number; readonly height: number },
    region: ReadonlyMap<string, { readonly x: number; readonly y: number }> = new Map(),
  ) {
    this.#level = level;
    this.#viewport = viewport;
    this.#region = region;
  }

  /** Where everything is now. */
  draw(places: Places): Drawing {
    const used = COLUMNS.filter((c) => places.slots(c).some((key) => key !== undefined) || places.rest.has(c));
    if (used.some((c) => !this.#shapes.has(c))) this.#divide(places, used);
    const boxes = new Map<string, Box>();
    for (const column of used) this.#drawColumn(places, column, boxes);
    const titles = used.map((column) => {
      const { x, y } = this.#shapes.get(column) as Shape;
      return { column, x, y: y - TITLE };
    });
    const frame = this.#level.kind === 'namespace' ? around(places.slots(1), boxes) : undefined;
    return { boxes, titles, ...(frame ? { frame } : {}) };
  }

  /** Of all columns, when the first node of one is there. */
  #divide(places: Places, used: readonly Column[]): void {
    const available = Math.max(300, this.#viewport.height - MARGIN.y - 20);
    const size = (column: Column): Size => {
      const count = places.slots(column).length + (places.rest.has(column) ? 1 : 0);
      if (column === 1 && this.#region.size > 0) return { column, ...this.#regionSize(count) };
      const pitch = pitchOf(column);
      const most = column === 4 ? MOST_BESIDE.outside : MOST_BESIDE.inside;
      const fits = Math.max(Math.floor(available / pitch), ROWS);
      const beside = Math.min(most, Math.ceil(count / fits));
      const rows = Math.ceil(count / beside);
      return { column, beside, rows, width: beside * (widthOf(column) + SPACE) - SPACE, height: rows * pitch - SPACE };
    };
    // No line should pass behind another column on its way: what lines lead to in the end stands below each other.
    const groups = this.#level.kind === 'cluster' ? [[0], [1], [3, 4]] : [[0], [1], [2, 3, 4]];
    const stacks = groups.map((group) => used.filter((c) => group.includes(c)));
    const sizes = stacks.filter((stack) => stack.length > 0).map((stack) => stack.map(size));
    const heights = sizes.map((stack) => stack.reduce((sum, s) => sum + s.height + BELOW, -BELOW));
    const widths = sizes.map((stack) => Math.max(...stack.map((s) => s.width)));
    const free = this.#viewport.width - 2 * MARGIN.x - widths.reduce((sum, w) => sum + w, 0);
    const gap = Math.min(GAP.most, Math.max(GAP.least, free / Math.max(1, sizes.length - 1)));
    const tallest = Math.min(available, Math.max(...heights));
    // The box around the workloads has a margin of its own.
    const top = MARGIN.y + (this.#level.kind === 'namespace' ? FRAME.top - 26 : 0);
    let x = MARGIN.x;
    for (const [n, stack] of sizes.entries()) {
      // Receivers stand low, so that what goes from sources to the outside passes above them.
      const share =
        this.#level.kind !== 'cluster' ? 0.5 : stack[0]?.column === 0 ? 0.3 : stack[0]?.column === 1 ? 1 : 0.5;
      let y = Math.round(top + Math.max(0, tallest - (heights[n] as number)) * share);
      for (const { column, beside, rows, height } of stack) {
        this.#shapes.set(column, { beside, rows, x, y, growsDown: stack.length === 1 });
        y += height + BELOW;
      }
      x += (widths[n] as number) + gap;
    }
  }

  #regionSize(count: number): Omit<Size, 'column'> {
    const all = [...this.#region.values()];
    const width = Math.max(...all.map((p) => p.x)) + WIDTH / 2;
    const height = Math.max(...all.map((p) => p.y)) + HEIGHT / 2;
    const beside = Math.max(1, Math.floor((width + SPACE) / (WIDTH + SPACE)));
    const rows = Math.ceil(Math.max(0, count - this.#region.size) / beside);
    return { beside, rows, width, height: height + rows * (HEIGHT + SPACE) };
  }

  #drawColumn(places: Places, column: Column, boxes: Map<string, Box>): void {
    const { beside, rows, x, y, growsDown } = this.#shapes.get(column) as Shape;
    const pitch = pitchOf(column);
    const [w, h] = [widthOf(column), pitch - SPACE];
    const isRegion = column === 1 && this.#region.size > 0;
    // Below a region, what has no place in it follows row by row.
    const full = isRegion ? 0 : growsDown ? beside * rows : Number.POSITIVE_INFINITY;
    const top = isRegion ? y + Math.max(...[...this.#region.values()].map((p) => p.y)) + HEIGHT / 2 + SPACE : y;
    let bottom = top;
    let n = 0;
    for (const key of places.slots(column)) {
      const fixed = key === undefined ? undefined : isRegion ? this.#region.get(key) : undefined;
      if (fixed) {
        boxes.set(key as string, { x: x + fixed.x - w / 2, y: y + fixed.y - h / 2, w, h });
        continue;
      }
      const slot = n++;
      if (key === undefined) continue;
      const at = slot < full ? Math.floor(slot / rows) : (slot - full) % beside;
      const row = slot < full ? slot % rows : (isRegion ? 0 : rows) + Math.floor((slot - full) / beside);
      boxes.set(key, { x: x + at * (w + SPACE), y: top + row * pitch, w, h });
      bottom = Math.max(bottom, top + (row + 1) * pitch);
    }
    if (places.rest.has(column)) boxes.set(restUnit(column).key, { x, y: bottom, w, h: LOW });
  }
}

function widthOf(column: Column): number {
  return column === 4 ? WIDE : WIDTH;
}

function pitchOf(column: Column): number {
  return (column === 4 ? LOW : HEIGHT) + SPACE;
}

function around(keys: readonly (string | undefined)[], boxes: ReadonlyMap<string, Box>): Box | undefined {
  const all = keys.flatMap((key) => (key === undefined ? [] : (boxes.get(key) ?? [])));
  // One alone needs no box around it.
  if (all.length < 2) return undefined;
  const x = Math.min(...all.map((b) => b.x)) - FRAME.side;
  const y = Math.min(...all.map((b) => b.y)) - FRAME.top;
  const w = Math.max(...all.map((b) => b.x + b.w)) + FRAME.side - x;
  const h = Math.max(...all.map((b) => b.y + b.h)) + FRAME.bottom - y;
  return { x, y, w, h };
}

/** The middle of a line and its SVG path. */
export interface Curve {
  readonly d: string;
  readonly x: number;
  readonly y: number;
}

/** A line between two boxes. @param shift up or down, so that lines of several verdicts lie beside each other */
export function curve(a: Box, b: Box, shift: number): Curve {
  const y1 = a.y + a.h / 2 + shift;
  const y2 = b.y + b.h / 2 + shift;
  const end = 3;
  let [x1, x2, c1, c2] = [0, 0, 0, 0];
  if (b.x >= a.x + a.w) {
    [x1, x2] = [a.x + a.w, b.x - end];
    const bend = Math.max(24, (x2 - x1) * 0.45);
    [c1, c2] = [x1 + bend, x2 - bend];
  } else if (b.x + b.w <= a.x) {
    [x1, x2] = [a.x, b.x + b.w + end];
    const bend = Math.max(24, (x1 - x2) * 0.45);
    [c1, c2] = [x1 - bend, x2 + bend];
  } else {
    [x1, x2] = [a.x + a.w, b.x + b.w + end];
    const bend = Math.min(130, 40 + Math.abs(y2 - y1) / 6);
    [c1, c2] = [Math.max(x1, x2) + bend, Math.max(x1, x2) + bend];
  }
  const r = Math.round;
  return {
    d: `M${r(x1)} ${r(y1)}C${r(c1)} ${r(y1)} ${r(c2)} ${r(y2)} ${r(x2)} ${r(y2)}`,
    x: (x1 + 3 * c1 + 3 * c2 + x2) / 8,
    y: (y1 + y2) / 2,
  };
}

/** How broad a line is: one more for each factor of ten. */
export function breadth(connections: number): number {
  return Math.round(10 * Math.min(7, 1.2 + Math.log10(Math.max(1, connections)))) / 10;
}
