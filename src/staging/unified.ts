/** The difference of two texts, as `diff -u` and git show it. */

/** Lines around a change. */
const CONTEXT = 3;
/** Longest changed part that is compared line by line. */
const MOST = 2000;

/**
 * The difference; empty if there is none. Lines end with a newline.
 * @param file its path, for the head; a path from the root is written as git does, without its first slash
 */
export function unifiedDiff(before: string, after: string, file: string): string {
  if (before === after) return '';
  const [a, b] = [linesOf(before), linesOf(after)];
  const least = Math.min(a.length, b.length);
  let head = 0;
  while (head < least && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < least - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const from = Math.max(0, head - CONTEXT);
  const until = Math.max(0, tail - CONTEXT);
  const changed = changesOf(a.slice(head, a.length - tail), b.slice(head, b.length - tail));
  const lines = [
    ...a.slice(from, head).map((text) => ` ${text}`),
    ...changed,
    ...a.slice(a.length - tail, a.length - until).map((text) => ` ${text}`),
  ];
  const range = (length: number) => `${length === 0 ? from : from + 1},${length}`;
  const place = `@@ -${range(a.length - until - from)} +${range(b.length - until - from)} @@`;
  const name = file.replace(/^\/+/, '');
  return `--- a/${name}\n+++ b/${name}\n${place}\n${lines.map(ended).join('')}`;
}

/** Lines with their ends; the last may have none. */
function linesOf(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

function ended(line: string): string {
  return line.endsWith('\n') ? line : `${line}\n\\ No newline at end of file\n`;
}

/** By the longest common subsequence. */
function changesOf(a: readonly string[], b: readonly string[]): string[] {
  if (a.length > MOST || b.length > MOST) return [...a.map((text) => `-${text}`), ...b.map((text) => `+${text}`)];
  const width = b.length + 1;
  const common = new Uint16Array((a.length + 1) * width);
  const at = (i: number, j: number) => common[i * width + j] as number;
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  const out: string[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      out.push(` ${a[i]}`);
      i++;
      j++;
    } else if (i < a.length && (j >= b.length || at(i + 1, j) >= at(i, j + 1))) out.push(`-${a[i++]}`);
    else out.push(`+${b[j++]}`);
  }
  return out;
}
