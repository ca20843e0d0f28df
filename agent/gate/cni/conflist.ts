/**
 * Edits the text of CNI network configurations: appends our plugin to the others, and removes it again. The text is
 * edited, not serialized again, so that everything that a CNI wrote stays the same, byte for byte.
 */
import { AgentError } from '../../../src/errors.js';

const GATE_TYPE = 'egress-gate';

/** Our entry in a list's `plugins`. */
export interface GateEntry {
  type: typeof GATE_TYPE;
  /** Path of the agent's socket on the host. */
  socket: string;
  timeoutSeconds: number;
  whenAgentDown: 'open' | 'closed';
}

/** Makes an entry. Invalid values are refused here, not by the plugin when pods start. @throws AgentError USAGE */
export function gateEntry(opts: Omit<GateEntry, 'type'>): GateEntry {
  const { socket, timeoutSeconds, whenAgentDown } = opts;
  if (!socket.startsWith('/') || Buffer.byteLength(socket) > 107) {
    throw new AgentError('USAGE', `the CNI gate's socket "${socket}" is no absolute path of at most 107 bytes`);
  }
  if (!(timeoutSeconds >= 0.001 && timeoutSeconds <= 600)) {
    throw new AgentError('USAGE', `the CNI gate's time limit of ${timeoutSeconds} s is not between 0.001 and 600`);
  }
  return { type: GATE_TYPE, socket, timeoutSeconds, whenAgentDown };
}

/** Whether a text, also invalid JSON, contains our entry. */
export function mentionsGate(text: string): boolean {
  return text.includes(`"${GATE_TYPE}"`);
}

/**
 * The list with our entry at its end, and nowhere else; the same text if it is so already.
 * @throws AgentError GATE if the text is no list of plugins
 */
export function withGate(text: string, entry: GateEntry): string {
  const items = pluginsOf(text);
  const last = items.at(-1);
  if (items.filter(isGate).length === 1 && last && isGate(last) && sameEntry(last.value, entry)) return text;
  const rest = withoutGate(text);
  const after = pluginsOf(rest).at(-1);
  if (!after) throw new AgentError('GATE', 'its "plugins" names none but egress-gate');
  return `${rest.slice(0, after.end)},${after.before}${JSON.stringify(entry)}${rest.slice(after.end)}`;
}

/** The list without our entry. @throws AgentError GATE if the text is no list of plugins */
export function withoutGate(text: string): string {
  for (;;) {
    const items = pluginsOf(text);
    const at = items.findIndex(isGate);
    const gateItem = items[at];
    if (!gateItem) return text;
    // Together with the comma before it; that of the first entry is behind it.
    const from = items[at - 1]?.end ?? gateItem.start;
    const to = at === 0 ? (items[1]?.start ?? gateItem.end) : gateItem.end;
    text = text.slice(0, from) + text.slice(to);
  }
}

/**
 * A list of a single-plugin configuration, converted as the container runtimes do, and our entry.
 * @throws AgentError GATE if the text is no such configuration
 */
export function listOf(text: string, entry: GateEntry): string {
  const conf = objectOf(text);
  if (typeof conf['type'] !== 'string' || conf['type'] === '') {
    throw new AgentError('GATE', 'it names no "type" of plugin', {
      hint: Array.isArray(conf['plugins']) ? 'a list of plugins belongs into a file that ends in .conflist' : undefined,
    });
  }
  const head = (['cniVersion', 'name'] as const)
    .filter((key) => typeof conf[key] === 'string')
    .map((key) => `"${key}":${JSON.stringify(conf[key])},`);
  return `{${head.join('')}"plugins":[${text.trim()},${JSON.stringify(entry)}]}\n`;
}

/** An element of `plugins`, and its position in the text. */
interface Item {
  start: number;
  end: number;
  /** White space before it. */
  before: string;
  value: unknown;
}

function isGate(item: Item): boolean {
  return (item.value as { type?: unknown }).type === GATE_TYPE;
}

function sameEntry(value: unknown, entry: GateEntry): boolean {
  const fields = Object.entries(value as object);
  return fields.length === Object.keys(entry).length && fields.every(([k, v]) => entry[k as keyof GateEntry] === v);
}

function objectOf(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AgentError('GATE', `it is not JSON: ${(cause as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AgentError('GATE', 'it is not a JSON object');
  }
  return value as Record<string, unknown>;
}

function pluginsOf(text: string): Item[] {
  const plugins = objectOf(text)['plugins'];
  const isPlugin = (p: unknown) => typeof p === 'object' && p !== null && !Array.isArray(p);
  if (!Array.isArray(plugins) || plugins.length === 0 || !plugins.every(isPlugin)) {
    throw new AgentError('GATE', 'it has no list of "plugins"');
  }
  const spans = spansOfPlugins(text);
  return plugins.map((value, i) => ({ ...(spans[i] as Omit<Item, 'value'>), value }));
}

/** Strings, brackets, and words: enough for a text that JSON.parse has accepted. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** Positions of the elements of `plugins`. Of two members of this name the last one counts, as for JSON.parse. */
function spansOfPlugins(text: string): Omit<Item, 'value'>[] {
  let items: Omit<Item, 'value'>[] = [];
  let depth = 0;
  let atKey = false;
  let inPlugins = false;
  let current: Omit<Item, 'value'> | undefined;
  let last = 0; // where the token before this one ends
  for (const match of text.matchAll(TOKEN)) {
    const token = match[0];
    const start = match.index;
    const end = start + token.length;
    const opens = token === '{' || token === '[';
    if (token === '}' || token === ']') depth--;
    if (depth === 0) {
      atKey = opens;
    } else if (depth === 1 && atKey) {
      inPlugins = JSON.parse(token) === 'plugins';
      if (inPlugins) items = [];
      atKey = false;
    } else if (depth === 1 && token === ',') {
      atKey = true;
      inPlugins = false;
    } else if (depth === 2 && inPlugins) {
      if (token === ',') {
        current = undefined;
      } else if (current) {
        current.end = end;
      } else {
        current = { start, end, before: text.slice(last, start) };
        items.push(current);
      }
    }
    if (depth === 1 && token === ']') current = undefined;
    if (opens) depth++;
    last = end;
  }
  return items;
}
