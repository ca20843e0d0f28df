/** Syslog: what rsyslog understands, over UDP, TCP, TLS and a unix socket; hostile names; its end and its return. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openUnixDatagram } from '../../agent/serve/unix-datagram.js';
import { Exports } from '../../src/export/exports.js';
import { SyslogSink } from '../../src/export/sinks/syslog.js';
import fc from '../seeded.js';
import { rule, WEB, WORLD } from '../flow/flows.js';
import { certificates } from './certificates.js';
import { memoryLog, response, spec, Stream, until } from './given.js';

const dir = mkdtempSync(join(tmpdir(), 'syslog-'));
t.teardown(() => rmSync(dir, { recursive: true }));

interface Message {
  pri: string;
  time: string;
  host: string;
  app: string;
  id: string;
  data: Record<string, Record<string, string>>;
  text: string;
}

/** rsyslog with a configuration, a directory and a process of its own. */
class Rsyslog {
  #child: ChildProcess | undefined;
  readonly out = join(dir, 'out');
  readonly socket = join(dir, 'log.sock');

  private constructor(readonly ports: { udp: number; tcp: number; tls: number }) {}

  static async create(): Promise<Rsyslog> {
    const [udp, tcp, tls] = [await freePort(), await freePort(), await freePort()];
    const rsyslog = new Rsyslog({ udp, tcp, tls });
    const driver = `streamdriver.name="gtls" streamdriver.mode="1" streamdriver.authmode="x509/certvalid"`;
    writeFileSync(
      join(dir, 'conf'),
      `global(workDirectory="${dir}" defaultNetstreamDriverCAFile="${dir}/ca.crt"
        defaultNetstreamDriverCertFile="${dir}/server.crt" defaultNetstreamDriverKeyFile="${dir}/server.key")
      module(load="imudp") module(load="imtcp") module(load="mmpstrucdata")
      module(load="imuxsock" SysSock.Use="off")
      input(type="imuxsock" Socket="${rsyslog.socket}" useSpecialParser="off" useSysTimestamp="off" ignoreTimestamp="off" rateLimit.Interval="0")
      input(type="imudp" address="127.0.0.1" port="${udp}")
      input(type="imtcp" address="127.0.0.1" port="${tcp}")
      input(type="imtcp" address="127.0.0.1" port="${tls}" ${driver})
      action(type="mmpstrucdata")
      template(name="line" type="string"
        string="%pri%\\t%timestamp:::date-rfc3339%\\t%hostname%\\t%app-name%\\t%msgid%\\t%$!rfc5424-sd%\\t%msg%\\n")
      action(type="omfile" file="${rsyslog.out}" template="line" asyncWriting="off")
      `,
    );
    await rsyslog.start();
    return rsyslog;
  }

  async start(): Promise<void> {
    rmSync(this.socket, { force: true });
    this.#child = spawn('/usr/sbin/rsyslogd', ['-n', '-f', join(dir, 'conf'), '-i', join(dir, 'pid')], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const { tcp } = this.ports;
    await until('rsyslog listens', async () => existsSync(this.socket) && (await connects(tcp)));
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#child = undefined;
    child.kill('SIGTERM');
    await new Promise((resolve) => child.on('exit', resolve));
  }

  messages(): Message[] {
    if (!existsSync(this.out)) return [];
    return readFileSync(this.out, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => line.split('\t'))
      .filter((parts) => parts[3] === 'egress-agent')
      .map(
        ([pri, time, host, app, id, data, text]) =>
          ({ pri, time, host, app, id, data: JSON.parse(data || '{}'), text }) as Message,
      );
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

async function connects(port: number): Promise<boolean> {
  const { connect } = await import('node:net');
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

async function exporting(url: string) {
  const stream = new Stream();
  const { log, lines } = memoryLog();
  const parts = { specs: [await spec(url)], source: stream.source, node: 'node-a', log, openUnixDatagram };
  const exports = await Exports.start(parts);
  return { stream, exports, lines, state: () => exports.status()[0] as ReturnType<Exports['status']>[number] };
}

const EVIL = 'a"b\\c]d\n<14>1 - - forged - - -\u0000é\u202e';

t.test('rsyslog', async (t) => {
  certificates(dir);
  const rsyslog = await Rsyslog.create();
  t.teardown(() => rsyslog.stop());
  const { udp, tcp, tls } = rsyslog.ports;
  const urls = {
    udp: `syslog+udp://127.0.0.1:${udp}`,
    tcp: `syslog+tcp://127.0.0.1:${tcp}`,
    tls: `syslog+tls://127.0.0.1:${tls}?ca=${dir}/ca.crt&cert=${dir}/client.crt&key=${dir}/client.key&server-name=collector`,
    unix: `syslog+unix://${rsyslog.socket}`,
  };
  for (const [transport, url] of Object.entries(urls)) {
    await t.test(transport, async (t) => {
      const before = rsyslog.messages().length;
      const { stream, exports, state } = await exporting(url);
      const denied = response(
        { rule: rule(), destination: WORLD, destinationNames: [EVIL], source: { ...WEB, pod: EVIL } },
        { type: 'drop', verdict: 'deny', reason: 'rule', drops: 7 },
      );
      const audited = response({ auditRule: rule({ staged: true }) }, { auditVerdict: 'deny' });
      const lost = { lost_events: { source: 'HUBBLE_RING_BUFFER' as const, num_events_lost: 3 }, node_name: 'node-a' };
      stream.put(denied, audited, response(), lost);
      await until('it is written', () => rsyslog.messages().length === before + 4).catch((e) =>
        t.fail(`${e} ${JSON.stringify(state())}`),
      );
      const [one, two, three, four] = rsyslog.messages().slice(before) as [Message, Message, Message, Message];
      t.match(one, {
        pri: '28',
        host: 'node-a',
        app: 'egress-agent',
        id: 'FLOW',
        time: /^2023-11-1[45]T..:15:00\.000000/,
      });
      t.match(one.data['egress@32473'], {
        verdict: 'deny',
        'source.address': '10.0.0.1',
        'destination.port': '443',
        'source.workload': 'Deployment/web',
        rule: 'np/shop/web#2',
        drops: '7',
      });
      const seen = 'a"b\\c]d\\u000a<14>1 - - forged - - -\\u0000é\\u202e';
      t.equal(one.data['egress@32473']?.['destination.names'], seen, 'as it was, with its control characters escaped');
      t.ok(one.text.includes(`shop/${seen} -> ${seen} (192.0.2.1):443/tcp DENIED np/shop/web#2 (drop)`), one.text);
      t.match([two, three, four], [{ pri: '29' }, { pri: '30' }, { pri: '28', id: 'LOST', text: /^3 flows lost/ }]);
      t.equal(rsyslog.messages().filter((m) => m.app === 'forged').length, 0);
      for (let n = 1; n <= 2000; n++) stream.put(response({ source: { ...WEB, port: n } }, { localPort: n }));
      await exports.close(5000);
      t.match(state(), { exported: 2003, lost: { source: 3 } });
      const many = () => rsyslog.messages().slice(before + 4);
      // Nothing tells of datagrams that its socket had no room for.
      if (transport === 'udp') return;
      await until('all are there', () => many().length === 2000);
      const ports = many().map((m) => Number(m.data['egress@32473']?.['source.port']));
      t.strictSame(
        ports,
        Array.from({ length: 2000 }, (_, i) => i + 1),
      );
    });
  }

  await t.test('ends and returns', async (t) => {
    const before = rsyslog.messages().length;
    for (const transport of ['tcp', 'tls', 'unix', 'udp'] as const) {
      const { stream, exports, state } = await exporting(
        `${urls[transport]}${transport === 'tls' ? '&' : '?'}queue=64`,
      );
      stream.put(response());
      await until('it works', () => state().exported === 1);
      await rsyslog.stop();
      // A datagram, or what goes into a connection that has just ended, is gone without a word.
      for (let n = 0; state().failingSince === undefined; n++) {
        stream.put(response({}, { localPort: n }));
        await new Promise((resolve) => setTimeout(resolve, 150));
        if (n > 30) t.fail(`${transport}: it is never noticed`);
      }
      const { exported, queued } = state();
      for (let n = 0; n < 100; n++) stream.put(response({}, { localPort: n }));
      await until('what finds no room is lost', () => state().lost.queue === 100 - (64 - queued));
      await rsyslog.start();
      await until('the rest is written', () => state().exported === exported + 64, 20_000);
      t.match(state(), { reconnects: 1, failingSince: undefined });
      await exports.close(1000);
    }
    const told = () =>
      rsyslog
        .messages()
        .slice(before)
        .filter((m) => m.id === 'LOST').length;
    await until('each has told of it', () => told() === 4).catch(() => t.fail(`${told()} of 4`));
  });
  await rsyslog.stop();
});

t.test('a server without a certificate of the CA is not spoken to', async (t) => {
  const { stream, exports, state } = await exporting(`syslog+tls://127.0.0.1:${await freePort()}?ca=${dir}/missing`);
  stream.put(response());
  await until('it fails', () => state().failingSince !== undefined);
  t.match(state().lastError, /missing|ENOENT/);
  await exports.close(10);
});

t.test('any message is one of RFC 5424, and no longer than it may be', (t) => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 3000 }),
    fc.constant(EVIL),
    fc.string({ maxLength: 30 }),
  );
  fc.assert(
    fc.property(text, text, text, fc.constantFrom(480, 2048, 8192), (pod, name, path, most) => {
      const transport = { send: async () => ({ done: true as const, refused: 0 }), close: () => {} };
      const sink = new SyslogSink({ facility: 3, enterprise: 32473, most }, transport);
      const made = response({
        nodeName: name,
        source: { ...WEB, pod },
        destinationNames: [name, name],
        said: { kind: 'http', serverName: '', method: 'GET', host: 'h', path, isCut: false },
      });
      const sent = sink.encode({ kind: 'flow', response: made, sample: 3 });
      t.ok(sent.length <= most, `${sent.length}`);
      const message = sent.toString('utf8');
      t.notMatch(message, /[\u0000-\u001f\u007f-\u009f\u2028]/);
      t.equal(Buffer.from(message).equals(sent), true, 'UTF-8, no character is cut');
      const [, host, data, msg] =
        /^<30>1 \S+ ([\x21-\x7e]{1,255}) egress-agent \d+ FLOW (\[egress@32473(?: [\x21\x23-\x3c\x3e-\x5c\x5e-\x7e]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*\]) (.*)$/su.exec(
          message,
        ) ?? [];
      t.ok(host && data && msg !== undefined, message.slice(0, 300));
      t.ok(/^[\x20-\x7e]*$/.test(msg as string) || (msg as string).startsWith('\ufeff'));
      t.match(data, /verdict="allow" source\.address="10\.0\.0\.1"/);
    }),
    { numRuns: 300 },
  );
  t.end();
});
