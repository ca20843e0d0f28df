/** What regular expressions match: by examples, as RE2 says it, as other engines say it; and the form of their tables. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { RE2JS } from 're2js';
import t from 'tap';
import { AgentError } from '../../src/errors.js';
import { compileRegex } from '../../src/regex/compile.js';
import { samples } from '../../src/regex/samples.js';
import fc from '../seeded.js';
import { anyRegex, anyText, common, formFaults, matches } from './languages.js';

const compile = (text: string) => compileRegex(text, 'path');

t.test('examples', async (t) => {
  for (const [text, met, missed] of [
    ['', [''], ['a', '\n']],
    ['GET|HEAD', ['GET', 'HEAD'], ['get', 'GETHEAD', 'GE', 'GETD', '']],
    ['/a', ['/a'], ['/a/', '/a?b', '/ab', 'x/a', '/A']],
    ['/api/.*', ['/api/', '/api/x/y?z=1'], ['/api', '/api/x\n']],
    ['(?s)/api/.*', ['/api/x\n'], []],
    ['/v[12]/users/[^/]+', ['/v1/users/7', '/v2/users/é\n'], ['/v3/users/7', '/v1/users/', '/v1/users/7/x']],
    ['^/a$', ['/a'], ['^/a$', '/a\n']],
    ['a^b|$c|d\\z', ['d'], ['ab', 'a^b', 'c', '']],
    ['(?:^a|b$|^$)*', ['', 'a', 'b', 'ab'], ['ba', 'aa', 'bb']],
    ['(?i)x-[a-c]', ['X-A', 'x-c'], ['x-d']],
    ['a(?i)b|c', ['ab', 'aB', 'C'], ['AB', 'Ab']],
    ['(?i:s)k', ['Sk', 'ſk'], ['sK']],
    ['\\Qa.b\\E+', ['a.b', 'a.bbb'], ['axb', 'a.ba.b']],
    ['a{2}|b{1,2}|c{2,}|d{0}', ['aa', 'b', 'bb', 'cc', 'ccc', ''], ['a', 'aaa', 'bbb', 'c', 'd']],
    ['a{,2}', ['a{,2}'], ['aa']],
    ['.', ['a', 'é', '€', '😀'], ['', 'ab', '\n']],
    ['[^a-z]{2}', ['éé', '\n\n', 'A€'], ['é', 'aé']],
    ['[é-ü]', ['é', 'ü', 'ö'], ['è', 'ý', 'e']],
    ['[[:alpha:]_]\\d\\.', ['_1.', 'A9.'], ['é1.', 'a١.']],
    ['\\x41\\x{20AC}\\101\\t', ['A€A\t'], []],
    ['[^\\x00-\\x{10FFFF}]', [], ['', 'a', '\n', '😀']],
    ['(?P<name>a)(?<other>b)(c)', ['abc'], []],
  ] as const) {
    for (const one of met) t.ok(matches(compile(text), one), `${text}: ${JSON.stringify(one)}`);
    for (const one of missed) t.notOk(matches(compile(text), one), `${text}: not ${JSON.stringify(one)}`);
  }
  const bytes = compile('.*');
  for (const no of [[0xff], [0x80], [0xc3], [0x61, 0xc3, 0x28]]) t.notOk(matches(bytes, Uint8Array.from(no)), `${no}`);
});

t.test('as RE2 says (re2.txt)', async (t) => {
  const decoded = (text: string) =>
    Buffer.from(
      text.replace(/%(..)/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
      'latin1',
    );
  const file = fileURLToPath(new URL('../../../test/regex/re2.txt', import.meta.url));
  const faults: string[] = [];
  let [texts, regex, dfa]: [number, string, ReturnType<typeof compile> | undefined] = [0, '', undefined];
  for (const line of readFileSync(file, 'latin1').trimEnd().split('\n')) {
    const [sign, content] = [line[0]!, line.slice(2)];
    if (sign === '?' || sign === '!') {
      regex = decoded(content).toString();
      dfa = tryCompile(regex);
      if (!dfa !== (sign === '!')) faults.push(line);
    } else if (dfa && matches(dfa, decoded(content)) !== (sign === '+')) faults.push(`${regex}: ${line}`);
    texts++;
  }
  t.same(faults, []);
  t.ok(texts > 1000, `${texts} lines`);
});

/** undefined: RE2 refuses it. @throws if it is only not supported */
function tryCompile(text: string) {
  try {
    return compile(text);
  } catch (error) {
    if (!(error instanceof AgentError) || / supported/.test(error.message)) throw error;
    return undefined;
  }
}

t.test('as re2js says, texts of any syntax', async (t) => {
  let [both, refused] = [0, 0];
  fc.assert(
    fc.property(anyRegex, fc.array(anyText, { maxLength: 20 }), (text, texts) => {
      let dfa: ReturnType<typeof compile> | undefined;
      try {
        dfa = tryCompile(text);
      } catch (error) {
        if (error instanceof AgentError) return;
        throw error;
      }
      let oracle: RE2JS | undefined;
      try {
        oracle = RE2JS.compile(text);
      } catch {}
      if (!dfa !== !oracle) throw new Error(`is ${dfa ? '' : 'not '}taken`);
      if (!dfa || !oracle) {
        refused++;
        return;
      }
      both++;
      const { matching, missing } = samples(dfa);
      for (const one of [...texts, ...matching, ...missing])
        if (matches(dfa, one) !== oracle.matcher(one).matches()) throw new Error(`differs at ${JSON.stringify(one)}`);
    }),
    { numRuns: 1000 },
  );
  t.comment(`${both} compared, ${refused} refused by both`);
  t.ok(both > 100 && refused > 100);
});

t.test('as JavaScript says, what means the same there', async (t) => {
  const text = fc.array(fc.constantFrom(...'ab/é.0\n'), { maxLength: 6 }).map((all) => all.join(''));
  fc.assert(
    fc.property(common, fc.boolean(), fc.array(text, { maxLength: 20 }), (source, dotAll, texts) => {
      const dfa = compile(`${dotAll ? '(?s)' : ''}${source}`);
      const oracle = new RegExp(`^(?:${source})$`, dotAll ? 'su' : 'u');
      const { matching, missing } = samples(dfa);
      // JavaScript's dot misses these, too.
      const others = [...matching, ...missing].filter((one) => !/[\r\u2028\u2029]/.test(one) && one.length < 12);
      for (const one of [...texts, ...others])
        if (matches(dfa, one) !== oracle.test(one)) throw new Error(`differs at ${JSON.stringify(one)}`);
    }),
    { numRuns: 500 },
  );
  t.pass();
});

t.test('a table is the smallest, and the same for the same language', async (t) => {
  for (const [a, b] of [
    ['a|b|c', '[a-c]'],
    ['(a*)*', 'a*'],
    ['(?:ab)+', 'ab(?:ab)*'],
    ['.|\\n', '(?s).'],
    ['a{2,4}', 'aa|aaa|a{4}'],
    ['(x+x+)+y', 'x{2,}y'],
    ['a$b', '[^\\x00-\\x{10FFFF}]'],
    ['\\x{80}|[\\x{81}-\\x{7ff}]|[\\x{800}-\\x{10ffff}]', '[^\\x00-\\x7f]'],
  ] as const)
    t.same(compile(a), compile(b), `${a} and ${b}`);
  fc.assert(
    fc.property(common, (source) => {
      const dfa = compile(source);
      const faults = formFaults(dfa);
      if (faults.length > 0) throw new Error(faults.join());
      for (const same of [`(${source}){1}|[^\\x00-\\x{10ffff}]`, `(?:${source})(?:${source}){0}`])
        if (JSON.stringify(compile(same)) !== JSON.stringify(dfa)) throw new Error(`is not the same as ${same}`);
    }),
    { numRuns: 200 },
  );
});
