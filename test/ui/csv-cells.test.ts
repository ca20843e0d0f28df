import t from 'tap';
import { csvLine } from '../../src/ui/text/csv.js';

t.test('no cell is a formula, in no language of a spreadsheet', async (t) => {
  for (const [cell, line] of [
    ['a', 'a\r\n'],
    ['=1+1', "'=1+1\r\n"],
    ['-a', "'-a\r\n"],
    ['GET /a;=cmd()', "GET /a;'=cmd()\r\n"],
    ['a\t@b', "a\t'@b\r\n"],
    ['a;b-c', 'a;b-c\r\n'],
    ['a,"b', '"a,""b"\r\n'],
  ] as const)
    t.equal(csvLine([cell]), line, JSON.stringify(cell));
  t.equal(csvLine([-1]), '-1\r\n', 'a number is one');
});
