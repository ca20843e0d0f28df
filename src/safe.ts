/** Escapes text from others: names of pods, of servers, paths of requests. */

/** Control characters C0 and C1 (0x9b is another form of ESC [), bidi marks, line separators, zero-width characters. */
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/**
 * Escapes control characters. Without it, whoever chooses the name of a pod or policy could send escape sequences to
 * the reader's terminal.
 */
export function safe(text: string): string {
  return text.replace(CONTROL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** JSON without raw control characters: those that JSON.stringify leaves unescaped are written as `\u…`. */
export function toJson(value: unknown, indent?: number): string {
  const text = JSON.stringify(value, null, indent);
  // Outside of strings, the only control characters are the line ends of the indentation.
  return indent === undefined ? safe(text) : text.split('\n').map(safe).join('\n');
}
