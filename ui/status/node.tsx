/** One node: all that its agent says, as `egressctl status` does. */
import { useMemo } from 'preact/hooks';
import type { ClusterNode, ProblemMessage } from '../../src/proto/status.js';
import type { HistoryFacts, NodeRow, ProblemRow } from '../../src/ui/wire/status.js';
import { useKeys } from '../frame/keys.js';
import { Empty, Loading, Trouble } from '../parts/empty.js';
import { shown } from '../parts/words.js';
import { useAnswer } from '../state/answer.js';
import { go, href } from '../state/url.js';
import { AgentCard, ExportsCard, MapsCard, NamesCard, SaidCard, TrafficCard } from './cards.js';
import { History, NodeState } from './cluster.js';
import { Endpoints } from './endpoints.js';
import { Problems } from './pieces.js';

interface NodeProps {
  readonly name: string;
  readonly tick: number;
  /** There is no other: no list to go back to. */
  readonly isOnly: boolean;
  readonly history?: HistoryFacts | undefined;
}

const back = () => go(href('status', { node: undefined, pods: undefined }));

export function NodePage({ name, tick, isOnly, history }: NodeProps) {
  const { value, fault } = useAnswer<ClusterNode & { row: NodeRow }>('node', { name }, tick);
  const keys = useMemo(() => (isOnly ? [] : [{ keys: 'Escape', about: 'back to all nodes', run: back }]), [isOnly]);
  useKeys(keys);
  const node = value?.name === name ? value : undefined;
  const s = node?.status;
  // The policies that are refused are listed below, each with its reason.
  const isListed = (text: string) => (s?.problems ?? []).length > 0 && / refused$/.test(text);
  const troubles = (node?.row.troubles ?? []).filter((text) => !isListed(text));
  return (
    <div class="node-page">
      <div class="status-head">
        <div>
          {!isOnly && (
            <button type="button" class="quiet back" onClick={back}>
              ← All nodes
            </button>
          )}
          <h2>{shown(name)}</h2>
          {node && (
            <p class="facts-line">
              <NodeState word={node.row.word} />
              {node.row.troubles.length === 0 && <span class="dim">nothing to look at</span>}
            </p>
          )}
        </div>
      </div>
      {fault && <Trouble fault={fault} />}
      {!node && !fault && <Loading what="the state of the node" />}
      {troubles.length > 0 && (
        <ul class="troubles">
          {troubles.map((text) => (
            <li key={text}>{shown(text, 600)}</li>
          ))}
        </ul>
      )}
      {node && !s && (
        <Empty title="This node does not answer">
          <p>{shown(node.message ?? '', 500)}</p>
          <p>
            What its agent enforced last goes on in the kernel; nobody sees its flows. On the node, egressctl doctor
            says more.
          </p>
        </Empty>
      )}
      {s && (
        <>
          <Problems list={(s.problems ?? []).map((one) => rowOf(one, name))} more={0} ofCluster={false} />
          {(s.hook_problems ?? []).length > 0 && (
            <ul class="troubles">
              {(s.hook_problems ?? []).map((text) => (
                <li key={text}>{shown(text, 600)}</li>
              ))}
            </ul>
          )}
          <div class="cards">
            <AgentCard s={s} />
            <TrafficCard s={s} />
            <MapsCard s={s} />
            <NamesCard s={s} />
            <SaidCard s={s} />
            <ExportsCard s={s} />
          </div>
          <Endpoints list={s.endpoints ?? []} share={s.flow_share ?? 0} />
          {history && <History history={history} nowMs={Date.now()} />}
        </>
      )}
    </div>
  );
}

function rowOf(
  { severity, object = '', field = '', message, hint = '', file = '' }: ProblemMessage,
  node: string,
): ProblemRow {
  return { severity, object, field, message, hint, file, nodes: 1, node };
}
