/** Reads a recommendation as an agent says it: JSON of a program that may be of another version, or of somebody else. */
import { Ajv } from 'ajv';
import { AgentError } from '../errors.js';
import type { RecommendResponse } from '../proto/edges.js';
import type { Recommendation } from './base/types.js';

const TEXT = { type: 'string' };
const TEXTS = { type: 'array', items: TEXT };
const COUNT = { type: 'number', minimum: 0 };

/** An object with these members, and others. @param optional members that older versions do not say */
function object(properties: Readonly<Record<string, object>>, ...optional: string[]): object {
  const required = Object.keys(properties).filter((name) => !optional.includes(name));
  return { type: 'object', properties, required };
}

function list(items: object): object {
  return { type: 'array', items };
}

const CHANGE = object({ to: TEXT, port: TEXT, was: TEXT, is: TEXT, connections: COUNT });
const EVIDENCE = object({
  ...{ to: TEXT, protocol: COUNT, port: TEXT, connections: COUNT, bytes: COUNT, days: COUNT, of: COUNT },
  ...{ first: TEXT, last: TEXT, isNew: { type: 'boolean' }, denied: { type: 'boolean' } },
});
const LEFT_OUT = object(
  { to: TEXT, port: TEXT, why: TEXT, connections: COUNT, drops: COUNT, days: COUNT, last: TEXT, hint: TEXT },
  'hint',
);
const REPLAY = object({
  ...{ edges: COUNT, closed: list(CHANGE), opened: list(CHANGE), more: COUNT, unknown: COUNT, beyond: TEXTS },
  ...{ misses: TEXTS, learnedDays: COUNT, heldOutDays: COUNT, findings: TEXTS },
});
const WORKLOAD = object(
  {
    ...{ workload: TEXT, kind: TEXT, state: TEXT, reason: TEXT, refused: TEXT, days: COUNT, of: COUNT },
    rules: list(object({ to: TEXT, ports: TEXTS, evidence: list(EVIDENCE), beyond: TEXTS })),
    ...{ leftOut: list(LEFT_OUT), leftOutMore: COUNT, warnings: TEXTS, policies: COUNT },
    ...{ objects: list({ type: 'object' }), yaml: TEXT, replay: REPLAY },
  },
  ...['refused', 'policies'],
);
const isRecommendation = new Ajv().compile(
  object({ language: TEXT, since: TEXT, until: TEXT, days: COUNT, workloads: list(WORKLOAD), warnings: TEXTS }),
);

/** @throws AgentError AGENT if it is none */
export function readRecommendation({ json = '' }: RecommendResponse): Recommendation {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw unread('it is no JSON');
  }
  if (isRecommendation(value)) return value as Recommendation;
  const [fault] = isRecommendation.errors ?? [];
  throw unread(`${fault?.instancePath.slice(1).replaceAll('/', '.') || 'it'} ${fault?.message ?? 'is something else'}`);
}

function unread(why: string): AgentError {
  return new AgentError('AGENT', `the agent's recommendation cannot be read: ${why}`, {
    hint: 'agents of the same version are understood',
  });
}
