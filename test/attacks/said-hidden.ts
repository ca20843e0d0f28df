import { setTimeout as sleep } from 'node:timers/promises';
import { encodeMessage } from '../names/wire.js';
import { type Extension, makeHello, records, serverName } from '../said/make.js';
import { echAnswer, echConfig, echList, outer } from '../said/make-ech.js';
import type { At } from './at.js';
import type { Attack } from './attack.js';
import { RESOLVER } from './bed.js';
import { ip, udp } from './craft.js';
import { GOOD, Line, SAID_POLICY } from './line.js';

const STEP_MS = 15;
/** The public name of the configuration, which the attacker may say; its config_id; and one that nobody was given. */
const [PUBLIC, ID, OTHER] = ['front.good.test', 7, 9];
const CHANGE = Buffer.from('140303000101', 'hex');

/** The attacker asks the resolver for the keys of a hidden name, and is given them. */
async function learn(at: At): Promise<void> {
  const [to, port] = [RESOLVER[at.family], at.port()];
  const message = { id: 11, ...echAnswer(echList(echConfig({ id: ID, name: PUBLIC })), 'hidden.test') };
  await at.send([at.frame(to, udp(port, 53, encodeMessage({ ...message, flags: 0x0100, answers: [] })))]);
  await sleep(STEP_MS);
  await at.bed.fromInternet(at.own, ip({ src: to, dst: at.own }, udp(53, port, encodeMessage(message))));
  await sleep(STEP_MS);
}

/** A hello with what is encrypted before its name, and a marker at its end. */
function hello(name: string | undefined, ech: Extension | undefined, marker: Buffer, sizes: number[] = []): Buffer {
  const names = name === undefined ? [] : [serverName(name)];
  return records(makeHello({ extensions: [...(ech ? [ech] : []), ...names, [21, marker]] }), sizes);
}

/** How the name is hidden: what the hello says in its place, and the extension. */
const WAYS: readonly (readonly [string, string | undefined, () => Extension])[] = [
  ['as clients do it', PUBLIC, () => outer(ID)],
  ['in upper case', PUBLIC.toUpperCase(), () => outer(ID)],
  ['with another config_id', PUBLIC, () => outer(OTHER)],
  ['behind another allowed name', GOOD, () => outer(ID)],
  ['behind no name', undefined, () => outer(ID)],
  ['without its half of the key', GOOD, () => outer(ID, { enc: 0 })],
  ['as an inner hello', GOOD, () => [0xfe0d, Buffer.from([1])]],
  ['in an extension of another form', GOOD, () => [0xfe0d, outer(ID)[1].subarray(0, 60)]],
];

export const attack: Attack = {
  name: 'said-hidden',
  tries: 'Asks DNS for the keys of Encrypted ClientHello, and hides behind an allowed name whom it speaks to.',
  policies: () => [
    {
      ...SAID_POLICY,
      spec: {
        ...SAID_POLICY.spec,
        egress: [
          ...SAID_POLICY.spec.egress,
          {
            toCIDR: [`${RESOLVER[4]}/32`, `${RESOLVER[6]}/128`],
            toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }] }],
          },
        ],
      },
    },
  ],
  async run(at) {
    await learn(at);
    for (const [how, name, ech] of WAYS) {
      for (const [cut, size, sizes] of [
        ['whole', 1400, []],
        ['in segments of three bytes', 3, []],
        ['in many records', 1400, [1, 1, 1, 1, 80, 40]],
      ] as const) {
        const line = await Line.open(at);
        const bytes = hello(name, ech(), at.forbid(`${how}, ${cut}`), [...sizes]);
        await line.send(line.pieces(line.seq, bytes, Math.max(size, 8)));
        if (at.short) break;
      }
    }
    const pieces = await Line.open(at);
    const ends = hello(GOOD, outer(ID), Buffer.alloc(8));
    await pieces.send(pieces.pieces(pieces.seq, ends, 1));
    await pieces.send([pieces.segment(pieces.seq + ends.length, at.forbid('behind one that is cut into bytes'))]);

    const plain = hello(GOOD, undefined, Buffer.alloc(8));
    const second = await Line.open(at);
    await second.send([second.segment(second.seq, plain)]);
    const later = Buffer.concat([CHANGE, hello(GOOD, outer(ID), at.forbid('in a second hello'))]);
    await second.send([second.segment(second.seq + plain.length, later)]);

    // What was judged never arrives, and the other comes in its place.
    const told = await Line.open(at);
    const decoy = hello(GOOD, outer(OTHER), Buffer.alloc(8));
    await told.send([told.segment(told.seq, decoy, {}, { ttl: 1 })]);
    await told.send([told.segment(told.seq, hello(GOOD, outer(ID), at.forbid('in place of GREASE')))]);

    // What browsers say with every name.
    const grease = await Line.open(at);
    const bytes = hello(GOOD, outer(OTHER), at.control('GREASE', 'wire'));
    await grease.send([grease.segment(grease.seq, bytes)]);
  },
};
