/** Reads bodies of requests, and writes answers. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { AgentError, isOfAsker } from '../../errors.js';
import { SignedOut } from '../access/viewer.js';
import type { Fault } from '../wire/messages.js';

/** An answer that is no success. */
export class HttpError extends Error {
  readonly status: number;
  readonly fault: Fault;

  constructor(status: number, error: string, more: Omit<Fault, 'error'> = {}) {
    super(error);
    this.status = status;
    this.fault = { error, ...more };
  }
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value));
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': body.length });
  response.end(body);
}

/** Answers with an error. @returns whether it was one of those that are expected */
export function sendFault(response: ServerResponse, e: unknown): boolean {
  const { status, fault, expected } = faultOf(e);
  // What is left of its body would be taken for the next request.
  if (!response.req.complete) response.shouldKeepAlive = false;
  if (response.headersSent) response.destroy();
  else sendJson(response, status, fault);
  return expected;
}

function faultOf(e: unknown): { status: number; fault: Fault; expected: boolean } {
  if (e instanceof HttpError) return { status: e.status, fault: e.fault, expected: true };
  if (e instanceof SignedOut) return { status: 401, fault: { error: e.message, signIn: true }, expected: true };
  if (e instanceof AgentError) {
    const { field, object } = e.where;
    const fault = {
      error: e.message,
      ...(e.hint === undefined ? {} : { hint: e.hint }),
      ...(field === undefined ? {} : { field }),
      ...(object === undefined ? {} : { object }),
    };
    return {
      status: isOfAsker(e) ? 400 : 502,
      fault,
      expected: true,
    };
  }
  return { status: 500, fault: { error: 'an error in this server: its log has it' }, expected: false };
}

/**
 * Reads a JSON body.
 * @param most bytes
 * @throws HttpError 413, 415, 400
 */
export async function readJson(request: IncomingMessage, most: number): Promise<unknown> {
  const type = request.headers['content-type'] ?? '';
  // A form of another page cannot send this type without being asked first.
  if (!/^application\/json\s*(;|$)/i.test(type)) throw new HttpError(415, 'the body must be application/json');
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > most) throw new HttpError(413, `the body has more than ${most} bytes`);
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch {
    throw new HttpError(400, 'the body is not JSON');
  }
}
