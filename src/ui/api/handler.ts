import type { Viewer } from '../access/viewer.js';
import type { Body } from '../http/read.js';

/**
 * Answers a POST below /api: with what is sent as JSON.
 * @param body of the request, unchecked
 * @param signal the page has left
 * @throws HttpError, AgentError
 */
export type Handler = (body: Body, viewer: Viewer, signal: AbortSignal) => Promise<unknown>;
