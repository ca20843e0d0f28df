/**
 * squid.conf. A connection is allowed if every list of rules that judges it allows it: http_access and the lists that
 * only narrow it, and ssl_bump, where it ends connections. In each the first line whose acls all match decides, and if
 * none does, the opposite of the last.
 */
import { AgentError } from '../../errors.js';
import { allOf, ANYTHING, type Condition, doubtful, only, rulesOf } from '../base/conditions.js';
import { bound, MAX_RULES } from '../base/limits.js';
import {
  andBoxes,
  type Assumed,
  type Effect,
  type Listing,
  type ListRule,
  type Place,
  Remarks,
} from '../base/model.js';
import { TCP_PORTS } from '../base/spans.js';
import { TUNNEL } from '../base/speech.js';
import { Acls } from './acls.js';
import { type Line, squidLines } from './lines.js';

/** Lists that must allow a request, too. */
const NARROWING = ['adapted_http_access', 'http_access2', 'miss_access'];

/** ssl_bump's actions that decide. `peek` and `stare` only ask for more, and are passed over when nothing is left. */
const BUMP: ReadonlyMap<string, Effect> = new Map<string, Effect>([
  ['splice', 'allow'],
  ['none', 'allow'],
  ['bump', 'allow'],
  ['server-first', 'allow'],
  ['client-first', 'allow'],
  ['terminate', 'deny'],
  ['err', 'deny'],
]);

/** @throws AgentError */
export function readSquid(files: readonly string[], assumed: Assumed): Listing {
  const refused = new Remarks();
  const notes = new Remarks();
  const acls = new Acls(assumed, notes);
  const lists = new Map<string, Line[]>();
  const [main = ''] = files;
  for (const line of files.flatMap((file) => squidLines(file))) {
    const [directive = ''] = line.words;
    if (directive === 'acl') {
      const fault = acls.add(line);
      if (fault !== undefined) fail(line.where, fault);
    } else if (['http_access', 'ssl_bump', ...NARROWING].includes(directive)) {
      const list = lists.get(directive);
      if (list) list.push(line);
      else lists.set(directive, [line]);
    }
  }
  let listing = accessList(lists.get('http_access') ?? [], 'http_access', acls, main, refused);
  for (const directive of NARROWING) {
    const lines = lists.get(directive);
    if (lines) listing = both(listing, accessList(lines, directive, acls, main, refused));
  }
  const bump = lists.get('ssl_bump');
  if (bump) listing = withBump(listing, bump, acls, refused, notes);
  notes.say(
    { file: main },
    'Squid judges the name in a request or in a TLS handshake. The policies ask for the same in what a pod itself sends, without a proxy, and for an address that it learned for the name from DNS. Narrower: a pod must look up the name itself; a tunnel that carries no TLS, HTTP/2 without TLS, and what Squid carries for a pod (caching, ICP, UDP) are not allowed',
  );
  return {
    about: 'connections',
    rules: listing.rules,
    otherwise: listing.otherwise,
    last: listing.last,
    universe: TCP_PORTS,
    refused: refused.all,
    notes: notes.all,
    origins: acls.origins,
  };
}

type Rules = Pick<Listing, 'rules' | 'otherwise' | 'last'>;

function fail({ file, line }: Place, message: string): never {
  throw new AgentError('MANIFEST', `${file}:${line} ${message}`, { where: { file, ...(line ? { line } : {}) } });
}

function accessList(lines: readonly Line[], directive: string, acls: Acls, file: string, refused: Remarks): Rules {
  const rules: ListRule[] = [];
  let last: { action: Effect; where: Place } | undefined;
  for (const { words, where } of lines) {
    const [, action, ...names] = words;
    if (action !== 'allow' && action !== 'deny') fail(where, `${directive} must be followed by allow or deny`);
    rules.push(...rulesOf(action, conditionOf(names, where, acls), where, refused));
    bound(rules.length, MAX_RULES, 'rules', where.file);
    last = { action, where };
  }
  if (!last) return { rules, otherwise: 'deny', last: { file } };
  return { rules, otherwise: last.action === 'allow' ? 'deny' : 'allow', last: last.where };
}

function conditionOf(names: readonly string[], where: Place, acls: Acls): Condition {
  // Squid passes over such a line, with a warning.
  if (names.length === 0) return doubtful('has no acl');
  try {
    return acls.allOf(names);
  } catch (e) {
    if (!(e instanceof AgentError) || e.code !== 'TOO_LARGE') throw e;
    throw new AgentError('TOO_LARGE', `${where.file}:${where.line} ${e.message}`, {
      where: { file: where.file },
      hint: 'write it as several lines',
    });
  }
}

function withBump(listing: Rules, lines: readonly Line[], acls: Acls, refused: Remarks, notes: Remarks): Rules {
  const rules: ListRule[] = [];
  for (const { words, where } of lines) {
    const [, word = '', ...names] = words;
    if (word === 'peek' || word === 'stare') continue;
    const action = BUMP.get(word);
    if (action === undefined) fail(where, `ssl_bump ${word.slice(0, 20)} is not known`);
    if (word === 'bump' || word.endsWith('-first'))
      notes.say(where, 'what Squid decrypts, it judges again; a policy sees addresses and ports alone');
    // Plain requests are not its concern.
    const condition = allOf([conditionOf(names, where, acls), only({ speech: TUNNEL })]);
    rules.push(...rulesOf(action, condition, where, refused));
    bound(rules.length, MAX_RULES, 'rules', where.file);
  }
  const where = lines.at(-1)!.where;
  if (!rules.some((rule) => rule.action === 'deny')) return listing;
  return both(listing, { rules, otherwise: 'allow', last: where });
}

/** What both lists allow: the first pair of rules that match decides. */
function both(a: Rules, b: Rules): Rules {
  const whole = (list: Rules): ListRule[] => {
    return [...list.rules, { ...ANYTHING, action: list.otherwise, ports: TCP_PORTS, where: list.last }];
  };
  const rules: ListRule[] = [];
  for (const one of whole(a)) {
    if (one.action === 'deny') {
      rules.push(one);
      continue;
    }
    for (const other of whole(b)) {
      const box = andBoxes(one, other);
      if (box) rules.push({ action: other.action, ...box, where: other.action === 'deny' ? other.where : one.where });
      bound(rules.length, MAX_RULES, 'pairs of rules', one.where.file);
    }
  }
  return { rules, otherwise: 'deny', last: b.last };
}
