/**
 * Draws a recording of a terminal as an SVG picture: `node dist/scripts/draw-terminal.js RECORDING PICTURE`.
 * scripts/picture makes the recording of a real run of the quickstart, with `script` of util-linux.
 */
import { readFileSync, writeFileSync } from 'node:fs';

/** Lines of flows in the picture. */
const FLOWS = 14;
const [CHAR_WIDTH, LINE_HEIGHT, MARGIN] = [7.8, 19, 18];
/** Foreground colours by SGR number. */
const COLOURS: Readonly<Record<string, string>> = {
  31: '#ff7b72',
  32: '#7ee787',
  33: '#e3b341',
  36: '#79c0ff',
  2: '#8b949e',
};
const ESCAPE = String.fromCharCode(27);
const SGR = new RegExp(`${ESCAPE}\\[([0-9;]*)m`);
const OTHER_CONTROL = new RegExp(`${ESCAPE}\\[[0-9;?]*[A-Za-ln-z]|\\r`, 'g');

function stripStyles(line: string): string {
  return line
    .split(new RegExp(SGR, 'g'))
    .filter((_, i) => i % 2 === 0)
    .join('');
}

/** The flows around the policy change, then the explanation. @throws Error if the recording does not have both */
function selectLines(text: string): string[] {
  const lines = text.replace(OTHER_CONTROL, '').split('\n');
  const flow = /^\d\d:\d\d:\d\d\.\d+ /;
  const change = lines.findIndex((l) => stripStyles(l).includes('now batch loses its permission'));
  const before = lines.slice(0, change).filter((l) => flow.test(stripStyles(l)));
  const after = lines.slice(change).filter((l) => flow.test(stripStyles(l)));
  const start = lines.findIndex((l) => stripStyles(l).startsWith('DENIED: '));
  const isFlow = (l: string) => flow.test(stripStyles(l));
  const end = lines.findIndex((l, i) => i > start && stripStyles(l).startsWith('▸'));
  const explanation = lines.slice(start - 1, end).filter((l) => !isFlow(l));
  if (change < 0 || start < 1 || before.length < FLOWS / 2 || after.length < FLOWS / 2)
    throw new Error('the recording does not show flows and an explanation: see scripts/quickstart');
  const prompt = (command: string) => `${ESCAPE}[36m$${ESCAPE}[0m ${ESCAPE}[1m${command}${ESCAPE}[0m`;
  return [
    prompt('egressctl flows -f'),
    ...before.slice(-FLOWS / 2),
    ...after.slice(0, FLOWS / 2),
    '',
    prompt('egressctl explain --from shop/batch --to 203.0.113.10:443/tcp'),
    ...explanation,
  ];
}

const escapeXml = (text: string) =>
  text.replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c] as string);

/** The SVG of one line, with a span for each style. */
function drawLine(line: string, y: number): string {
  let [fill, bold] = ['#e6edf3', false];
  const spans = line.split(new RegExp(SGR, 'g')).map((part, i) => {
    if (i % 2 === 0)
      return part && `<tspan fill="${fill}"${bold ? ' font-weight="bold"' : ''}>${escapeXml(part)}</tspan>`;
    for (const code of part.split(';')) {
      if (code === '' || code === '0') [fill, bold] = ['#e6edf3', false];
      else if (code === '1') bold = true;
      else fill = COLOURS[code] ?? fill;
    }
    return '';
  });
  return `<text x="${MARGIN}" y="${y}" xml:space="preserve">${spans.join('')}</text>`;
}

const [recording, picture] = process.argv.slice(2);
if (!recording || !picture) throw new Error('usage: draw-terminal RECORDING PICTURE');
const lines = selectLines(readFileSync(recording, 'utf8'));
const width = Math.ceil(Math.max(...lines.map((l) => stripStyles(l).length)) * CHAR_WIDTH + 2 * MARGIN);
const height = lines.length * LINE_HEIGHT + 2 * MARGIN;
const body = lines.map((l, i) => drawLine(l, MARGIN + (i + 0.75) * LINE_HEIGHT)).join('\n');
writeFileSync(
  picture,
  `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="Output of egressctl flows and egressctl explain" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13">
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
${body}
</svg>
`,
);
