/**
 * Translates the names of each policy language to canonical patterns (src/names/pattern.ts). Wildcards differ between
 * languages, so each language has a function of its own. What is no name is reported as an error, by its field.
 */
import { EVERY_NAME } from '../../names/pattern.js';
import type { Peer } from '../../ir/peers.js';
import type { Fault } from './dialect.js';
import { OUTSIDE } from './outside.js';

export type Report = (fault: Fault) => void;

/** Limits of DNS (RFC 1035), without the final dot. */
const MAX_NAME = 253;
const MAX_LABEL = 63;

const NAME = /^[-\w]+(\.[-\w]+)*\.?$/;
const PATTERN = /^[-\w*]+(\.[-\w*]+)*\.?$/;
/** DomainName in network-policy-api, apis/v1alpha2, without the slip `A-z` of its regular expression. */
const DOMAIN = /^(\*\.)?([a-z\d]([-\w]*[a-z\d])?\.)+[a-z\d]([-\w]*[a-z\d])?\.?$/i;

/**
 * A whole name without wildcards: Cilium's matchName, GKE's name, the add-on's fqdns.
 * @returns undefined, with an error, if it is none
 */
export function exactName(text: string, field: string, report: Report): string | undefined {
  if (isShort(text) && NAME.test(text)) return checked(plain(text), text, field, report);
  return wrong(
    text,
    'name',
    'use labels of letters, digits, "-" and "_", with single dots between them',
    field,
    report,
  );
}

/**
 * Cilium's matchPattern (pkg/fqdn/matchpattern): `*` is zero or more characters of a label. Leading stars that are a
 * label of their own, two or more, are one or more labels. Any later run of stars is one `*`. Stars alone are every
 * name.
 * @returns undefined, with an error, if it is none
 */
export function ciliumPattern(text: string, field: string, report: Report): string | undefined {
  return starPattern(text, '**', field, report);
}

/**
 * GKE's pattern. Its engine is Cilium's, from before leading stars were several labels: they are one `*` as well.
 * @returns undefined, with an error, if it is none
 */
export function gkePattern(text: string, field: string, report: Report): string | undefined {
  return starPattern(text, '*', field, report);
}

/**
 * An entry of Cilium's serverNames: `*` is zero or more characters of a label, wherever it stands; the label `**` is one
 * or more labels; `*` alone is any name that is said. The root is none of them: who says no name says nothing.
 * @returns undefined, with an error, if it is none
 */
export function ciliumServerName(text: string, field: string, report: Report): string | undefined {
  if (!isShort(text) || !PATTERN.test(text) || text.endsWith('.') || /[^.]\*\*|\*\*[^.]/.test(text)) {
    const hint = 'write api.example.com, *.example.com for one label, **.example.com for any number; no final dot';
    return wrong(text, 'pattern of server names', hint, field, report);
  }
  return checked(text === '*' ? EVERY_NAME : text.toLowerCase(), text, field, report);
}

/** @param leading what a first label of two or more stars stands for */
function starPattern(text: string, leading: '*' | '**', field: string, report: Report): string | undefined {
  if (!isShort(text) || !PATTERN.test(text)) {
    const hint = 'use letters, digits, "-", "_" and "*", with single dots between them';
    return wrong(text, 'pattern of names', hint, field, report);
  }
  const stars = plain(text);
  if (/^\*+$/.test(stars)) return EVERY_NAME;
  const [first, ...rest] = stars.split('.') as [string, ...string[]];
  const single = (label: string) => label.replaceAll(/\*+/g, '*');
  const begin = /^\*{2,}$/.test(first) ? leading : single(first);
  return checked([begin, ...rest.map(single)].join('.'), text, field, report);
}

/**
 * A domainNames entry of ClusterNetworkPolicy, AdminNetworkPolicy, or AWS' policies: two labels or more; a leading `*.`
 * is one or more labels, never none.
 * @returns undefined, with an error, if it is none
 */
export function domainName(text: string, field: string, report: Report): string | undefined {
  if (isShort(text) && DOMAIN.test(text)) return checked(plain(text).replace(/^\*/, '**'), text, field, report);
  const hint = 'write example.com, or *.example.com for what is below it';
  return wrong(text, 'domain name', hint, field, report);
}

/**
 * An entry of Calico's domains and allowedEgressDomains: at most one `*`, which is a whole component and not the last,
 * and stands for one or more labels.
 * @returns undefined, with an error, if it is none
 */
export function calicoDomain(text: string, field: string, report: Report): string | undefined {
  const hint = 'write example.com, or one "*" in place of a whole component, but not of the last: *.example.com';
  if (!isShort(text) || !PATTERN.test(text)) return wrong(text, 'domain name', hint, field, report);
  const labels = plain(text).split('.');
  const starred = labels.filter((label) => label.includes('*'));
  if (starred.length > 1 || (starred[0] ?? '*') !== '*' || labels.at(-1) === '*')
    return wrong(text, 'domain name', hint, field, report);
  return checked(labels.map((label) => (label === '*' ? '**' : label)).join('.'), text, field, report);
}

/** Whether it is short enough to be examined. A name has a final dot more at most. */
function isShort(text: string): boolean {
  return text.length <= MAX_NAME + 2;
}

function plain(text: string): string {
  return text.toLowerCase().replace(/\.$/, '');
}

/** Names that nobody can have match nothing. That is no fault of the rule's other names, so it is a warning. */
function checked(pattern: string, text: string, field: string, report: Report): string {
  const least = pattern.replaceAll('*', '').length;
  const long = pattern.split('.').some((label) => label.replaceAll('*', '').length > MAX_LABEL);
  if (!long && least <= MAX_NAME) return pattern;
  const why = long ? `a label of more than ${MAX_LABEL} characters` : `more than ${MAX_NAME} characters`;
  const message = `${JSON.stringify(text)} has ${why}: no name has, it matches nothing`;
  report({ severity: 'warning', field, message, hint: 'correct it, or remove it' });
  return pattern;
}

function wrong(text: string, what: string, hint: string, field: string, report: Report): undefined {
  const shown = isShort(text) ? JSON.stringify(text) : `${JSON.stringify(text.slice(0, 40))}…`;
  report({ severity: 'error', field, message: `${shown} is not a ${what}`, hint });
}

/** The addresses that were learned for these names. No patterns: no peer. */
export function namesPeers(patterns: readonly string[]): Peer[] {
  return patterns.length === 0 ? [] : [{ kind: 'names', patterns: unique(patterns) }];
}

/**
 * The same without addresses of pods and nodes, which no name means in Cilium, GKE and Calico.
 * @param also further peers that the address must match
 */
export function outsideNames(patterns: readonly string[], aliases = false, also: readonly Peer[] = []): Peer[] {
  if (patterns.length === 0) return [];
  const names: Peer = { kind: 'names', patterns: unique(patterns), ...(aliases ? { aliases: true } : {}) };
  return [{ kind: 'all', of: [names, OUTSIDE, ...also] }];
}

function unique(patterns: readonly string[]): string[] {
  return [...new Set(patterns)];
}
