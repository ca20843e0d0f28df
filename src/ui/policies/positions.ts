/** Finds where the problems of a text are in it. */
import { isMap, isNode, isScalar, isSeq, LineCounter, type Document, type Node, parseAllDocuments } from 'yaml';
import type { TextProblem } from '../wire/policies.js';

/** A longer text is not searched: its problems are told without their places. */
const MOST = 256 << 10;
/** Characters of a line without a closer place that are marked. */
const A_LINE = 400;

/** A step of a field's path: a key, or an index. */
type Step = string | number;

/** `spec.egress[0].to["a.b"]` as steps. */
export function stepsOf(field: string): Step[] {
  const steps: Step[] = [];
  for (const match of field.matchAll(/\[(\d{1,9})\]|\["((?:[^"\\]|\\.)*)"\]|([^.[\]]+)/g)) {
    const [, index, quoted, key] = match;
    if (index !== undefined) steps.push(Number(index));
    else steps.push(quoted ?? key ?? '');
  }
  return steps;
}

/** The problems, with the place of each as far as the text shows it. Never throws. */
export function located(text: string, problems: readonly TextProblem[]): TextProblem[] {
  if (problems.length === 0 || text.length > MOST) return [...problems];
  let documents: Document.Parsed[];
  try {
    documents = parseAllDocuments(text, {
      lineCounter: new LineCounter(),
      logLevel: 'silent',
      keepSourceTokens: false,
    }) as Document.Parsed[];
  } catch {
    return [...problems]; // nested deeper than the stack
  }
  return problems.map((problem) => {
    const range = placeOf(text, documents, problem);
    return range ? { ...problem, from: range[0], to: range[1] } : problem;
  });
}

function placeOf(text: string, documents: readonly Document.Parsed[], p: TextProblem): [number, number] | undefined {
  if (p.object === '' && p.field === '') {
    const error = documents.flatMap((d) => d.errors)[0];
    return error ? bounded(text, error.pos[0], error.pos[1]) : undefined;
  }
  // A staged form has another kind than what it becomes: the name decides.
  const name = p.object
    .slice(p.object.lastIndexOf('/') + 1)
    .split(' ')
    .at(-1);
  const named = documents.filter((d) => String(d.getIn(['metadata', 'name'])) === name);
  const document = named.find((d) => p.object.startsWith(String(d.get('kind')))) ?? named[0] ?? documents[0];
  if (!document?.contents) return undefined;
  return deepest(text, document.contents, stepsOf(p.field));
}

/** The place of the field, or of the nearest thing around it that is there. */
function deepest(text: string, root: Node, steps: readonly Step[]): [number, number] | undefined {
  let node: Node = root;
  let found: Node | undefined;
  for (const step of steps) {
    const next = childOf(node, step);
    if (!next) break;
    found = next.key ?? next.value;
    node = next.value;
  }
  const leaf = isScalar(node) && node !== root ? node : (found ?? firstKey(root));
  const range = leaf?.range;
  return range ? bounded(text, range[0], range[1]) : undefined;
}

function childOf(node: Node, step: Step): { key?: Node; value: Node } | undefined {
  if (isSeq(node) && typeof step === 'number') {
    const item = node.items[step];
    return isNode(item) ? { value: item } : undefined;
  }
  if (!isMap(node)) return undefined;
  const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
  if (!pair || !isNode(pair.key)) return undefined;
  return { key: pair.key, value: isNode(pair.value) ? pair.value : pair.key };
}

function firstKey(root: Node): Node | undefined {
  const key = isMap(root) ? root.items[0]?.key : undefined;
  return isNode(key) ? key : undefined;
}

/** Within the text, not empty, and of one line. */
function bounded(text: string, from: number, to: number): [number, number] {
  const start = Math.max(0, Math.min(from, text.length - 1));
  const line = text.indexOf('\n', start);
  const end = Math.min(line < 0 ? text.length : line, start + A_LINE, Math.max(to, start + 1));
  return [start, Math.max(end, start)];
}
