/** What the drawing says: names, counts, words for those who do not see it. */
import { type Column, isOwnUnit, type Level, type Unit } from '../../src/ui/graph/levels.js';
import { breadth, curve, type Drawing } from '../../src/ui/graph/geometry.js';
import { type Entry, type Graph, type GraphNode, type Seen, VERDICTS } from '../../src/ui/graph/model.js';
import type { Line, Places } from '../../src/ui/graph/places.js';
import { GLYPHS, WORDS } from '../parts/verdict.js';
import { count, portText, shown } from '../parts/words.js';
import type { LineView, NodeView, View } from './canvas.js';

/** 1,204 → `1.2k` */
export function compact(n: number): string {
  for (const [size, unit] of [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (n < size * 0.9995) continue;
    const value = n / size;
    return `${value >= 99.95 ? Math.round(value) : value.toFixed(1).replace('.0', '')}${unit}`;
  }
  return String(n);
}

export function plural(n: number, one: string): string {
  return `${count(n)} ${one}${n === 1 ? '' : 's'}`;
}

/** The only workload that was seen of a namespace. */
export function onlyMember({ unit, members }: GraphNode): Unit | undefined {
  if (unit.kind !== 'namespace' || members.size !== 1) return undefined;
  const [member] = members.values();
  return member?.unit;
}

export function unitTitle(unit: Unit, level?: Level): string {
  switch (unit.kind) {
    case 'workload':
    case 'service':
      return shown(level && isOwnUnit(level, unit) ? unit.name : `${unit.namespace}/${unit.name}`);
    case 'other':
      return 'other';
    default:
      return shown(unit.name);
  }
}

function noteOf({ unit, members }: GraphNode): string {
  switch (unit.kind) {
    case 'namespace':
      return plural(members.size, 'workload');
    case 'nodes':
      return plural(members.size, 'node');
    case 'workload':
      return shown(unit.workloadKind, 14);
    case 'service':
      return 'Service';
    case 'node':
      return 'node';
    default:
      return '';
  }
}

/** @param most verdicts that are named */
export function countsOf(connections: Readonly<Record<Seen, number>>, most = 9): NodeView['counts'] {
  return VERDICTS.filter((seen) => connections[seen] > 0)
    .slice(0, most)
    .map((seen) => ({ seen, text: `${GLYPHS[seen]} ${compact(connections[seen])}` }));
}

function spokenCounts(connections: Readonly<Record<Seen, number>>): string {
  const parts = VERDICTS.filter((seen) => connections[seen] > 0).map((s) => `${count(connections[s])} ${WORDS[s]}`);
  return parts.length === 0 ? 'no connections' : parts.join(', ');
}

export function columnTitle(level: Level, column: Column): string {
  if (column >= 3) return column === 3 ? 'Platform' : 'Outside';
  if (level.kind === 'cluster') return column === 0 ? 'Sources' : 'Receivers';
  return ['Connect to it', level.kind === 'namespace' ? 'Workloads' : 'Workload', 'It connects to'][column] as string;
}

/** A view, and what it was made of. */
export interface Scene extends View {
  readonly lines: readonly SceneLine[];
  /** Lines that are not drawn. */
  readonly more: number;
  readonly of: readonly Line[];
  readonly drawing: Drawing;
}

interface SceneLine extends LineView {
  readonly of: Line;
  breadth: number;
}

/** Everything, as it is drawn now. @param before the last one, whose lines are used again if they are the same */
export function viewOf(graph: Graph, places: Places, drawing: Drawing, always: string, before?: Scene): Scene {
  const { level } = graph;
  const nodes: NodeView[] = [];
  const titles = new Map<string, string>();
  for (const [key, box] of drawing.boxes) {
    const node = graph.nodes.get(key) ?? restNode(key, places);
    if (!node) continue;
    const only = onlyMember(node);
    const unit = only ?? node.unit;
    const isRest = unit.kind === 'rest';
    const title = isRest ? `+${count(node.members.size)} more` : unitTitle(unit, level);
    const note = only ? noteOf({ ...node, unit: only }) : noteOf(node);
    titles.set(key, title);
    nodes.push({
      key,
      box,
      title,
      note,
      kind: unit.kind,
      counts: countsOf(node.connections, box.h < 40 ? 2 : 4),
      spoken: `${isRest || unit.kind === 'nodes' ? '' : `${unit.kind} `}${title}${note === '' || only ? '' : `, ${note}`}`,
      about: spokenCounts(node.connections),
    });
  }
  // Tab and arrow keys go from left to right.
  nodes.sort((a, b) => a.box.x - b.box.x || a.box.y - b.box.y);
  const { lines, more } = places.lines(graph, always);
  const isSame = before && before.of === lines && before.drawing === drawing;
  const drawn = isSame ? before.lines : linesOf(lines, drawing, titles);
  for (const line of isSame ? drawn : []) line.breadth = breadthOf(line.of);
  const isNamespace = level.kind === 'namespace' && drawing.frame;
  return {
    nodes,
    lines: drawn,
    more,
    of: lines,
    drawing,
    // The box around the workloads has the name of the namespace.
    titles: drawing.titles
      .filter(({ column }) => column !== 1 || !drawing.frame)
      .map(({ column, x, y }) => ({ x, y, text: columnTitle(level, column) })),
    ...(isNamespace && drawing.frame
      ? { frame: { box: drawing.frame, title: shown(level.namespace), counts: [] } }
      : {}),
  };
}

function breadthOf(line: Line): number {
  return line.seen === 'no-policy' ? 1 : breadth(line.connections);
}

function linesOf(lines: readonly Line[], drawing: Drawing, titles: ReadonlyMap<string, string>): SceneLine[] {
  const shifts = shiftsOf(lines);
  return lines.flatMap((line): SceneLine[] => {
    const { key, from, to, seen } = line;
    const [a, b] = [drawing.boxes.get(from), drawing.boxes.get(to)];
    if (!a || !b) return [];
    const spoken = `${titles.get(from)} → ${titles.get(to)}, ${WORDS[seen]}`;
    return [
      { key, from, to, seen, curve: curve(a, b, shifts.get(key) ?? 0), breadth: breadthOf(line), spoken, of: line },
    ];
  });
}

/** Lines of several verdicts between the same two lie beside each other. */
function shiftsOf(lines: readonly Line[]): Map<string, number> {
  const pairs = new Map<string, Line[]>();
  for (const line of lines) {
    // Both directions are one pair.
    const pair = line.from < line.to ? `${line.from}|${line.to}` : `${line.to}|${line.from}`;
    const list = pairs.get(pair);
    if (list) list.push(line);
    else pairs.set(pair, [line]);
  }
  const shifts = new Map<string, number>();
  for (const list of pairs.values()) {
    if (list.length === 1) continue;
    list.sort((a, b) => VERDICTS.indexOf(a.seen) - VERDICTS.indexOf(b.seen) || (a.key < b.key ? -1 : 1));
    const apart = Math.min(7, 20 / list.length);
    list.forEach(({ key }, n) => shifts.set(key, (n - (list.length - 1) / 2) * apart));
  }
  return shifts;
}

/** What stands for the nodes of a column that have no room. */
export function restNode(key: string, places: Places): GraphNode | undefined {
  const column = Number(key.slice('rest/'.length)) as Column;
  const list = key.startsWith('rest/') ? places.rest.get(column) : undefined;
  if (!list) return undefined;
  const connections = { denied: 0, 'would-deny': 0, partial: 0, allowed: 0, 'no-policy': 0 };
  let edges = 0;
  for (const node of list) {
    for (const seen of VERDICTS) connections[seen] += node.connections[seen];
    edges += node.edges;
  }
  const unit: Unit = { key, kind: 'rest', namespace: '', workloadKind: '', name: '' };
  const members = new Map(list.map((node) => [node.unit.key, { unit: node.unit, edges: node.edges }]));
  return { unit, members, connections, total: 0, edges, sends: 0, receives: 0 };
}

/** Ports of some edges, the most used first: `443/tcp, 80/tcp, +3`. */
export function portsText(entries: readonly Entry[], most = 3): string {
  const sums = new Map<string, number>();
  for (const { edge } of entries) {
    const port = portText(edge.info);
    sums.set(port, (sums.get(port) ?? 0) + edge.connections);
  }
  const ports = [...sums].sort((a, b) => b[1] - a[1]).map(([port]) => port);
  return ports.slice(0, most).join(', ') + (ports.length > most ? `, +${ports.length - most}` : '');
}
