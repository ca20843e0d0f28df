/** The questions of the screens, each answered once. */
import { timestampOf } from '../../edges/wire.js';
import type { AgentClient } from '../../rpc/transport/client.js';
import { windowStart } from '../feeds/edges.js';
import type { Handler } from './handler.js';
import { namespacesHandler } from './namespaces.js';
import { namespacesOf, numberOf, textOf, windowOf } from '../http/read.js';
import { whyHandler } from './why.js';

/** Milliseconds for an answer, and for one that takes thinking. */
const ANSWER_MS = 30_000;
const THINKING_MS = 70_000;
const MOST_YAML = 1 << 20;

/** The handlers. @param client of an agent or a relay */
export function askHandlers(client: AgentClient): Readonly<Record<string, Handler>> {
  return {
    /** Nodes with their whole status. */
    status: async () => await client.clusterStatus(),
    namespaces: namespacesHandler(client),
    policies: async (body) => await client.policyObjects({ namespaces: namespacesOf(body) }, ANSWER_MS),
    activity: async (body) =>
      await client.activity(
        { since: timestampOf(windowStart(windowOf(body), Date.now())), namespaces: namespacesOf(body) },
        ANSWER_MS,
      ),
    why: whyHandler(client),
    preview: async (body) =>
      await client.preview(
        { manifests: textOf(body, 'manifests', MOST_YAML, ''), limit: numberOf(body, 'limit', 1, 2000, 200) },
        THINKING_MS,
      ),
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
