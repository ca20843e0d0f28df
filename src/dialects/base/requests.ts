/** What the languages share of what they say of HTTP requests. */
import { AgentError } from '../../errors.js';
import { tableOf } from '../../regex/match.js';
import type { Report } from './names.js';

/** Letters of methods and names of headers (RFC 9110, 5.6.2). */
const TOKEN = /^[-!#$%&'*+.^_`|~0-9A-Za-z]+$/;

/** Whether it can be the method of a request, or the name of a header. */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

/** Whether it is a regular expression that can be enforced. If it is not, that is an error. */
export function checkRegex(text: string, field: string, report: Report): boolean {
  try {
    tableOf(text);
    return true;
  } catch (e) {
    if (!(e instanceof AgentError)) throw e;
    report({ severity: 'error', field, message: e.message, ...(e.hint === undefined ? {} : { hint: e.hint }) });
    return false;
  }
}
