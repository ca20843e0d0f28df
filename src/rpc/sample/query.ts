/** What a caller of SampleFlows asks for. */
import { createHash } from 'node:crypto';
import { AgentError } from '../../errors.js';
import { compileFilter, wantedKinds } from '../../flow/filter/filter.js';
import type { SampleWants } from '../../flow/hub/sampler.js';
import { encode } from '../../proto/load.js';
import type { SampleFlowsRequest } from '../../proto/messages.js';

const PER_SECOND = { usual: 200, most: 2000 };
const MOST_PAST = 5000;
/** Bytes of a message: its records are some 600 bytes each, but a pod or a policy may have long names and labels. */
const LEAST_BYTES = 64 << 10;
const BYTES_A_RECORD = 2 << 10;
const MOST_BYTES = 4 << 20;

export interface SampleQuery {
  /** As it was sent, with its default, and without `last`. */
  request: SampleFlowsRequest & { per_second: number };
  wants: SampleWants;
  perSecond: number;
  last: number;
  /** Equal for queries that can share a sample. */
  key: string;
}

/** Checks a request. @throws AgentError USAGE naming the field */
export function sampleQueryOf(request: SampleFlowsRequest): SampleQuery {
  const { whitelist = [], blacklist = [], last = 0 } = request;
  const perSecond = request.per_second || PER_SECOND.usual;
  if (perSecond > PER_SECOND.most) throw tooMany('per_second', perSecond, PER_SECOND.most);
  if (last > MOST_PAST) throw tooMany('last', last, MOST_PAST);
  const test = compileFilter(whitelist, blacklist);
  const passes = whitelist.length + blacklist.length > 0 ? test : undefined;
  const live = { whitelist, blacklist, per_second: perSecond };
  const key = createHash('sha256').update(encode('egress.v1.SampleFlowsRequest', live)).digest('base64');
  return { request: live, wants: { passes, kinds: wantedKinds(whitelist) }, perSecond, last, key };
}

/** Most bytes of the records in a message with so many. */
export function mostBytes(records: number): number {
  return Math.min(LEAST_BYTES + records * BYTES_A_RECORD, MOST_BYTES);
}

function tooMany(field: string, given: number, most: number): AgentError {
  return new AgentError('USAGE', `${field}: ${given} are more than ${most} records`, { where: { field } });
}
