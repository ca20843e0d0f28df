/**
 * Translates the field `http` of egress rules. Calico has it for ingress only, where what is not HTTP matches too; in
 * egress rules it is an extension, and matches requests alone.
 */
import type { HttpMatch, PortMatch } from '../../ir/types.js';
import { TCP } from '../../net/protocol.js';
import { literal } from '../../regex/literal.js';
import type { Report } from '../base/names.js';
import { isToken } from '../base/requests.js';

/** HTTPMatch, with a valid shape. */
export interface HttpSpec {
  readonly methods?: readonly string[];
  readonly paths?: readonly PathSpec[];
}

interface PathSpec {
  readonly exact?: string;
  readonly prefix?: string;
}

/** As many as Calico takes of each (validator.go). */
const MAX = 20;

/** The requests that a rule means. @param path field path of the rule */
export function readHttp(spec: HttpSpec, action: string, path: string, report: Report): readonly HttpMatch[] {
  const error = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  const { methods = [], paths = [] } = spec;
  const at = `${path}.http`;
  if (action !== 'allow') error(at, 'is for rules that allow', 'give the rule the action Allow, or remove it');
  for (const [what, list] of Object.entries({ methods, paths }))
    if (list.length > MAX) error(`${at}.${what}`, `has ${list.length} items; Calico takes ${MAX}`, 'split the rule');
  methods.forEach((method, i) => {
    if (!isToken(method)) error(`${at}.methods[${i}]`, `${JSON.stringify(method)} is no method`, 'write GET, or "*"');
  });
  const any = methods.length === 0 || methods.includes('*');
  const method = any ? {} : { method: methods.map(literal).join('|') };
  const texts = paths.map((one, i) => readPath(one, `${at}.paths[${i}]`, error));
  const message = 'Calico itself has HTTP in ingress rules only: here only requests of HTTP/1 match, nothing else does';
  report({ severity: 'warning', field: at, message, hint: 'keep it if only this agent reads the policy' });
  if (paths.length === 0) return [method];
  return texts.map((text) => ({ ...method, path: text }));
}

/** The path is compared as it is sent, up to its query. */
function readPath({ exact, prefix }: PathSpec, field: string, error: (...said: [string, string, string]) => void) {
  const text = exact ?? prefix ?? '';
  if ((exact === undefined) === (prefix === undefined)) {
    error(field, exact === undefined ? 'names no path' : 'has exact and prefix', 'write exact, or prefix');
    return '';
  }
  const at = `${field}.${exact === undefined ? 'prefix' : 'exact'}`;
  if (!isCanonical(text)) {
    const hint = 'write it as clients send it: from "/" on, without a query, "//", "/../" or ";"';
    error(at, `${JSON.stringify(text)} is no path that a request can have`, hint);
  }
  if (exact !== undefined) return `${literal(text)}(\\?.*)?`;
  return text.endsWith('/') ? `${literal(text)}.*` : `${literal(text)}([/?].*)?`;
}

/** Whether a request whose path is unambiguous can have it: others are denied before any rule. */
function isCanonical(path: string): boolean {
  if (!/^\/[-A-Za-z0-9._~!$&'()*+,=:@%/]*$/.test(path) || /%(?![0-9A-Fa-f]{2})|%2[eEfF]|%5[cC]|%00/.test(path))
    return false;
  const [, ...segments] = path.split('/');
  return segments.every((one, i) => one !== '.' && one !== '..' && (one !== '' || i === segments.length - 1));
}

/** The ports of a rule about requests: those of TCP, over which alone they are read. */
export function requestPorts(ports: readonly PortMatch[] | null): PortMatch[] {
  return (ports ?? [{ protocol: null }])
    .filter(({ protocol }) => protocol === null || protocol === TCP)
    .map((match) => ({ ...match, protocol: TCP }));
}
