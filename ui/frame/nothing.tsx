/** Why a screen has nothing to show, where the reason is not its own. */
import { Command, Empty } from '../parts/empty.js';
import { nodes } from '../state/store.js';

/** No agent is known. */
export function NoAgents() {
  return (
    <Empty title="There are no agents">
      <p>Nothing sees what leaves the pods of this cluster, and no policy of egress-agent is enforced.</p>
      <p>From a copy of the repository, this installs one on each node:</p>
      <Command>kubectl apply -k daemonset/overlays/dev</Command>
      <p>They show here as soon as they answer. On a node itself, egressctl doctor says what is missing.</p>
    </Empty>
  );
}

/** The user may see no namespace. */
export function NoRight() {
  return (
    <Empty title="You may see no namespace">
      <p>
        A namespace is shown to those who have the verb get on flows of the API group egress-agent.io in it. Somebody
        who manages rights can give you a Role with this rule, and a RoleBinding:
      </p>
      <Command>{'{apiGroups: [egress-agent.io], resources: [flows], verbs: [get]}'}</Command>
    </Empty>
  );
}

/** Whether no agent is known, as far as is known. */
export function hasNoAgents(): boolean {
  return nodes.value !== undefined && nodes.value.length === 0;
}
