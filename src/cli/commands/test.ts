/** egressctl test */
import { counted } from '../../counted.js';
import { type Command, Option } from 'commander';
import { formatProblem } from '../../errors.js';
import type { FileResult } from '../../tools/expect.js';
import { EXIT } from '../../exit.js';
import { line, type Paint, painter, safe, toJson } from '../common/output.js';
import type { Globals } from '../common/globals.js';
import { hearingOf, type VerifyFlags, verifyNamesOption } from '../common/verify.js';

interface TestFlags extends Globals, VerifyFlags {
  output: 'text' | 'json';
  all?: boolean;
}

export function testCommand(program: Command): void {
  const command = program
    .command('test')
    .argument('<file...>', 'YAML files with tables of expected verdicts')
    .description('Test policies against a table of expected verdicts. Needs neither an agent nor root.')
    .option('--all', 'also list the rows that hold')
    .addOption(verifyNamesOption())
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'))
    .addHelpText(
      'after',
      `
Exit code: 0 every row holds, 3 one does not, 1 a file or a row cannot be read.

Example of a table:
  manifests: policies        # a directory or file, or a list of them, relative to this file
  tests:
  - shop/web → 203.0.113.10:443/tcp: allow [np/shop/web#0]
  - shop/web → [2001:db8::1]/icmpv6 128/0: deny
  - {from: shop/web, to: shop/db, port: 5432, expect: deny, rule: 'np/shop/web#default', name: db}
  - {from: shop/web, to: svc/shop/api, port: 80/tcp, expect: allow}
  - shop/web → api.example.com:443/tcp: allow
  - shop/web → 10.96.0.10:53/udp query api.example.com: allow
  - shop/web → 203.0.113.10:443/tcp sni api.example.com: allow
  - shop/web → 203.0.113.10:80/tcp http GET http://api.example.com/v1: allow
  - {from: shop/web, to: 203.0.113.10, port: 80, http: GET http://api/, headers: ['X-Team: shop'], expect: deny}
  names:                     # what pods learned from DNS answers
    shop/web:
      api.example.com: [203.0.113.10]
      www.example.com: {aliases: [cdn.example.net], addresses: [203.0.113.11]}

Fields of a row:
  from    a pod of the manifests, as namespace/name
  to      an address, a pod (namespace/name), a Service (svc/namespace/name), or a name that the pod learned;
          one with several addresses is tested at each address
  port    443, 443/tcp, 53/udp, icmp 8/0, gre
  query   the name that a DNS query asks for
  sni     the server name that a TLS or QUIC hello says; -: none
  http    the HTTP request that the connection says: METHOD http://host/path, with headers
  expect  allow, deny, or partial (some backends of the Service are allowed)
  rule    the rule that must decide
  audit   the expected verdict if staged policies were enforced
  name    a name for the report`,
    );
  command.action(async (files: string[]) => {
    const flags = command.optsWithGlobals<TestFlags>();
    const { runFile } = await import('../../tools/expect.js');
    const results = files.map((file) => runFile(file, hearingOf(flags)));
    const unreadable = results.some((r) => r.problems.length > 0);
    const failed = results.some((r) => r.rows.some((row) => !row.ok));
    if (unreadable) process.exitCode = EXIT.failed;
    else if (failed) process.exitCode = EXIT.denied;
    if (flags.output === 'json') {
      await line(toJson({ files: results.map(toObject) }, 2));
      return;
    }
    const paint = painter(flags.color);
    for (const result of results) for (const text of describe(result, paint, flags.all ?? false)) await line(text);
  });
}

function toObject({ file, rows, problems, manifests }: FileResult) {
  const failed = rows.filter((row) => !row.ok).length;
  return { file, passed: rows.length - failed, failed, rows, problems, manifests };
}

function* describe({ file, rows, problems, manifests }: FileResult, paint: Paint, all: boolean): Generator<string> {
  for (const p of problems) yield `${paint('red', 'error')} ${safe(formatProblem(p))}`;
  for (const row of rows) {
    if (row.ok) {
      if (all) yield `${paint('green', '✓')} ${safe(row.name)}: ${safe(row.actual)}`;
      continue;
    }
    yield `${paint('red', '✗')} ${safe(`${file}:${row.line ?? 1}`)} ${paint('bold', safe(row.name))}`;
    const at = row.name.includes(row.packet.to) ? '' : ` (at ${row.packet.to})`;
    yield `    expected ${safe(row.expected)}, is ${safe(row.actual)}${at}`;
    for (const why of row.why) yield paint('dim', `    ${safe(why)}`);
  }
  if (manifests.length > 0)
    yield paint(
      'yellow',
      `${safe(file)}: ${counted(manifests.length, 'problem')} in its manifests; egressctl validate lists them`,
    );
  const failed = rows.filter((row) => !row.ok).length;
  const passed = rows.length - failed;
  const read = problems.length > 0 ? `, ${counted(problems.length, 'problem')}` : '';
  const sum = `${safe(file)}: ${passed} ${passed === 1 ? 'holds' : 'hold'}, ${failed} ${failed === 1 ? 'does' : 'do'} not${read}`;
  yield paint(failed > 0 || problems.length > 0 ? 'red' : 'green', sum);
}
