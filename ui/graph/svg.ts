/** Elements of the drawing. Attributes are written when they change. */

const NAMESPACE = 'http://www.w3.org/2000/svg';

export function make<K extends keyof SVGElementTagNameMap>(
  name: K,
  attributes: Readonly<Record<string, string>>,
): SVGElementTagNameMap[K] {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const written = new WeakMap<Element, Map<string, string | number>>();

/** Writes an attribute, or as `text` the content, if it is another one than before. */
export function put(element: Element, name: string, value: string | number): void {
  let own = written.get(element);
  if (!own) written.set(element, (own = new Map()));
  if (own.get(name) === value) return;
  own.set(name, value);
  if (name === 'text') element.textContent = String(value);
  else element.setAttribute(name, String(value));
}

let pen: CanvasRenderingContext2D | null | undefined;
const widths = new Map<string, string>();

/** A text as it fits into so many pixels, in the type of names. SVG has no ellipsis of its own. */
export function cut(text: string, pixels: number): string {
  const key = `${Math.round(pixels)} ${text}`;
  const known = widths.get(key);
  if (known !== undefined) return known;
  if (pen === undefined) {
    pen = document.createElement('canvas').getContext('2d');
    if (pen) pen.font = '600 13px system-ui, sans-serif';
  }
  const width = (t: string) => pen?.measureText(t).width ?? t.length * 7;
  let fits = text;
  if (width(text) > pixels) {
    let [low, high] = [0, text.length];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (width(`${text.slice(0, middle)}…`) <= pixels) low = middle;
      else high = middle - 1;
    }
    fits = `${text.slice(0, low)}…`;
  }
  // Names of others are without end.
  if (widths.size > 5000) widths.clear();
  widths.set(key, fits);
  return fits;
}
