/** The questions of the screens, each answered once. */
import type { AgentClient } from '../../rpc/transport/client.js';
import type { Handler } from './handler.js';
import { namespacesHandler } from './namespaces.js';
import { namespacesOf, textOf } from '../http/read.js';
import { whyHandler } from './why.js';

/** Milliseconds for an answer that takes thinking. */
const THINKING_MS = 70_000;

/** The handlers. @param client of an agent or a relay */
export function askHandlers(client: AgentClient): Readonly<Record<string, Handler>> {
  return {
    /** Nodes with their whole status. */
    status: async () => await client.clusterStatus(),
    namespaces: namespacesHandler(client),
    why: whyHandler(client),
    recommend: async (body) => {
      const { json = '{}', yaml = '' } = await client.recommend(
        {
          ...(body['workload'] === undefined ? {} : { workloads: [textOf(body, 'workload', 500)] }),
          namespaces: namespacesOf(body),
          dialect: textOf(body, 'dialect', 40, 'networkpolicy'),
        },
        THINKING_MS,
      );
      return { result: JSON.parse(json) as unknown, yaml };
    },
  };
}
