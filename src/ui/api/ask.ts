/** The questions of the screens, each answered once. */
import type { AgentClient } from '../../rpc/transport/client.js';
import type { Handler } from './handler.js';
import { namespacesHandler } from './namespaces.js';
import { recommendHandlers } from './recommend.js';
import { statusHandlers } from './status.js';
import { whyHandler } from './why.js';

/** The handlers. @param client of an agent or a relay */
export function askHandlers(client: AgentClient): Readonly<Record<string, Handler>> {
  return {
    ...statusHandlers(client),
    ...recommendHandlers(client),
    namespaces: namespacesHandler(client),
    why: whyHandler(client),
  };
}
