/** Errors of requests to the API. */

/** A request without an answer, or with an error as the answer. */
export class KubeError extends Error {
  override readonly name = 'KubeError';

  /**
   * @param status HTTP status; 0: no answer
   * @param reason Status.reason of the answer. Without an answer: the error's code (ECONNREFUSED), or Timeout, Idle,
   * Aborted, Malformed, TooLarge, Credentials
   * @param retryAfterMs minimum delay that the server asks for, in milliseconds
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

/** Maximum length of a message, suitable for a log line and for `status`. */
const MAX_MESSAGE = 300;

/**
 * Converts a Kubernetes Status to an error. For any other answer (such as a proxy's page), the first line is the
 * message.
 * @param what the request, for the message
 */
export function answerError(what: string, status: number, retryAfter: string | undefined, body: string): KubeError {
  let fields: { reason?: unknown; message?: unknown } = {};
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === 'object' && parsed !== null) fields = parsed;
  } catch {
    fields = { message: body.trim().split('\n')[0] };
  }
  const message = typeof fields.message === 'string' ? fields.message.slice(0, MAX_MESSAGE) : '';
  const reason =
    typeof fields.reason === 'string' && fields.reason !== '' ? fields.reason.slice(0, 60) : `HTTP ${status}`;
  return new KubeError(status, reason, `${what}: ${status} ${message || reason}`, retryAfterMs(retryAfter));
}

/** RFC 9110 also allows a date; Kubernetes sends seconds. */
function retryAfterMs(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,6}$/.test(header.trim()) ? Number(header) * 1000 : undefined;
}

/** Whether the error is the abort by a signal. */
export function isAborted(e: unknown): boolean {
  return e instanceof Error && e.name === 'AbortError';
}

/** Converts an error of the network to a KubeError. */
export function networkError(e: unknown, what: string): KubeError {
  if (isAborted(e)) return new KubeError(0, 'Aborted', `${what}: given up`);
  const { code, message } = e as NodeJS.ErrnoException;
  return new KubeError(0, code ?? 'Network', `${what}: ${message}`);
}
