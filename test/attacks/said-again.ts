import { egressPolicy, toHosts } from '../netns/policies.js';
import type { Attack } from './attack.js';
import { controlText, EVIL, FRONT, forbidText, GOOD, hello, REQUEST_POLICY, request, Line } from './line.js';

/** Of no importance. */
const OTHER = egressPolicy('attacker-else', 'attacker', [toHosts(['192.0.2.77'])]);

export const attack: Attack = {
  name: 'said-again',
  tries: 'Goes on with a connection that was denied for what it said, after a change of policy; its server lives on.',
  policies: () => [REQUEST_POLICY],
  async run(at) {
    const evil = (what: string) => request('/evil', forbidText(at, what));
    const ok = request('/ok');
    const first = hello(GOOD, Buffer.alloc(8));
    // The reset that ends a denied connection need not be believed: a part that never arrived stands before it.
    const asked = await Line.open(at);
    await asked.send([asked.segment(asked.seq, ok.subarray(0, 8), {}, { ttl: 1 })]);
    await asked.send([asked.segment(asked.seq + 8, request('/evil').subarray(8))]);
    const later = await Line.open(at);
    await later.send([later.segment(later.seq, ok)]);
    await later.answer({ ack: later.seq + ok.length });
    await later.send([later.segment(later.seq + ok.length, Buffer.from('nothing\n'))]);
    const greeted = await Line.open(at);
    await greeted.send([greeted.segment(greeted.seq, first)]);
    await greeted.answer({ ack: greeted.seq + first.length });
    await greeted.send([greeted.segment(greeted.seq + first.length, Buffer.alloc(8, 9))]);
    const named = await Line.open(at);
    await named.send([named.segment(named.seq, hello(EVIL, Buffer.alloc(8)))]);
    await at.bed.agent.apply('policy.yaml', [REQUEST_POLICY, OTHER]);
    await asked.send([asked.segment(asked.seq, evil('a request, from its beginning'))]);
    await asked.send([asked.segment(asked.seq + 8, evil('a request').subarray(8))]);
    await later.send([later.segment(later.seq + ok.length, evil('behind an allowed one'))]);
    await greeted.send([
      greeted.segment(greeted.seq + first.length, hello(EVIL, at.forbid('a second hello, after one that was none'))),
    ]);
    await named.send([named.segment(named.seq, hello(EVIL, at.forbid('a hello')))]);

    // Meanwhile it could have said anything; but not any more.
    const open = await Line.open(at);
    await open.send([open.segment(open.seq, ok)]);
    await open.answer({ ack: open.seq + ok.length });
    await at.bed.agent.apply('policy.yaml', [
      egressPolicy('attacker-says', 'attacker', [toHosts([FRONT[4], FRONT[6]])]),
    ]);
    await open.send([open.segment(open.seq + ok.length, ok)]);
    await open.answer({ ack: open.seq + 2 * ok.length });
    await at.bed.agent.apply('policy.yaml', [REQUEST_POLICY]);
    await open.send([open.segment(open.seq + 2 * ok.length, evil('when what was allowed meanwhile is denied again'))]);

    const control = await Line.open(at);
    await control.send([control.segment(control.seq, ok)]);
    await control.answer({ ack: control.seq + ok.length });
    await at.bed.agent.apply('policy.yaml', [REQUEST_POLICY, OTHER]);
    await control.send([
      control.segment(control.seq + ok.length, request('/ok', controlText(at, 'an allowed request'))),
    ]);
  },
};
