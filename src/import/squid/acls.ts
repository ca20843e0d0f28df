/** The acls of a squid.conf as conditions on connections (acl in squid's cf.data.pre, src/acl). */
import { tryParseAddr, tryParseCidr } from '../../net/addr.js';
import { type AddressRange, addressNumber, cidrRange } from '../../tools/ranges.js';
import { allOf, ALWAYS, anyOf, type Condition, doubtful, NEVER, not, only } from '../base/conditions.js';
import { dotted } from '../base/domains.js';
import { bound, MAX_NAMES } from '../base/limits.js';
import type { Assumed, Place, Remarks } from '../base/model.js';
import { type Domain, Region } from '../base/region.js';
import { joinedAddresses, type Range } from '../base/spans.js';
import { TUNNEL } from '../base/speech.js';
import type { Line, Value } from './lines.js';
import { valuesOf } from './lines.js';

interface Acl {
  readonly name: string;
  readonly type: string;
  readonly where: Place;
  readonly flags: Set<string>;
  readonly values: Value[];
  /** The values of each line: all-of means one of its lines. */
  readonly lines: Value[][];
}

/** Acls that Squid defines itself. */
const PREDEFINED: readonly (readonly [string, string, readonly string[]])[] = [
  ['all', 'src', ['all']],
  ['localhost', 'src', ['127.0.0.1/32', '::1']],
  ['to_localhost', 'dst', ['127.0.0.0/8', '0.0.0.0/32', '::1/128', '::/128']],
  ['to_linklocal', 'dst', ['169.254.0.0/16', 'fe80::/10']],
  ['CONNECT', 'method', ['CONNECT']],
  ['manager', 'proto', ['cache_object']],
];

/** What else acls ask for, for the message. */
const UNSAID: Readonly<Record<string, string>> = {
  src: 'who asks, by address',
  srcdomain: 'who asks, by name',
  srcdom_regex: 'who asks, by name',
  localip: 'the address at which the client came in',
  localport: 'the port at which the client came in',
  myportname: 'the port at which the client came in',
  myip: 'the address at which the client came in',
  myport: 'the port at which the client came in',
  time: 'the time of day',
  proxy_auth: 'the user',
  proxy_auth_regex: 'the user',
  ext_user: 'the user',
  ident: 'the user',
  external: 'a helper program',
  arp: "the client's hardware address",
  url_regex: 'the URL',
  urlpath_regex: 'the URL',
  urllogin: 'the URL',
  dstdom_regex: 'the name by a regular expression',
  'ssl::server_name_regex': 'the name by a regular expression',
  method: 'the method of a request',
  proto: 'the protocol of the URL',
  browser: 'a header of the request',
  req_header: 'a header of the request',
  referer_regex: 'a header of the request',
  req_mime_type: 'a header of the request',
  rep_header: 'the answer',
  rep_mime_type: 'the answer',
  http_status: 'the answer',
  maxconn: 'the number of connections',
  max_user_ip: 'the number of addresses of a user',
  random: 'chance',
  dst_as: 'the AS of the address',
  at_step: 'a step of ssl_bump',
};

const NAMED = new Set(['dstdomain', 'ssl::server_name']);
const OPTIONS = new Set(['-n', '-i', '+i', '-m', '--client-requested', '--server-provided', '--consensus']);
const MAX_DEPTH = 16;

export class Acls {
  /** By their names in lower case: Squid takes `Good` and `good` for one. */
  readonly #acls = new Map<string, Acl>();
  readonly #conditions = new Map<string, Condition>();
  readonly #assumed: Assumed;
  readonly #notes: Remarks;
  /** Where each domain is named. */
  readonly origins = new Map<string, Place>();
  #names = 0;

  constructor(assumed: Assumed, notes: Remarks) {
    this.#assumed = assumed;
    this.#notes = notes;
    for (const [name, type, values] of PREDEFINED) {
      const where: Place = { file: 'squid' };
      const own = values.map((text) => ({ text, where }));
      this.#acls.set(name.toLowerCase(), { name, type, where, flags: new Set(), values: [...own], lines: [own] });
    }
  }

  /** Takes an acl line. @returns why it cannot be one */
  add({ words, where }: Line): string | undefined {
    const [, name, type, ...rest] = words;
    if (name === undefined || type === undefined) return 'has no name or no type';
    let at = 0;
    const flags = new Set<string>();
    while (OPTIONS.has(rest[at] ?? '')) flags.add(rest[at++]!);
    if (rest[at] === '--') at++;
    const values = valuesOf(rest.slice(at), where);
    this.#names += NAMED.has(type) ? values.length : 0;
    bound(this.#names, MAX_NAMES, 'names', where.file);
    const key = name.toLowerCase();
    const known = this.#acls.get(key);
    const acl = known?.where.file === 'squid' && known.type !== type ? undefined : known;
    if (!acl) {
      this.#acls.set(key, { name, type, where, flags, values: [...values], lines: [values] });
      return undefined;
    }
    if (acl.type !== type) return `makes ${name} an acl of another type, ${type}, than it has, ${acl.type}`;
    for (const flag of flags) acl.flags.add(flag);
    for (const value of values) acl.values.push(value);
    acl.lines.push(values);
    return undefined;
  }

  /** All acls of a line together. @param words names, with `!` before those that must not match */
  allOf(words: readonly string[], depth = 0): Condition {
    return allOf(
      words.map((word) => {
        const name = word.replace(/^!+/, '');
        const one = this.#condition(name, depth);
        return (word.length - name.length) % 2 === 1 ? not(one) : one;
      }),
    );
  }

  #condition(name: string, depth: number): Condition {
    const key = name.toLowerCase();
    let condition = this.#conditions.get(key);
    if (!condition) this.#conditions.set(key, (condition = this.#read(name, depth)));
    return condition;
  }

  #read(name: string, depth: number): Condition {
    const acl = this.#acls.get(name.toLowerCase());
    const given = this.#assumed.get(acl?.name ?? name);
    if (given !== undefined) return given ? ALWAYS : NEVER;
    if (!acl) return doubtful(`acl ${name} is not defined`);
    if (depth > MAX_DEPTH) return doubtful(`acl ${name} is made of acls more than ${MAX_DEPTH} deep`);
    switch (acl.type) {
      case 'dstdomain':
      case 'ssl::server_name':
        return this.#names_(acl);
      case 'dst':
        return addresses(acl);
      case 'port':
        return ports(acl);
      case 'src':
        return source(acl);
      case 'method':
        // A packet tells a request from what a tunnel carries, and methods are not told apart here.
        return acl.values.every(({ text }) => text === 'CONNECT') ? only({ speech: TUNNEL }) : unsaid(acl);
      case 'any-of':
        return anyOf(acl.values.map(({ text }) => this.allOf([text], depth + 1)));
      case 'all-of':
        return anyOf(
          acl.lines.map((line) =>
            this.allOf(
              line.map(({ text }) => text),
              depth + 1,
            ),
          ),
        );
      default:
        // Requests for Squid's own pages go to no other server.
        if (acl.name === 'manager' && ['proto', 'url_regex'].includes(acl.type)) return NEVER;
        return unsaid(acl);
    }
  }

  #names_(acl: Acl): Condition {
    this.#tell(acl);
    const domains: Domain[] = [];
    const bad: Value[] = [];
    for (const value of acl.values) {
      const domain = value.text === 'none' ? undefined : dotted(value.text);
      if (domain) {
        domains.push(domain);
        if (!this.origins.has(domain.name)) this.origins.set(domain.name, value.where);
      } else bad.push(value);
    }
    const good = only({ names: Region.of(domains) });
    return bad.length === 0 ? good : anyOf([good, doubtful(badText(acl, bad, 'is not a name'))]);
  }

  #tell({ name, type, flags, where }: Acl): void {
    if (type === 'dstdomain') {
      if (!flags.has('-n'))
        this.#notes.say(
          where,
          `acl ${name} has no -n: Squid also looks for the name of an address that is asked for; a policy does not`,
        );
      return;
    }
    const [flag = ''] = [...flags].filter((f) => f.startsWith('--'));
    const whose =
      flag === '--server-provided'
        ? "the names in the server's certificate"
        : flag === '--client-requested'
          ? 'the name that the client sent'
          : flag === '--consensus'
            ? "the name that the client sent, if the server's certificate agrees"
            : "the name that the client sent, or those in the server's certificate";
    this.#notes.say(
      where,
      `acl ${name}${flag && ` ${flag}`} means ${whose}; a policy means the name that the client sent, and looked up`,
    );
  }
}

function badText({ name, type }: Acl, bad: readonly Value[], what: string): string {
  const [{ text, where }] = bad as [Value];
  const more = bad.length > 1 ? `, and ${bad.length - 1} more` : '';
  const shown = JSON.stringify(text.slice(0, 60));
  return `acl ${name}, ${type}: ${shown} (${where.file}:${where.line}${more}) ${what}`;
}

function unsaid({ name, type }: Acl): Condition {
  const what = Object.hasOwn(UNSAID, type) ? `asks for ${UNSAID[type]}` : 'is of a type that is not known';
  return doubtful(`acl ${name}, ${type}: ${what}, which no policy does`, assume(name));
}

function assume(name: string): string {
  return `--assume ${name}=yes or ${name}=no says that it always or never holds for these pods`;
}

/** Who asks is said by the selector of the policy. The proxy's own machine is never a pod. */
function source(acl: Acl): Condition {
  const texts = acl.values.map(({ text }) => text);
  if (texts.some((text) => ['all', '0.0.0.0/0', '0.0.0.0/0.0.0.0', '0/0'].includes(text))) return ALWAYS;
  if (texts.every((text) => /^(127\.[\d./]+|::1(\/128)?)$/.test(text))) return NEVER;
  return unsaid(acl);
}

function ports(acl: Acl): Condition {
  const ranges: Range[] = [];
  for (const value of acl.values) {
    const found = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(value.text);
    const [lo, hi] = [Number(found?.[1]), Number(found?.[2] ?? found?.[1])];
    if (!found || lo > hi || hi > 65535) return doubtful(badText(acl, [value], 'is not a port'));
    if (hi > 0) ranges.push([Math.max(lo, 1), hi]);
  }
  return only({ ports: { tcp: ranges, udp: [], other: false } });
}

function addresses(acl: Acl): Condition {
  const ranges: AddressRange[] = [];
  const bad: Value[] = [];
  for (const value of acl.values) {
    const found = rangesOf(value.text);
    if (found) ranges.push(...found);
    else bad.push(value);
  }
  const good = only({ addresses: joinedAddresses(ranges) });
  return bad.length === 0 ? good : anyOf([good, doubtful(badText(acl, bad, 'is not an address'))]);
}

/** `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `10.0.0.1-10.0.0.9`, `all`, `ipv4`, `ipv6`. */
function rangesOf(text: string): AddressRange[] | undefined {
  if (text === 'all') return ['0.0.0.0/0', '::/0'].map(cidrRange);
  if (text === 'ipv4') return [cidrRange('0.0.0.0/0')];
  if (text === 'ipv6') return [cidrRange('::/0')];
  const cidr = tryParseCidr(masked(text));
  if (cidr) return [cidrRange(cidr.text)];
  const [lo = '', hi = '', ...rest] = text.split('-');
  if (rest.length > 0 || !tryParseAddr(lo) || !tryParseAddr(hi)) return undefined;
  const [from, to] = [addressNumber(lo), addressNumber(hi)];
  if (from.family !== to.family || from.n > to.n) return undefined;
  return [{ family: from.family, lo: from.n, hi: to.n }];
}

/** A netmask as a length. */
function masked(text: string): string {
  const [address, mask] = text.split('/');
  const number = mask?.includes('.') && tryParseAddr(mask) ? addressNumber(mask).n : undefined;
  if (number === undefined) return text;
  const bits = number.toString(2).padStart(32, '0');
  return /^1*0*$/.test(bits) ? `${address}/${bits.replace(/0/g, '').length}` : text;
}
