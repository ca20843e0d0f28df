/** Calls with bodies that no client sends: random bytes, mutated requests, requests with too much of everything. */
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { connect as dialUnix } from 'node:net';
import { OBSERVER } from '../../src/proto/load.js';
import type { Random } from '../fuzz/random.js';
import { METHODS } from './callers-attacks.js';
import { message } from './h2.js';

/** Calls under way at a time. */
const ABREAST = 40;
/** Streams that follow have no end: given up after this. */
const PATIENCE_MS = 1000;

/** A filter in every way that it can be wrong, slow or large. */
function request(r: Random): object {
  const text = () =>
    r.pick([
      '',
      'a',
      '*',
      '((((a{30}){30}){30}){30})',
      '(a+)+$',
      '[',
      '\\',
      '\0',
      '10.0.0.0/8',
      '::/0',
      '10.0.0.0/99',
      '-1',
      'ns/pod',
      '/',
      'k8s:a=b',
      'a in (',
      '!',
      'x'.repeat(r.below(100)),
    ]);
  const some = () => Array.from({ length: r.chance(2) ? 300 : r.below(4) }, text);
  const filter = () => ({
    uuid: some(),
    source_ip: some(),
    source_pod: some(),
    source_fqdn: some(),
    source_label: some(),
    source_service: some(),
    destination_ip: some(),
    destination_pod: some(),
    destination_label: some(),
    destination_port: some(),
    destination_service: some(),
    verdict: [r.below(200)],
    event_type: [{ type: r.below(300), match_sub_type: true, sub_type: -r.below(9) }],
    protocol: some(),
    ip_version: [r.below(5)],
    tcp_flags: [{ SYN: true }],
    node_name: some(),
    http_status_code: some(),
    reply: [true, false],
  });
  const time = () =>
    r.pick([
      undefined,
      { seconds: '9223372036854775807', nanos: 2_000_000_000 },
      { seconds: '-9223372036854775808', nanos: -1 },
      { seconds: String(r.below(2e9)), nanos: 0 },
    ]);
  const most = r.chance(3) ? 30 : 3;
  return {
    number: r.pick(['0', '1', '18446744073709551615', '9007199254740993']),
    first: r.chance(30),
    follow: r.chance(30),
    since: time(),
    until: time(),
    whitelist: Array.from({ length: r.below(most) }, filter),
    blacklist: Array.from({ length: r.below(3) }, filter),
    field_mask: r.pick([
      undefined,
      { paths: some() },
      { paths: ['__proto__', 'constructor.prototype', 'l4..TCP', 'IP.source.x'] },
    ]),
  };
}

export function body(r: Random): Buffer {
  const kind = r.below(4);
  if (kind === 0) return Buffer.from(Array.from({ length: r.below(200) }, () => r.below(256)));
  const encode = OBSERVER.GetFlows?.requestSerialize as (value: object) => Buffer;
  const whole = encode(request(r));
  if (kind === 1) return whole;
  const out = Buffer.from(whole.subarray(0, kind === 2 ? whole.length : r.below(whole.length + 1)));
  for (let i = 0; i < 1 + r.below(8) && out.length > 0; i++) out[r.below(out.length)] = r.below(256);
  return out;
}

export interface Answers {
  calls: number;
  /** gRPC statuses by number; `none`: cut off, or given up. */
  statuses: Record<string, number>;
}

/** @param path of a unix socket */
export async function fuzzedCalls(path: string, random: Random, count: number): Promise<Answers> {
  const answers: Answers = { calls: 0, statuses: {} };
  let session: ClientHttp2Session | undefined;
  const current = (): ClientHttp2Session => {
    if (session && !session.destroyed && !session.closed) return session;
    session = connect('http://localhost', { createConnection: () => dialUnix(path).on('error', () => {}) });
    session.on('error', () => {});
    return session;
  };
  const worker = async () => {
    while (answers.calls < count) {
      answers.calls++;
      const status = await one(current(), random.pick(METHODS), body(random));
      answers.statuses[status] = (answers.statuses[status] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: ABREAST }, worker));
  session?.destroy();
  return answers;
}

function one(session: ClientHttp2Session, path: string, payload: Buffer): Promise<string> {
  return new Promise((resolve) => {
    let status = 'none';
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), PATIENCE_MS);
    const note = (headers: Record<string, unknown>) => {
      if (headers['grpc-status'] !== undefined) status = String(headers['grpc-status']);
    };
    stream
      .on('response', note)
      .on('trailers', note)
      .on('error', () => {});
    stream.on('close', () => {
      clearTimeout(timer);
      resolve(status);
    });
    stream.resume();
    stream.end(message(payload));
  });
}
