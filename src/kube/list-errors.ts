/** What a request can end with. */

/** A request that was not answered, or answered with an error. */
export class KubeError extends Error {
  override readonly name = 'KubeError';

  /**
   * @param status HTTP; 0: no answer
   * @param reason Status.reason of the answer; without an answer: the error's code (ECONNREFUSED), or Timeout, Idle, Aborted,
   *   Malformed, TooLarge, Credentials
   * @param retryAfterMs how long the server wants to be left alone
   */
  constructor(
    readonly status: number,
    readonly reason: string,
    message: string,
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }
}

/** Long enough to tell, short enough for a log line and for `status`. */
const MAX_MESSAGE = 300;

/**
 * Reads a Kubernetes Status; an answer that is none (a proxy's page) gives its first line.
 * @param what the request, for the message
 */
export function answerError(what: string, status: number, retryAfter: string | undefined, body: string): KubeError {
  let said: { reason?: unknown; message?: unknown } = {};
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === 'object' && parsed !== null) said = parsed;
  } catch {
    said = { message: body.trim().split('\n')[0] };
  }
  const message = typeof said.message === 'string' ? said.message.slice(0, MAX_MESSAGE) : '';
  const reason = typeof said.reason === 'string' && said.reason !== '' ? said.reason.slice(0, 60) : `HTTP ${status}`;
  return new KubeError(status, reason, `${what}: ${status} ${message || reason}`, retryAfterMs(retryAfter));
}

/** RFC 9110 also allows a date; Kubernetes sends seconds. */
function retryAfterMs(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,6}$/.test(header.trim()) ? Number(header) * 1000 : undefined;
}

export function isAborted(e: unknown): boolean {
  return e instanceof Error && e.name === 'AbortError';
}

export function networkError(e: unknown, what: string): KubeError {
  if (isAborted(e)) return new KubeError(0, 'Aborted', `${what}: given up`);
  const { code, message } = e as NodeJS.ErrnoException;
  return new KubeError(0, code ?? 'Network', `${what}: ${message}`);
}
