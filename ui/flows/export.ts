/** What the table shows, as a file. */
import { csvLine, EDGE_HEADER, edgeCells, FLOW_HEADER, flowCells } from '../../src/ui/text/csv.js';
import { download } from '../parts/file.js';
import { isSums } from './columns.js';
import { shownRows } from './rows.js';

/** Lines that are written before others get their turn. */
const AT_ONCE = 200;

/** Hands the file to the browser. */
export async function save(format: 'jsonl' | 'csv'): Promise<void> {
  const rows = shownRows();
  const parts: string[] = [];
  // Spreadsheets read UTF-8 only if it says so.
  if (format === 'csv') parts.push('\ufeff', csvLine(isSums.peek() ? EDGE_HEADER : FLOW_HEADER));
  for (let at = 0; at < rows.length; at += AT_ONCE) {
    let text = '';
    for (const row of rows.slice(at, at + AT_ONCE)) {
      if (format === 'jsonl') text += `${JSON.stringify(row)}\n`;
      else text += csvLine('info' in row ? edgeCells(row) : flowCells(row));
    }
    parts.push(text);
    await new Promise((resolve) => setTimeout(resolve));
  }
  const type = format === 'csv' ? 'text/csv' : 'application/jsonl';
  const when = new Date().toISOString().slice(0, 19).replaceAll(':', '');
  download(`${isSums.peek() ? 'edges' : 'flows'}-${when}.${format}`, parts.join(''), type);
}
