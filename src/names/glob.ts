/** Patterns in queries for names: `*` stands for any characters, also dots, as in Hubble's filters of names. */
import { AgentError } from '../errors.js';

const MAX_LENGTH = 255;
/** The time for one name grows with each star. */
const MAX_STARS = 8;

/** Makes a test for names in lower case. @param field for the message @throws AgentError USAGE */
export function globTest(pattern: string, field: string): (name: string) => boolean {
  const text = pattern.trim().toLowerCase().replace(/\.$/, '').replace(/\*+/g, '*');
  const parts = text.split('*');
  if (text.length > MAX_LENGTH || !/^[-.0-9_a-z*?]+$/.test(text) || parts.length - 1 > MAX_STARS) {
    throw new AgentError('USAGE', `${field}: "${pattern}" is not a name, in which * is for anything`, {
      where: { field },
      ...(parts.length - 1 > MAX_STARS ? { hint: `at most ${MAX_STARS} stars` } : {}),
    });
  }
  const [first = '', ...rest] = parts;
  const last = rest.pop();
  if (last === undefined) return (name) => name === text;
  return (name) => {
    if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
    let at = first.length;
    for (const part of rest) {
      const found = name.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return at <= name.length - last.length;
  };
}
