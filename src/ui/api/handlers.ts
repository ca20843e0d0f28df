/** All questions of the page. What answers one has its place here, so that a test finds it. */
import type { AgentClient } from '../../rpc/transport/client.js';
import { seenError } from '../access/mask.js';
import type { Viewer } from '../access/viewer.js';
import { askHandlers } from './ask.js';
import type { Handler } from './handler.js';
import { handHandlers, type Hands } from './hands.js';
import { policyHandlers } from './policies.js';

/**
 * By path behind /api/.
 * @param client of an agent or a relay
 * @param handsFor what writes policies for a viewer, or why nothing does
 */
export function allHandlers(
  client: AgentClient,
  handsFor: (viewer: Viewer) => Hands | string,
): Readonly<Record<string, Handler>> {
  const asking = { ...askHandlers(client), ...policyHandlers(client) };
  const told = Object.entries(asking).map(([name, handler]) => [name, masked(handler)] as const);
  return { ...Object.fromEntries(told), ...handHandlers(handsFor) };
}

/** What a source says when it fails is told to who may see all of the cluster. */
function masked(handler: Handler): Handler {
  return async (body, viewer, signal) => {
    try {
      return await handler(body, viewer, signal);
    } catch (e) {
      throw await seenError(e, viewer);
    }
  };
}
