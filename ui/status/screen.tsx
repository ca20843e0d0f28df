/** The screen status: what is wrong first, then all nodes, and each with all that its agent says. */
import { useEffect, useState } from 'preact/hooks';
import type { ClusterFacts } from '../../src/ui/wire/status.js';
import { NoAgents } from '../frame/nothing.js';
import { Loading, Trouble } from '../parts/empty.js';
import { useAnswer } from '../state/answer.js';
import { param } from '../state/url.js';
import { Cluster } from './cluster.js';
import { NodePage } from './node.js';

/** The state is asked for again so often, milliseconds. */
const EVERY_MS = 5000;

export function StatusScreen() {
  const tick = useTick();
  const wanted = param('node') ?? '';
  const { value, fault } = useAnswer<ClusterFacts>('status', wanted === '' ? {} : undefined, tick);
  if (wanted !== '') return <NodePage name={wanted} tick={tick} isOnly={false} />;
  if (!value) return fault ? <Trouble fault={fault} /> : <Loading what="the state of the nodes" />;
  const [only] = value.nodes;
  if (!only) return <NoAgents />;
  return (
    <>
      {fault && <Trouble fault={fault} />}
      {value.nodes.length === 1 ? (
        <NodePage name={only.name} tick={tick} isOnly history={value.history} />
      ) : (
        <Cluster facts={value} />
      )}
    </>
  );
}

/** Another number now and then, as long as the page is shown. */
function useTick(): number {
  const [tick, set] = useState(0);
  useEffect(() => {
    const next = () => {
      if (!document.hidden) set((n) => n + 1);
    };
    const timer = setInterval(next, EVERY_MS);
    document.addEventListener('visibilitychange', next);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', next);
    };
  }, []);
  return tick;
}
