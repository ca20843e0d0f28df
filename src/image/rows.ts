/**
 * Computes the bitmaps of a set: the rules that a destination class, or a protocol and port, may match. These are the
 * rows of the maps; simulate() reads the same rows.
 */
import { HOSTS_MARK, NAMES_MARK, QUERIES_MARK, SERVERS_MARK } from '../names/pattern.js';
import { clearBit, emptyRow, orInto, type Row, setBit, testBit } from './bits.js';
import { requestProgram } from './requests.js';
import type { AtomExpr, PolicySet, SetRule } from './types.js';

export { emptyRow, type Row, testBit } from './bits.js';

/** Class ids with a special meaning (enum ea_class). */
export const CLASS_NONE = 0;
export const CLASS_STAGED = 1;
export const CLASS_SELF = 2;
export const CLASS_UNNAMED = 3;
export const CLASS_UNASKED = 4;
export const CLASS_UNSAID = 5;
export const CLASS_SILENT = 6;
export const CLASS_REQUEST = 7;
export const CLASS_REQUEST_SILENT = 8;
export const CLASS_UNAUDITED = 9;
export const CLASS_OPENING = 10;
export const CLASS_QUIC = 11;
export const CLASS_HIDDEN = 12;
/** The largest of them. */
export const LAST_FIXED_CLASS = Math.max(CLASS_QUIC, CLASS_HIDDEN);

/** Index of a set's rules by atom. It is made once, since sets never change. */
interface SetIndex {
  readonly any: Row;
  readonly self: Row | undefined;
  readonly staged: Row | undefined;
  readonly byAtom: ReadonlyMap<string, readonly number[]>;
  /** Rules whose expressions must be evaluated for each class. */
  readonly exprRules: readonly { readonly bit: number; readonly exprs: readonly AtomExpr[] }[];
  readonly names: PatternIndex | undefined;
  readonly queries: PatternIndex | undefined;
  readonly said: SaidIndex | undefined;
  /** The bits that the audit leaves out. */
  readonly unaudited: Row | undefined;
}

/** Index of the rules that ask what a connection says. */
interface SaidIndex {
  /** By server name. Others: the rules that do not ask. */
  readonly servers: PatternIndex;
  /** By the host of a request. Others: the rules that do not ask for a host. */
  readonly hosts: PatternIndex;
  /** The rules that match what names nobody, and what is a request without a host. */
  readonly silent: Row;
  readonly silentRequest: Row;
  /** The rules that match a handshake, if that is all that may be said: those that ask must not deny. */
  readonly opening: Row;
  /** The rules that a hello of QUIC may match, or that do not ask. */
  readonly quic: Row;
  /** The rules that match a hello whose server name nobody knows: those that ask for one must deny. */
  readonly hidden: Row;
}

/** Index of the rules that ask for names, or for names in queries, by the atoms of patterns. */
interface PatternIndex {
  /** The rules that do not ask. */
  readonly others: Row;
  readonly byAtom: ReadonlyMap<string, readonly number[]>;
}

const indices = new WeakMap<PolicySet, SetIndex>();

/** The index of a set, from a cache. */
export function setIndex(set: PolicySet): SetIndex {
  const known = indices.get(set);
  if (known) return known;
  const any = emptyRow(set);
  const self = emptyRow(set);
  const staged = emptyRow(set);
  let hasSelf = false;
  const byAtom = new Map<string, number[]>();
  const exprRules: { bit: number; exprs: readonly AtomExpr[] }[] = [];
  set.rules.forEach((rule, bit) => {
    if (rule.atoms === null) setBit(any, bit);
    for (const atom of rule.atoms ?? []) {
      const bits = byAtom.get(atom);
      if (bits) bits.push(bit);
      else byAtom.set(atom, [bit]);
    }
    if (rule.exprs) {
      exprRules.push({ bit, exprs: rule.exprs });
      if (rule.exprs.some((e) => holds(e, NO_ATOMS))) setBit(any, bit);
    }
    if (rule.self) setBit(self, bit);
    hasSelf ||= rule.self;
    if (rule.staged) setBit(staged, bit);
  });
  const index: SetIndex = {
    any,
    self: hasSelf ? self : undefined,
    staged: set.staged ? staged : undefined,
    byAtom,
    exprRules,
    names: set.names ? patternIndex(set, ({ names }) => names) : undefined,
    queries: set.queries ? patternIndex(set, ({ queries }) => queries) : undefined,
    said: set.says ? saidIndex(set) : undefined,
    unaudited: set.rules.some((rule) => rule.unaudited) ? rowOf(set, (rule) => rule.unaudited === true) : undefined,
  };
  indices.set(set, index);
  return index;
}

/** The rules for which something holds. */
function rowOf(set: PolicySet, holds: (rule: SetRule) => boolean): Row {
  const row = emptyRow(set);
  set.rules.forEach((rule, bit) => {
    if (holds(rule)) setBit(row, bit);
  });
  return row;
}

function saidIndex(set: PolicySet): SaidIndex {
  const none: readonly string[] = [];
  return {
    servers: patternIndex(set, ({ said }) => said && (said.servers ?? none)),
    hosts: patternIndex(set, ({ said }) => said && (said.hosts ?? (said.request ? undefined : none))),
    silent: rowOf(set, ({ said }) => said === undefined || (said.silent === true && said.request === undefined)),
    silentRequest: rowOf(
      set,
      ({ said }) => said === undefined || said.silent === true || (said.request !== undefined && !said.hosts),
    ),
    opening: rowOf(set, ({ said, action }) => said === undefined || action !== 'deny'),
    quic: rowOf(set, ({ said }) => !said?.noQuic),
    hidden: rowOf(set, ({ said, action }) => !said || (action === 'deny' && (said.servers?.length ?? 0) > 0)),
  };
}

/** @param of the atoms by which a rule matches; undefined: it does not ask */
function patternIndex(set: PolicySet, of: (rule: SetRule) => readonly string[] | undefined): PatternIndex {
  const others = emptyRow(set);
  const byAtom = new Map<string, number[]>();
  set.rules.forEach((rule, bit) => {
    const atoms = of(rule);
    if (atoms === undefined) setBit(others, bit);
    for (const atom of atoms ?? []) {
      const bits = byAtom.get(atom);
      if (bits) bits.push(bit);
      else byAtom.set(atom, [bit]);
    }
  });
  return { others, byAtom };
}

/**
 * The rows that a set has independently of classes: no class, the endpoint itself, its staged rules, addresses without
 * a name, packets that are no query, connections that name nobody, hellos of QUIC, those whose name is encrypted, the bits that the audit leaves out,
 * and what its requests can be.
 */
export function fixedRows(set: PolicySet): (readonly [number, Row])[] {
  const { any, self, staged, names, queries, said, unaudited } = setIndex(set);
  const rows: (readonly [number, Row])[] = [[CLASS_NONE, any]];
  if (staged) rows.push([CLASS_STAGED, staged]);
  if (self) rows.push([CLASS_SELF, self]);
  if (names) rows.push([CLASS_UNNAMED, names.others]);
  if (queries) rows.push([CLASS_UNASKED, queries.others]);
  if (said) {
    rows.push([CLASS_UNSAID, said.servers.others], [CLASS_SILENT, said.silent]);
    rows.push([CLASS_REQUEST, said.hosts.others], [CLASS_REQUEST_SILENT, said.silentRequest]);
    rows.push([CLASS_OPENING, said.opening]);
    rows.push([CLASS_QUIC, said.quic], [CLASS_HIDDEN, said.hidden]);
  }
  if (unaudited) rows.push([CLASS_UNAUDITED, unaudited]);
  if (said) rows.push(...requestProgram(set).rows);
  return rows;
}

const NO_ATOMS: ReadonlySet<string> = new Set();

function holds(expr: AtomExpr, atoms: ReadonlySet<string>): boolean {
  if (typeof expr === 'string') return atoms.has(expr);
  if ('all' in expr) return expr.all.every((e) => holds(e, atoms));
  if ('some' in expr) return expr.some.some((e) => holds(e, atoms));
  return !holds(expr.not, atoms);
}

/**
 * The row of a class of destinations, names, queries, server names or hosts; undefined if it equals the row to which
 * the kernel falls back, which is that of CLASS_NONE, CLASS_UNNAMED, CLASS_UNASKED, CLASS_UNSAID or CLASS_REQUEST.
 * @param atoms ascending, so that the mark of a class comes first, where it has one
 */
export function classRow(set: PolicySet, atoms: readonly string[]): Row | undefined {
  const { any, byAtom, exprRules, names, queries, said } = setIndex(set);
  if (atoms[0] === NAMES_MARK) return names && patternRow(names, atoms);
  if (atoms[0] === QUERIES_MARK) return queries && patternRow(queries, atoms);
  if (atoms[0] === SERVERS_MARK) return said && patternRow(said.servers, atoms);
  if (atoms[0] === HOSTS_MARK) return said && patternRow(said.hosts, atoms);
  let row: Row | undefined;
  const has = exprRules.length > 0 ? new Set(atoms) : NO_ATOMS;
  for (const { bit, exprs } of exprRules) {
    const matches = exprs.some((e) => holds(e, has));
    if (matches === testBit(any, bit)) continue;
    row ??= any.slice();
    if (matches) setBit(row, bit);
    else clearBit(row, bit);
  }
  for (const atom of atoms) {
    for (const bit of byAtom.get(atom) ?? []) {
      row ??= any.slice();
      setBit(row, bit);
    }
  }
  return row;
}

function patternRow({ others, byAtom }: PatternIndex, atoms: readonly string[]): Row | undefined {
  let row: Row | undefined;
  for (const atom of atoms) {
    for (const bit of byAtom.get(atom) ?? []) {
      row ??= others.slice();
      setBit(row, bit);
    }
  }
  return row;
}

/**
 * One LPM entry of port_rules. `prefix` counts bits from the key's start: 64 for any protocol, 80 for one protocol, up
 * to 96 for one port.
 */
export interface PortEntry {
  readonly prefix: number;
  readonly protocol: number;
  /** First port of the prefix; 0 if `prefix` is at most 80. */
  readonly port: number;
  readonly row: Row;
}

const portCache = new WeakMap<PolicySet, readonly PortEntry[]>();

/** All LPM entries of a set, shorter prefixes first. Each row includes the rows of the prefixes that cover it. */
export function portEntries(set: PolicySet): readonly PortEntry[] {
  const known = portCache.get(set);
  if (known) return known;
  const own = new Map<string, { prefix: number; protocol: number; port: number; row: Row }>();
  const at = (prefix: number, protocol: number, port: number): Row => {
    const key = `${prefix}|${protocol}|${port}`;
    let entry = own.get(key);
    if (!entry) own.set(key, (entry = { prefix, protocol, port, row: emptyRow(set) }));
    return entry.row;
  };
  at(64, 0, 0);
  set.rules.forEach((rule, bit) => {
    if (rule.ports === null) return setBit(at(64, 0, 0), bit);
    for (const range of rule.ports) {
      if (range.protocol === null) setBit(at(64, 0, 0), bit);
      else if (range.lo === 0 && range.hi === 65535) setBit(at(80, range.protocol, 0), bit);
      else for (const p of rangePrefixes(range.lo, range.hi)) setBit(at(80 + p.length, range.protocol, p.port), bit);
    }
  });
  // Shorter prefixes first, so that the covering rows are complete when a longer one includes them.
  const entries = [...own.values()].sort((a, b) => a.prefix - b.prefix || a.protocol - b.protocol || a.port - b.port);
  for (const entry of entries) {
    if (entry.prefix === 64) continue;
    for (let length = entry.prefix - 1; length >= 80; length--) {
      const size = 2 ** (96 - length);
      const cover = own.get(`${length}|${entry.protocol}|${Math.floor(entry.port / size) * size}`);
      if (cover) {
        orInto(entry.row, cover.row);
        break;
      }
    }
    orInto(entry.row, at(64, 0, 0));
  }
  portCache.set(set, entries);
  return entries;
}

/** The smallest list of prefixes that covers lo..hi. */
export function rangePrefixes(lo: number, hi: number): { port: number; length: number }[] {
  const out: { port: number; length: number }[] = [];
  for (let port = lo; port <= hi; ) {
    let size = 1;
    while (port % (size * 2) === 0 && port + size * 2 - 1 <= hi && size < 65536) size *= 2;
    out.push({ port, length: 16 - Math.log2(size) });
    port += size;
  }
  return out;
}

/** The row for a protocol and port. With `fragment`, the row of the rules that do not read the port. */
export function portRow(set: PolicySet, protocol: number, port: number, fragment: boolean): Row {
  let best: PortEntry | undefined;
  for (const entry of portEntries(set)) {
    if (fragment && entry.prefix > 80) continue;
    if (entry.prefix > 64 && entry.protocol !== protocol) continue;
    const size = 2 ** (96 - Math.max(entry.prefix, 80));
    if (entry.prefix > 80 && Math.floor(port / size) !== Math.floor(entry.port / size)) continue;
    if (!best || entry.prefix > best.prefix) best = entry;
  }
  return (best as PortEntry).row;
}
