/** Programs about HTTP requests, as they are encoded, run in the kernel, and by their automata. */
import t from 'tap';
import { ENUMS, STRUCTS } from '../../../src/image/layout.gen.js';
import type { RequestStep } from '../../../src/image/requests.js';
import { type Dfa, settle } from '../../../src/regex/dfa.js';
import { seeded } from '../../fuzz/random.js';
import { HttpKernel } from './kernel.js';

const kernel = new HttpKernel();
t.teardown(() => kernel.close());
const random = seeded();
const { EA_HTTP_STEPS, EA_HTTP_NAME } = ENUMS.ea_http_sizes;

/** An automaton whose sets are the texts that it knows: set 0 none, then each. @param texts one byte a character */
function knowing(texts: readonly string[]): Dfa {
  const used = [...new Set(texts.join(''))];
  const classOf = new Uint8Array(256);
  used.forEach((c, i) => (classOf[c.charCodeAt(0)] = i + 1));
  const classes = used.length + 1;
  const states: number[][] = [new Array(classes).fill(0), new Array(classes).fill(0)];
  const accepts = [0, 0];
  texts.forEach((text, i) => {
    let state = 1;
    for (const c of text) {
      const k = classOf[c.charCodeAt(0)] as number;
      const row = states[state] as number[];
      if (row[k] === 0) {
        row[k] = states.push(new Array(classes).fill(0)) - 1;
        accepts.push(0);
      }
      state = row[k] as number;
    }
    accepts[state] = i + 1;
  });
  const sets = ['', ...texts].map((_, i) => [i]);
  return {
    classes,
    classOf,
    next: Uint16Array.from(states.flat()),
    start: 1,
    accepts: Uint16Array.from(accepts),
    sets,
  };
}

/** Any automaton, some of whose states nothing leaves. */
function anyDfa(states: number, classes: number, sets: number): Dfa {
  const ends = Array.from({ length: states }, () => random.chance(8));
  const next = Uint16Array.from({ length: states * classes }, (_, i) => {
    const state = Math.floor(i / classes);
    return state === 0 || ends[state] ? state : random.below(states);
  });
  return {
    classes,
    classOf: Uint8Array.from({ length: 256 }, () => random.below(classes)),
    next,
    start: random.below(states),
    accepts: Uint16Array.from({ length: states }, () => random.below(sets)),
    sets: Array.from({ length: sets }, (_, i) => [i]),
  };
}

/** The set of a text, by the automaton itself. */
function walk({ classes, classOf, next, start, accepts }: Dfa, text: string): number {
  let state = start;
  for (const byte of Buffer.from(text, 'latin1')) state = next[state * classes + (classOf[byte] as number)] as number;
  return accepts[state] as number;
}

const programs = kernel.programs();

function classes(set: number, text: string): number[] | undefined {
  kernel.put(Buffer.from(text, 'latin1'));
  return kernel.match(set, text.length)?.map(Number);
}

/** Here, any byte may stand in any field. */
const ANY_BYTE = Array.from({ length: 256 }, (_, byte) => byte);

/** Class ids of a step: 53 bits, and which step and set it is. */
const idsOf = (step: number, sets: number) => Array.from({ length: sets }, (_, set) => 2 ** 52 + step * 1000 + set);

t.test('each field, there and not there', async (t) => {
  const step = (n: number, field: RequestStep['field'], texts: string[], name?: string): RequestStep => ({
    field,
    ...(name === undefined ? {} : { name }),
    ...settle(knowing(texts), ANY_BYTE),
    ids: idsOf(n, texts.length + 1),
    absent: 2 ** 52 + n * 1000 + 999,
  });
  const long = 'x-'.padEnd(EA_HTTP_NAME, 'y');
  const steps = [
    step(0, 'method', ['GET', 'POST']),
    step(1, 'path', ['/', '/a', '/?b', '*']),
    step(2, 'host', ['a.example', 'a.example:80']),
    step(3, 'header', ['1', '1,2', '1,,2', ''], 'x-one'),
    step(4, 'header', ['v'], long),
    step(5, 'header', ['a,b'], 'host'),
    step(6, 'header', ['z'], 'a'),
  ];
  programs.put(5, steps);
  programs.put(6, []);
  const told = (text: string) => classes(5, text)?.map((id) => (id - 2 ** 52) % 1000);
  const request = (line: string, ...lines: string[]) => `${[line, ...lines].join('\r\n')}\r\n\r\n`;
  const H = 'Host: a.example';
  const rows: [text: string, sets: number[]][] = [
    [request('GET / HTTP/1.1', H), [1, 1, 1, 999, 999, 0, 999]],
    [request('POST /a HTTP/1.1', 'Host:a.example:80'), [2, 2, 2, 999, 999, 0, 999]],
    [request('get /a/ HTTP/1.0'), [0, 0, 999, 999, 999, 999, 999]],
    [request('GET http://a.example HTTP/1.1', H), [1, 1, 1, 999, 999, 0, 999]],
    [request('GET http://a.example?b HTTP/1.1', H), [1, 3, 1, 999, 999, 0, 999]],
    [request('GET http://A.example/a HTTP/1.1', H), [1, 2, 0, 999, 999, 0, 999]],
    [request('OPTIONS * HTTP/1.1', H), [0, 4, 1, 999, 999, 0, 999]],
    [request('CONNECT a.example:80 HTTP/1.1', H), [0, 0, 2, 999, 999, 0, 999]],
    [request('GET / HTTP/1.1', H, 'X-One: 1'), [1, 1, 1, 1, 999, 0, 999]],
    [request('GET / HTTP/1.1', 'x-ONE:\t1 ', H, 'X-ONE:  2'), [1, 1, 1, 2, 999, 0, 999]],
    [request('GET / HTTP/1.1', 'x-one: 1', H, 'X-One: ', 'x-one:2'), [1, 1, 1, 3, 999, 0, 999]],
    [request('GET / HTTP/1.1', 'x-one:', H), [1, 1, 1, 4, 999, 0, 999]],
    [request('GET / HTTP/1.1', 'x-one: 1 2', H), [1, 1, 1, 0, 999, 0, 999]],
    [request('GET / HTTP/1.1', 'x-ond: 1', 'x-ones: 1', 'x-on: 1', H), [1, 1, 1, 999, 999, 0, 999]],
    [request('GET / HTTP/1.1', H, `${long.toUpperCase()}: v`), [1, 1, 1, 999, 1, 0, 999]],
    [request('GET / HTTP/1.1', H, `${long}y: v`, `${long.slice(1)}: v`), [1, 1, 1, 999, 999, 0, 999]],
    [request('GET / HTTP/1.1', H, 'A: z', 'Accept: z'), [1, 1, 1, 999, 999, 0, 1]],
    [request('GET / HTTP/1.1', H, `A: ${' '.repeat(300)}z${'\t'.repeat(300)}`), [1, 1, 1, 999, 999, 0, 1]],
  ];
  for (const [text, sets] of rows) t.same(told(text), sets, JSON.stringify(text.slice(0, 90)));
  t.same(classes(6, request('GET / HTTP/1.0')), [], 'a set that asks for nothing');
  t.equal(classes(7, request('GET / HTTP/1.0')), undefined, 'a set without a program');
});

t.test('any automata, any values', async (t) => {
  const FIELDS = ['method', 'path', 'host', 'header', 'header', 'header'] as const;
  const NAMES = ['x-a', 'x-b', 'accept', 'content-type'];
  const text = (alphabet: string, most: number) =>
    Array.from({ length: random.below(most) }, () => random.pick([...alphabet])).join('');
  for (let round = 0; round < 300; round++) {
    const steps = Array.from({ length: random.below(EA_HTTP_STEPS + 1) }, (_, n): RequestStep => {
      const sets = 1 + random.below(20);
      const field = random.pick(FIELDS);
      const dfa = anyDfa(
        1 + random.below(random.chance(10) ? 2000 : 60),
        1 + random.below(random.chance(10) ? 256 : 30),
        sets,
      );
      return {
        field,
        ...(field === 'header' ? { name: random.pick(NAMES) } : {}),
        ...settle(dfa, ANY_BYTE),
        ids: idsOf(n, sets),
        absent: 7 + n,
      };
    });
    programs.remove([1000 + round - 2]);
    try {
      programs.put(1000 + round, steps);
    } catch (error) {
      if ((error as { code?: string }).code === 'TOO_LARGE') continue;
      throw error;
    }
    for (let n = 0; n < 10; n++) {
      const method = `M${text('ABCxyz!~', 20)}`;
      const path = `/${text('abcXYZ-019', 200)}?${text('&=/;x', 50)}`;
      const host = random.chance(20) ? undefined : `h${text('abc-.09', 60)}`;
      const lines = Array.from({ length: random.below(8) }, (): [string, string] => [
        random.pick(NAMES),
        text('ab,;"\xe9 \t', 40),
      ]);
      const head = [
        `${method} ${path} HTTP/1.0`,
        ...(host === undefined ? [] : [`Host: ${host}`]),
        ...lines.map(([k, v]) => `${random.chance(50) ? k : k.toUpperCase()}:${v}`),
      ];
      const wanted = steps.map(({ field, name, table, ids, absent }) => {
        const own = lines.filter(([k]) => k === name).map(([, v]) => v.replace(/^[ \t]+|[ \t]+$/g, ''));
        const value =
          field === 'method'
            ? method
            : field === 'path'
              ? path
              : field === 'host'
                ? host
                : own.length > 0
                  ? own.join(',')
                  : undefined;
        return value === undefined ? absent : ids[walk(table, value)];
      });
      const got = classes(1000 + round, `${head.join('\r\n')}\r\n\r\n`);
      if (JSON.stringify(got) !== JSON.stringify(wanted)) {
        t.same(got, wanted, `FUZZ_SEED=${random.seed}: ${JSON.stringify(head)}`);
        return;
      }
    }
  }
  t.pass('as the automata say');
});

t.test('what does not fit, and what is shared', async (t) => {
  programs.remove(programs.ids);
  t.equal(programs.used, 0);
  const table = knowing(['a']);
  const step: RequestStep = { field: 'method', table, settled: 0, ids: [1, 2], absent: 3 };
  const put = (over: Partial<RequestStep>) => () => programs.put(1, [{ ...step, ...over }]);
  t.throws(() => programs.put(1, new Array(EA_HTTP_STEPS + 1).fill(step)), { code: 'TOO_LARGE' });
  t.throws(put({ field: 'header', name: 'x'.repeat(EA_HTTP_NAME + 1) }), { code: 'TOO_LARGE' });
  t.throws(put({ ids: [1] }), { code: 'INTERNAL' });
  t.throws(put({ table: { ...table, start: 9 } }), { code: 'INTERNAL' });
  t.throws(put({ table: { ...table, next: Uint16Array.from(table.next, () => 9) } }), { code: 'INTERNAL' });
  t.equal(programs.used, 0);
  programs.put(1, [step, step]);
  programs.put(2, [step]);
  t.equal(programs.used, 7, 'what is the same is there once');
  t.equal(kernel.programs().used, 7, 'the next agent finds what is in use');
  programs.remove([1]);
  t.equal(programs.used, 7);
  programs.remove([2]);
  t.equal(programs.used, 0);
});

t.test('programs that nobody wrote so read nothing beyond the cells', async (t) => {
  const text = 'GET /abc HTTP/1.1\r\nHost: a\r\n\r\n';
  for (let round = 0; round < 200; round++) {
    const program = Buffer.from(Array.from({ length: STRUCTS.ea_http_program.size }, () => random.below(256)));
    program.writeUInt32LE(random.below(40), 0);
    kernel.installProgram(9, program);
    classes(9, text);
  }
  t.pass('they ran');
});
