/** Line charts over sizes, both axes logarithmic, as SVG text: no library, nothing but what is drawn. */

export interface Point {
  readonly x: number;
  readonly y: number;
  readonly min: number;
  readonly max: number;
}

export interface Series {
  readonly name: string;
  readonly points: readonly Point[];
}

export interface Chart {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  /** On what, when: below the axis. */
  readonly note: string;
  readonly series: readonly Series[];
}

const WIDTH = 820;
const HEIGHT = 460;
const LEFT = 80;
const RIGHT = 230;
const TOP = 50;
const BOTTOM = 80;
/** Told apart by those who see no red or green, too (Okabe and Ito). */
const COLOURS = ['#000000', '#888888', '#d55e00', '#e69f00', '#56b4e9', '#009e73', '#cc79a7', '#0072b2'];
const SHAPES = ['circle', 'square', 'diamond'] as const;
/** Fewer decades than this are drawn as this many: noise is not to look like a mountain. */
const LEAST_DECADES = 1;

/** The picture, whole. Values that are not above 0 have no place on a logarithmic axis and are left out. */
export function svg(chart: Chart): string {
  const series = chart.series.map(({ name, points }) => ({ name, points: points.filter((p) => p.y > 0 && p.min > 0) }));
  const all = series.flatMap((s) => s.points);
  const xs = axis(
    all.map((p) => p.x),
    LEFT,
    WIDTH - RIGHT,
  );
  const ys = axis(
    all.flatMap((p) => [p.min, p.max]),
    HEIGHT - BOTTOM,
    TOP,
  );
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<title>${escaped(chart.title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(LEFT, 24, chart.title, 'font-size="15" font-weight="bold"'),
    ...xs.ticks.flatMap(({ at, value }) => [
      line(at, TOP, at, HEIGHT - BOTTOM, '#e4e4e4'),
      text(at, HEIGHT - BOTTOM + 18, label(value), 'text-anchor="middle"'),
    ]),
    ...ys.ticks.flatMap(({ at, value }) => [
      line(LEFT, at, WIDTH - RIGHT, at, '#e4e4e4'),
      text(LEFT - 8, at + 4, label(value), 'text-anchor="end"'),
    ]),
    line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, '#333333'),
    line(LEFT, TOP, LEFT, HEIGHT - BOTTOM, '#333333'),
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 38, chart.xLabel, 'text-anchor="middle"'),
    text(
      0,
      0,
      chart.yLabel,
      `text-anchor="middle" transform="translate(18 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"`,
    ),
    text(LEFT, HEIGHT - 14, chart.note, 'font-size="10" fill="#555555"'),
    ...series.flatMap((s, i) => drawn(s, i, xs.place, ys.place)),
    '</svg>',
  ];
  return `${parts.join('\n')}\n`;
}

function drawn({ name, points }: Series, i: number, x: (v: number) => number, y: (v: number) => number): string[] {
  const colour = COLOURS[i % COLOURS.length] as string;
  const path = points.map((p) => `${round(x(p.x))},${round(y(p.y))}`).join(' ');
  const legend = TOP + 14 + i * 22;
  return [
    `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
    // From the least to the most of the repetitions.
    ...points.map((p) => line(x(p.x), y(p.min), x(p.x), y(p.max), colour)),
    ...points.map((p) => mark(x(p.x), y(p.y), i, colour)),
    mark(WIDTH - RIGHT + 22, legend - 4, i, colour),
    text(WIDTH - RIGHT + 36, legend, points.length > 0 ? name : `${name}: none`),
  ];
}

function mark(x: number, y: number, i: number, colour: string): string {
  const [cx, cy] = [round(x), round(y)];
  switch (SHAPES[i % SHAPES.length]) {
    case 'square':
      return `<rect x="${round(x - 4)}" y="${round(y - 4)}" width="8" height="8" fill="${colour}"/>`;
    case 'diamond':
      return `<rect x="${round(x - 4)}" y="${round(y - 4)}" width="8" height="8" fill="${colour}" transform="rotate(45 ${cx} ${cy})"/>`;
    default:
      return `<circle cx="${cx}" cy="${cy}" r="4.5" fill="${colour}"/>`;
  }
}

interface Axis {
  readonly place: (value: number) => number;
  readonly ticks: readonly { readonly at: number; readonly value: number }[];
}

/** Logarithmic, from one power of ten, or two or five times it, to another. */
function axis(values: readonly number[], from: number, to: number): Axis {
  const positive = values.filter((v) => v > 0);
  const steps = nice(Math.min(...positive, Number.MAX_VALUE), Math.max(...positive, Number.MIN_VALUE));
  const [lo, hi] = [Math.log10(steps[0] as number), Math.log10(steps.at(-1) as number)];
  const place = (value: number) => from + ((Math.log10(value) - lo) / (hi - lo)) * (to - from);
  // Over many decades powers of ten are enough.
  const shown = hi - lo > 3 ? steps.filter((s) => Math.abs(Math.log10(s) - Math.round(Math.log10(s))) < 1e-9) : steps;
  return { place, ticks: shown.map((value) => ({ at: place(value), value })) };
}

/** 1, 2, 5, 10, …: those between which the values lie. */
function nice(min: number, max: number): number[] {
  if (min > max) return [1, 10];
  const all: number[] = [];
  for (let e = -9; e < 15; e++) for (const m of [1, 2, 5]) all.push(Number(`${m}e${e}`));
  let lo = all.findLastIndex((s) => s <= min);
  let hi = all.findIndex((s) => s >= max);
  while (hi - lo < LEAST_DECADES * 3) {
    hi++;
    if (hi - lo < LEAST_DECADES * 3) lo--;
  }
  return all.slice(lo, hi + 1);
}

function label(value: number): string {
  return value >= 1 ? value.toLocaleString('en') : String(value);
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}"/>`;
}

function text(x: number, y: number, value: string, more = ''): string {
  return `<text x="${round(x)}" y="${round(y)}" ${more}>${escaped(value)}</text>`;
}

function round(n: number): number {
  return Math.round(n * 10) / 10;
}

function escaped(value: string): string {
  return value.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
}
