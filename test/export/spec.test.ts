/** The URLs of exports: what they mean, and how what is wrong is told. */
import t from 'tap';
import { splitWords } from '../../src/export/base/words.js';
import { parseExports } from '../../src/export/base/spec.js';
import { AgentError } from '../../src/errors.js';
import { spec } from './given.js';

t.test('what URLs mean', async (t) => {
  t.match((await spec('otlp+http://collector:4318')).sink, {
    kind: 'otlp',
    transport: 'http',
    secure: false,
    host: 'collector',
    port: 4318,
    path: '/v1/logs',
  });
  t.match((await spec('otlp+https://c.example/otlp/v1/logs?header.x-scope=a&gzip=on&ca=/ca.pem')).sink, {
    secure: true,
    port: 4318,
    path: '/otlp/v1/logs',
    headers: [['x-scope', 'a']],
    gzip: true,
    tls: { ca: '/ca.pem' },
  });
  t.match((await spec('otlp+grpc://[::1]:4317')).sink, { transport: 'grpc', host: '::1', port: 4317 });
  t.match((await spec('otlp+grpcs://c')).sink, { transport: 'grpc', secure: true, port: 4317 });
  t.match((await spec('jsonl:///var/log/f%20x.jsonl?rotate=10MiB&keep=3')).sink, {
    kind: 'jsonl',
    path: '/var/log/f x.jsonl',
    rotateBytes: 10 << 20,
    keep: 3,
  });
  t.match(await spec('jsonl:-?sample=1/100&sample-denied=1/10'), {
    sink: { kind: 'stdout' },
    sample: 100,
    sampleDenied: 10,
  });
  t.match((await spec('syslog+udp://h')).sink, { transport: 'udp', port: 514, most: 2048, facility: 3 });
  t.match((await spec('syslog+tcp://h?facility=local3')).sink, { transport: 'tcp', port: 601, facility: 19 });
  t.match((await spec('syslog+tls://h?ca=/a&cert=/b&key=/c')).sink, { port: 6514, tls: { cert: '/b', key: '/c' } });
  t.match((await spec('syslog+unix:///dev/log?enterprise=1')).sink, { path: '/dev/log', enterprise: 1 });
  t.match(await spec('jsonl:-?aggregate=60s'), { aggregateMs: 60_000 });
});

t.test('filters are those of egressctl flows', async (t) => {
  const { filters } = await spec('jsonl:-?filter=--verdict DENIED --not --to-port 53 -l "app in (web,api)"');
  t.strictSame(filters.blacklist, [{ destination_port: ['53'] }]);
  t.equal(filters.whitelist.length, 2, 'a label of either side');
  t.match(filters.whitelist[0], { verdict: ['DROPPED'], source_label: ['app in (web,api)'] });
  t.strictSame(splitWords(`a  'b c'"d" e`), ['a', 'b cd', 'e']);
  const raw = await spec(`jsonl:-?filter=--allowlist '{"source_pod":["shop/"]}'`);
  t.strictSame(raw.filters.whitelist, [{ source_pod: ['shop/'] }]);
});

const WRONG: readonly (readonly [url: string, message: RegExp])[] = [
  ['x', /not a URL/],
  ['ftp://a', /unknown kind of export/],
  ['otlp+http://', /not a URL|no host/],
  ['otlp+http://u:secret@h', /no user belongs into the URL/],
  ['otlp+grpc://h/path', /gRPC has no path/],
  ['otlp+http://h?sample=1', /sample: is not valid/],
  ['otlp+http://h?sample=1/0', /sample: is not valid/],
  ['otlp+http://h?aggregate=0s', /aggregate: is not valid/],
  ['otlp+http://h?aggregate=60s&sample=1/2', /aggregate: .*cannot be combined/],
  ['otlp+http://h?header.a b=1', /header\.a b: is not a header/],
  ['otlp+http://h?header.a=1%0d%0ab: 2', /header\.a: is not a header/],
  ['otlp+http://h?ca=/x', /ca: there is no such parameter/],
  ['otlp+http://h?token=secret', /token: there is no such parameter/],
  ['otlp+http://h?headers-file=x', /headers-file: is not an absolute path/],
  ['otlp+http://h?gzip=on&gzip=off', /gzip: is given twice/],
  ['otlp+https://h?cert=/x', /key: cert= and key= belong together/],
  ['jsonl://flows.jsonl', /not an absolute path/],
  ['jsonl:flows.jsonl', /not an absolute path/],
  ['jsonl:///x?rotate=1', /rotate: is not valid/],
  ['jsonl:///x?keep=0', /keep: is not a number from 1 to 100/],
  ['syslog+tcp://h/path', /syslog has no path/],
  ['syslog+unix://h/x', /not an absolute path/],
  ['syslog+udp://h?max=9', /max: is not a number/],
  ['syslog+udp://h?facility=mail', /facility: is not valid/],
  ['syslog+udp://h?queue=1', /queue: is not a number from 64/],
  ['jsonl:-?filter=--verdict NO', /filter: .*--verdict/],
  ['jsonl:-?filter=--nonsense', /filter: .*nonsense/],
  ['jsonl:-?filter=stray', /filter: /],
  ['jsonl:-?filter=--pod "a', /filter: a quote is not closed/],
  ['jsonl:-?filter=--ip 1.2.3', /filter: .*1\.2\.3/],
  ['jsonl:-?filter=--not', /filter: --not must precede/],
];

t.test('what is wrong is named, without secrets', async (t) => {
  for (const [url, message] of WRONG) {
    const e = await parseExports([url]).then(
      () => undefined,
      (e: unknown) => e,
    );
    t.ok(e instanceof AgentError && e.code === 'USAGE', url);
    t.match((e as AgentError).message, message);
    t.notMatch(`${(e as AgentError).message} ${(e as AgentError).hint}`, /secret/);
  }
  await t.rejects(parseExports(['jsonl:///a', 'jsonl:///a?keep=2']), /two exports go to \/a/);
  await t.rejects(parseExports(Array(9).fill('syslog+udp://h')), /8 at most/);
});
