/**
 * What each language's names mean, written a second time as regular expressions from the languages' documents: the three engines
 * share the translation to patterns, so none of them would see a fault in it.
 */
import t from 'tap';
import { calicoDomain, ciliumPattern, domainName, exactName, gkePattern } from '../../src/dialects/base/names.js';
import { acceptsOf, matcherOf } from '../../src/image/names.js';
import { matchesName, nameAtom } from '../../src/names/pattern.js';
import * as domains from './objects/domains.js';
import { seeded } from './random.js';

const ROUNDS = Number(process.env.FUZZ_ROUNDS ?? 1500);
const random = seeded();

const BYTE = '[-a-z0-9_]';
const LABELS = `(?:${BYTE}+\\.)*${BYTE}+`;
/** Lower case, no final dot. */
const plain = (text: string) => text.toLowerCase().replace(/\.$/, '');
const quoted = (text: string) => text.replaceAll('.', '\\.');
/** `*` within a label is anything but a dot, also nothing. */
const within = (text: string) => quoted(text).replaceAll(/\*+/g, `${BYTE}*`);
/** Every name, and the root. */
const EVERY = `(?:${LABELS})?`;

interface Language {
  /** A text as it may stand in a policy. */
  readonly text: () => string;
  readonly read: (text: string, field: string, report: () => void) => string | undefined;
  readonly meaning: (text: string) => string;
}

const LANGUAGES: Readonly<Record<string, Language>> = {
  'a whole name': { text: () => domains.exactName(random), read: exactName, meaning: (text) => quoted(plain(text)) },
  'matchPattern of Cilium': {
    text: () => domains.ciliumName(random).matchPattern ?? '*.example',
    read: ciliumPattern,
    meaning: (text) => {
      const name = plain(text);
      if (/^\*+$/.test(name)) return EVERY;
      // Two stars or more that are the whole first label: any number of labels, at least one.
      const [first = '', ...rest] = name.split('.');
      return /^\*\*+$/.test(first) ? `${LABELS}\\.${within(rest.join('.'))}` : within(name);
    },
  },
  'pattern of GKE': {
    text: () => domains.gkeName(random).pattern ?? '*.example',
    read: gkePattern,
    meaning: (text) => (/^\*+$/.test(plain(text)) ? EVERY : within(plain(text))),
  },
  'domainNames of ClusterNetworkPolicy and AWS': {
    text: () => domains.domainName(random),
    read: domainName,
    meaning: (text) => {
      const name = plain(text);
      return name.startsWith('*.') ? `${LABELS}\\.${quoted(name.slice(2))}` : quoted(name);
    },
  },
  'domains of Calico': {
    text: () => domains.calicoDomain(random),
    read: calicoDomain,
    meaning: (text) => quoted(plain(text)).replace('*', LABELS),
  },
};

for (const [name, { text, read, meaning }] of Object.entries(LANGUAGES)) {
  t.test(`${name}, FUZZ_SEED=${random.seed}`, async (t) => {
    let [read0, matched, missed] = [0, 0, 0];
    const wrong: string[] = [];
    for (let n = 0; n < ROUNDS; n++) {
      const written = text();
      const pattern = read(written, 'field', () => undefined);
      if (pattern === undefined) continue;
      read0++;
      const means = new RegExp(`^${meaning(written)}$`);
      const matcher = matcherOf([nameAtom(pattern)]);
      for (let i = 0; i < 8; i++) {
        const asked = domains.nameFor(random, [written]);
        const should = means.test(asked) && /^[-a-z0-9_.]*$/.test(asked);
        if (should) matched++;
        else missed++;
        const said = [matchesName(pattern, asked), (acceptsOf(matcher, asked)?.names.length ?? 0) > 0];
        if (said.some((one) => one !== should)) wrong.push(`${written} (${pattern}) ${asked}: ${said}, not ${should}`);
      }
    }
    t.same(wrong.slice(0, 5), []);
    t.ok(read0 > ROUNDS * 0.8, `${read0} can be read`);
    t.ok(matched > ROUNDS && missed > ROUNDS, `${matched} names match, ${missed} do not`);
  });
}
