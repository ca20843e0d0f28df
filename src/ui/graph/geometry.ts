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
const GAP = { least: 150, most: 420 };
const MOST_BESIDE = 3;
const FRAME = { side: 20, top: 40, bottom: 18 };

/** How a column is divided: that does not change later, so it grows at its end alone. */
interface Shape {
  readonly beside: number;
  readonly rows: number;
  /** Of its first row. */
  readonly y: number;
}

export class Arrangement {
  readonly #level: Level;
  readonly #viewport: { readonly width: number; readonly height: number };
  readonly #region: ReadonlyMap<string, { readonly x: number; readonly y: number }>;
  readonly #shapes = new Map<Column, Shape>();
  readonly #left = new Map<Column, number>();

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
    if (used.some((c) => !this.#left.has(c))) this.#divide(places, used);
    const boxes = new Map<string, Box>();
    for (const column of used) this.#drawColumn(places, column, boxes);
    const titles = used.map((column) => ({ column, x: this.#left.get(column) as number }));
    const frame = this.#level.kind === 'namespace' ? around(places.slots(1), boxes) : undefined;
    return { boxes, titles, ...(frame ? { frame } : {}) };
  }

  /** Of all columns, when the first node of one is there. */
  #divide(places: Places, used: readonly Column[]): void {
    const available = Math.max(300, this.#viewport.height - MARGIN.y - 20);
    const sizes = used.map((column) => {
      const count = places.slots(column).length + (places.rest.has(column) ? 1 : 0);
      if (column === 1 && this.#region.size > 0) return { column, ...this.#regionSize(count) };
      const pitch = pitchOf(column);
      const beside = Math.min(MOST_BESIDE, Math.ceil((count * pitch) / available));
      const rows = Math.ceil(count / beside);
      return { column, beside, rows, width: beside * (widthOf(column) + SPACE) - SPACE, height: rows * pitch - SPACE };
    });
    const tallest = Math.max(...sizes.map((s) => s.height));
    const widths = sizes.reduce((sum, s) => sum + s.width, 0);
    const free = (this.#viewport.width - 2 * MARGIN.x - widths) / Math.max(1, sizes.length - 1);
    const gap = Math.min(GAP.most, Math.max(GAP.least, free));
    let x = MARGIN.x;
    for (const { column, beside, rows, width, height } of sizes) {
      this.#left.set(column, x);
      const y = MARGIN.y + Math.max(0, (Math.min(tallest, available) - height) / 2);
      this.#shapes.set(column, { beside, rows, y });
      x += width + gap;
    }
  }

  #regionSize(count: number): { beside: number; rows: number; width: number; height: number } {
    const all = [...this.#region.values()];
    const width = Math.max(...all.map((p) => p.x)) + WIDTH / 2;
    const height = Math.max(...all.map((p) => p.y)) + HEIGHT / 2;
    const beside = Math.max(1, Math.floor((width + SPACE) / (WIDTH + SPACE)));
    const rows = Math.ceil(Math.max(0, count - this.#region.size) / beside);
    return { beside, rows, width, height: height + rows * (HEIGHT + SPACE) };
  }

  #drawColumn(places: Places, column: Column, boxes: Map<string, Box>): void {
    const left = this.#left.get(column) as number;
    const { beside, rows, y } = this.#shapes.get(column) as Shape;
    const pitch = pitchOf(column);
    const h = pitch - SPACE;
    const w = widthOf(column);
    const isRegion = column === 1 && this.#region.size > 0;
    let top = y;
    let n = 0;
    if (isRegion) top += Math.max(...[...this.#region.values()].map((p) => p.y)) + HEIGHT / 2 + SPACE;
    let bottom = top;
    const put = (key: string, slot: number) => {
      // In a region what has no place of its own follows row by row.
      const full = isRegion ? 0 : beside * rows;
      const [at, row] =
        slot < full
          ? [Math.floor(slot / rows), slot % rows]
          : [(slot - full) % beside, (isRegion ? 0 : rows) + Math.floor((slot - full) / beside)];
      boxes.set(key, { x: left + at * (w + SPACE), y: top + row * pitch, w, h });
      bottom = Math.max(bottom, top + (row + 1) * pitch);
    };
    for (const key of places.slots(column)) {
      const fixed = key === undefined ? undefined : isRegion ? this.#region.get(key) : undefined;
      if (fixed) boxes.set(key as string, { x: left + fixed.x - w / 2, y: y + fixed.y - h / 2, w, h });
      else if (key !== undefined) put(key, n++);
      else n++;
    }
    if (places.rest.has(column)) boxes.set(restUnit(column).key, { x: left, y: bottom, w, h: LOW });
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
