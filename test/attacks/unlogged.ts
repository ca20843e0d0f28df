import { setTimeout as sleep } from 'node:timers/promises';
import type { Attack } from './attack.js';
import { ACK, be16, icmp, ip, PSH, SYN, tcp } from './craft.js';

export const attack: Attack = {
  name: 'unlogged',
  tries: 'Sends to where it may, so that no flow is told of, or its bytes are not.',
  async run(at) {
    const { bed } = at;
    const body = Buffer.alloc(1200, 7);
    // A connection that somebody outside began, who never says another word.
    const away = at.family === 4 ? '198.51.100.77' : '2001:db8:77::7';
    const port = at.port();
    // It listens, so that its own kernel does not refuse.
    await at.me.program("s = socket.socket(socket.AF_INET6); s.bind(('::', port)); s.listen(); kept[port] = s", {
      port,
    });
    at.after(() => at.me.program('kept.pop(port).close()', { port }));
    let since = bed.agent.flows.length;
    await bed.fromInternet(at.own, ip({ src: away, dst: at.own }, tcp(4444, port, Buffer.alloc(0), { flags: SYN })));
    await at.settle();
    const data = Buffer.concat([body, at.control('on a half-open connection', 'wire')]);
    const length = data.length;
    await at.send(
      Array.from({ length: 100 }, (_, i) =>
        at.frame(away, tcp(port, 4444, data, { flags: ACK | PSH, seq: 1 + i * length, ack: 1001 })),
      ),
    );
    await sleep(1500);
    const told = bed.agent.flows.slice(since).some((f) => f.remote.ip === away);
    if (!told) at.wrong('100 segments of data on a connection that its peer only began, and no flow tells of them');
    // Errors about a flow: its end tells how many bytes it was.
    const good = at.address('good-far');
    since = bed.agent.flows.length;
    const connect = 's = socket.create_connection((good, 8080), 5); kept[good] = s; result = s.getsockname()[1]';
    const p = (await at.me.program(connect, { good })) as number;
    await sleep(300);
    const quoted = Buffer.concat([
      ip({ src: good, dst: at.own }, tcp(8080, p, Buffer.alloc(0), { flags: ACK })),
      body,
      at.control('in errors', 'good-far'),
    ]);
    const error = icmp(at.family, at.family === 4 ? 3 : 1, at.family === 4 ? 3 : 4, be16(0, 0), quoted);
    await at.send(Array.from({ length: 100 }, () => at.frame(good, error)));
    await at.settle();
    await at.me.program('kept.pop(good).close()', { good });
    await sleep(1500);
    const bytes = bed.agent.flows
      .slice(since)
      .filter((f) => f.remote.ip === good && f.local.port === p)
      .map((f) => f.bytesOut ?? 0);
    if (Math.max(0, ...bytes) < 100 * body.length)
      at.wrong(`120000 bytes in ICMP errors, and the flows to ${good} tell of ${Math.max(0, ...bytes)}`);
  },
};
