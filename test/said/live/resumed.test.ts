/**
 * Sessions of TLS 1.2 that are resumed, whose Finished may look like a hello; and hellos that pretend to be one, to real
 * servers.
 */
import { createECDH } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { compiled } from '../../netns/shell.js';
import { servers } from '../../netns/world.js';
import type { Line } from '../bed.js';
import { type Extension, makeHello, records, serverName, u16 } from '../make.js';
import { LiveBed } from './bed.js';
import { type Certificates, makeCertificates } from './certificates.js';
import { buildGo } from './clients.js';
import type { Heard, Talk } from './raw-client.js';
import { nginx, Server } from './servers.js';

const HOST = servers.one.ip4;
/** The ports of each server: as usual; of TLS 1.3 with one group, which no client offers a key of. */
const PORTS = { nginx: [443, 8443], openssl: [444, 8444], go: [445, 8445] } as const;
const ALL: Line['ports'] = [
  { protocol: 6, ports: [...Object.values(PORTS).flatMap(([a, b]) => [[a, a] as const, [b, b] as const])] },
];
const RULES: readonly Line[] = [{ serverNames: ['good.test'], ports: ALL }];
const HOSTS = { 'good.test': HOST, 'evil.test': HOST };
/** Of Finished records, one of 256 looks like a hello. */
const [LOOK_ALIKES, MOST] = [3, 6000];

/** Resumes sessions until some Finished records looked like hellos. Prints how many there were, and what failed. */
const RESUMES = `
import socket, ssl, sys
host, port, cipher, wanted, most = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
ctx.maximum_version = ssl.TLSVersion.TLSv1_2
ctx.set_ciphers(cipher)
CHANGE = bytes.fromhex("140303000101")
def connect(session):
    s = socket.create_connection((host, port), timeout=5)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ctx.wrap_bio(came, goes, server_hostname="good.test", session=session)
    sent = b""
    def go(what):
        nonlocal sent
        while True:
            try:
                return what()
            except ssl.SSLWantReadError: pass
            finally:
                out = goes.read()
                sent += out
                if out: s.sendall(out)
            data = s.recv(65536)
            if not data: raise EOFError
            came.write(data)
    try:
        go(tls.do_handshake)
        go(lambda: tls.write(b"GET / HTTP/1.0\\r\\n\\r\\n"))
        answer = go(lambda: tls.read(4096))
    finally:
        s.close()
    at = sent.index(CHANGE) + 6
    return tls, sent[at + 5] == 1 and sent[at] == 22, answer
tls, _, _ = connect(None)
session, total, alike, failed = tls.session, 0, 0, []
while alike < wanted and total < most:
    total += 1
    try:
        tls, looks, answer = connect(session)
        alike += looks
        if not tls.session_reused or not answer.startswith(b"HTTP/1."): failed.append("not resumed")
    except Exception as e: failed.append(repr(e))
print(total, alike, *failed[:3], sep="|")
`;

/** An extension of lists of two bytes each. */
const list = (type: number, values: number[]): Extension => {
  const bytes = Buffer.concat(values.map(u16));
  return [type, Buffer.concat([u16(bytes.length), bytes])];
};
const [X25519, P521] = [0x001d, 0x0019];
/** A hello of TLS 1.3 with a key of this group. */
function hello13(name: string, group: number, key: Buffer): Buffer {
  const share = Buffer.concat([u16(group), u16(key.length), key]);
  const extensions: Extension[] = [
    serverName(name),
    list(10, [X25519, P521]),
    list(13, [0x0403, 0x0804, 0x0401]),
    [43, Buffer.from('020304', 'hex')],
    [51, Buffer.concat([u16(share.length), share])],
  ];
  return makeHello({ extensions });
}
function hello12(name: string): Buffer {
  const extensions: Extension[] = [serverName(name), list(10, [0x0017]), list(13, [0x0403, 0x0401])];
  return makeHello({ extensions, suites: Buffer.from('c02bc02f', 'hex'), session: Buffer.alloc(0) });
}

const CCS = Buffer.from('140303000101', 'hex');
const DATA = Buffer.concat([Buffer.from('1703030020', 'hex'), Buffer.alloc(32, 1)]);
const first13 = records(hello13('good.test', X25519, Buffer.alloc(32, 9)));
const second13 = (name: string): Buffer => hello13(name, P521, createECDH('secp521r1').generateKeys());

t.setTimeout(170_000);
t.test('sessions of TLS 1.2', { timeout: 170_000 }, async (t) => {
  const bed = await LiveBed.create(RULES, HOSTS);
  t.teardown(() => bed.close());
  const c = await makeCertificates(bed.world.dir, ['good.test', HOST]);
  const { go, remove } = await buildGo('serve.go');
  t.teardown(remove);
  const all = await listen(bed, c, go);

  for (const [name, cipher] of [
    ['nginx', 'ECDHE-ECDSA-AES128-GCM-SHA256'],
    ['openssl', 'ECDHE-ECDSA-CHACHA20-POLY1305'],
    ['go', 'ECDHE-ECDSA-AES256-SHA'],
  ] as const) {
    await t.test(`${name}, ${cipher}`, async (t) => {
      const args = [HOST, PORTS[name][0], cipher, LOOK_ALIKES, MOST].map(String);
      const { stdout, stderr } = await bed.run(['python3', '-c', RESUMES, ...args], { seconds: 100 });
      const [total, alike, ...failed] = stdout.trim().split('|');
      t.same(failed, [], `of ${total} none is reset ${stderr}`);
      t.equal(Number(alike), LOOK_ALIKES, `${alike} of ${total} looked like a hello`);
      const told = bed.told();
      t.equal(told.length, Number(total) + 1);
      t.ok(told.every(({ text, verdict }) => text === 'good.test' && verdict === 'allow'));
      t.same(bed.reasons(), []);
    });
  }

  await t.test('openssl s_client', async (t) => {
    const session = join(bed.world.dir, 'session');
    for (let n = 0; n < 20; n++) {
      const how = n === 0 ? ['-sess_out', session] : ['-sess_in', session];
      const to = ['-connect', `${HOST}:${PORTS.openssl[0]}`, '-servername', 'good.test', '-tls1_2', '-ign_eof'];
      const { stdout } = await bed.run(['openssl', 's_client', ...to, ...how], { input: 'GET / HTTP/1.0\r\n\r\n' });
      t.match(stdout, n === 0 ? /^New, TLSv1.2/m : /^Reused, TLSv1.2/m);
      t.match(stdout, /^HTTP\/1.0 200/m);
    }
    bed.told();
  });

  /** What a second hello is said behind, or in. */
  const WAYS: Record<string, (first: Buffer, second: Buffer) => Buffer[]> = {
    'behind ChangeCipherSpec': (first, second) => [first, Buffer.concat([CCS, records(second)])],
    'in two records': (first, second) => [first, Buffer.concat([CCS, records(second, [40])])],
    'in two records, with data between': (first, second) => {
      const cut = records(second, [40]);
      return [first, Buffer.concat([CCS, cut.subarray(0, 45), DATA, cut.subarray(45)])];
    },
    'in the same segment': (first, second) => [Buffer.concat([first, CCS, records(second)])],
  };
  const says = async (port: number, parts: Buffer[]): Promise<Heard> => {
    const talk: Talk = { host: HOST, port, parts: parts.map((part) => part.toString('latin1')) };
    const script = join(compiled, 'test/said/live/raw-client.js');
    return JSON.parse((await bed.run([process.execPath, script, JSON.stringify(talk)])).stdout) as Heard;
  };
  for (const name of ['nginx', 'openssl', 'go'] as const) {
    await t.test(`another name, to ${name}`, async (t) => {
      const [usual, retries] = PORTS[name];
      bed.rules([{ ports: ALL }]);
      const free = await says(retries, WAYS['behind ChangeCipherSpec']!(first13, second13('evil.test')));
      t.match(free.text, /^\x16\x03/, 'it asks for a second hello');
      // Go takes no other name in one (RFC 8446, 4.1.2), and does not tell of it.
      if (name !== 'go') t.ok(all[name]().includes('evil.test'), 'and takes another name in it');
      bed.rules(RULES);
      all[name]();
      bed.told();
      for (const [way, say] of Object.entries(WAYS)) {
        for (const [port, first, evil, good] of [
          [retries, first13, second13('evil.test'), second13('good.test')],
          [usual, records(hello12('good.test')), hello12('evil.test'), hello12('good.test')],
        ] as const) {
          const wire = await bed.world.internet.sniff('to-a');
          await says(port, say(first, evil));
          const arrived = (await wire.frames()).filter((line) =>
            line.includes(Buffer.from('evil.test').toString('hex')),
          );
          await wire.close();
          // What follows data is nobody's hello any more, whatever it is.
          if (way !== 'in two records, with data between') t.same(arrived, [], `${way}, ${port}`);
          t.notOk(all[name]().includes('evil.test'), `${way}, ${port}: it is not understood`);
          if (way === 'behind ChangeCipherSpec' && port === retries) {
            t.match(await says(port, say(first, good)), { end: /^(open|end)$/ }, 'the same name passes');
            t.match(bed.told().at(-1), { text: 'good.test', verdict: 'allow' });
          }
        }
      }
      bed.told();
    });
  }
});

/** Servers that tell which names the hellos say that they understand, the second one of a connection too. */
async function listen(bed: LiveBed, c: Certificates, go: string): Promise<Record<keyof typeof PORTS, () => string[]>> {
  const { world } = bed;
  const log = (name: string) => join(world.dir, `${name}.log`);
  const start = async (name: string, port: number, command: readonly string[]) => {
    await Server.start(name, world, command, { at: `${HOST}:${port}`, log: log(name), parse: () => undefined });
    return log(name);
  };
  const openssl = (port: number, group: string) => {
    const other = ['-servername', 'other.test', '-cert2', c.certificate, '-key2', c.key];
    const command = ['s_server', '-accept', `${HOST}:${port}`, '-www', '-groups', group, ...other];
    return start(`openssl-${port}`, port, [
      'stdbuf',
      '-o0',
      'openssl',
      ...command,
      '-cert',
      c.certificate,
      '-key',
      c.key,
    ]);
  };
  const own = (port: number, group: string) =>
    start(`go-${port}`, port, [go, `${HOST}:${port}`, c.certificate, c.key, group]);
  const told = log('nginx');
  const one = `ssl_ecdh_curve secp521r1; error_log ${told} debug;`;
  await nginx(world, HOST, c, `server { listen ${HOST}:${PORTS.nginx[1]} ssl; ${one} }`);
  const groups = ['P-256', 'P-521'] as const;
  return {
    nginx: follow([told], /SSL server name: "([^"]*)"/g),
    openssl: follow(
      await inTurn(groups, (group, i) => openssl(PORTS.openssl[i]!, group)),
      /Hostname in TLS extension: "([^"]*)"/g,
    ),
    go: follow(await inTurn(groups, (group, i) => own(PORTS.go[i]!, group)), /"sni":"([^"]*)"/g),
  };
}

async function inTurn<T, R>(all: readonly T[], what: (one: T, index: number) => Promise<R>): Promise<R[]> {
  const out: R[] = [];
  for (const [i, one] of all.entries()) out.push(await what(one, i));
  return out;
}

/** What a pattern finds in these files, since it was asked last. */
function follow(files: readonly string[], pattern: RegExp): () => string[] {
  const read = files.map(() => 0);
  return () =>
    files.flatMap((file, i) => {
      const text = readFileSync(file, 'latin1');
      const found = [...text.slice(read[i]).matchAll(pattern)].map((match) => match[1] as string);
      read[i] = text.length;
      return found;
    });
}
