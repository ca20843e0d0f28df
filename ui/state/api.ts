/** Asks the server. */
import { batch, signal } from '@preact/signals';
import type { Fault, Session } from '../../src/ui/wire/messages.js';

/** The server's word for what went wrong. */
export class ApiError extends Error {
  readonly status: number;
  readonly fault: Fault;

  constructor(status: number, fault: Fault) {
    super(fault.error);
    this.status = status;
    this.fault = fault;
  }
}

/** Who looks; undefined: not known yet. */
export const session = signal<Session | undefined>(undefined);
/** Why the page cannot be used; undefined: it can. */
export const locked = signal<Fault | undefined>(undefined);
/** It is locked since its session is over, or never was. */
export const isOver = signal(false);

/** Where the key of the session is, which goes with its cookie. */
const KEY = 'egress-page';
/** For browsers in which nothing can be kept: until the page is loaded anew. */
let kept = '';

function keep(key: string): void {
  kept = key;
  try {
    localStorage.setItem(KEY, key);
  } catch {
    // It is kept here.
  }
}

function pageKey(): Record<string, string> {
  let key: string | null = null;
  try {
    key = localStorage.getItem(KEY);
  } catch {
    // It was not kept there either.
  }
  return { 'X-Egress-Page': key ?? kept };
}

/** Begins a session. @throws ApiError */
export async function signIn(token: string): Promise<void> {
  const { key } = await ask<{ key: string }>('login', { token });
  keep(key);
}

/** Posts a question. @throws ApiError */
export async function ask<A>(name: string, body: unknown, signal?: AbortSignal): Promise<A> {
  return (await (await post(name, body, signal)).json()) as A;
}

/** Posts, and leaves the answer to the caller. @throws ApiError */
export async function post(name: string, body: unknown, abort?: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(`/api/${name}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...pageKey() },
      body: JSON.stringify(body),
      ...(abort ? { signal: abort } : {}),
    });
  } catch (e) {
    if (abort?.aborted) throw e;
    throw new ApiError(0, { error: 'the server does not answer', hint: 'does egressctl ui still run?' });
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response: Response): Promise<ApiError> {
  const fault = (await response.json().catch(() => ({ error: `the server says ${response.status}` }))) as Fault;
  const error = new ApiError(response.status, fault);
  if (response.status === 401) {
    batch(() => {
      isOver.value = true;
      locked.value = fault;
    });
  }
  return error;
}

/** Uses the one-time token of the address, if there is one, and asks who looks. */
export async function login(): Promise<void> {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (token !== null) {
    history.replaceState(null, '', location.pathname + location.search);
    await signIn(token).catch((e: unknown) => {
      // A session from before may be good still.
      if (!(e instanceof ApiError) || e.status !== 401) throw e;
      isOver.value = false;
      locked.value = undefined;
    });
  }
  const response = await fetch('/api/session', { headers: pageKey() });
  if (!response.ok) throw await errorOf(response);
  session.value = (await response.json()) as Session;
}
