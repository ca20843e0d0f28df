/** What one changed rule takes in the agent itself: object → maps written. What a watch or a file adds stands elsewhere. */
import { KernelMapStore } from '../../../agent/maps/store.js';
import { loadForTest } from '../../engines/engine.js';
import { Pipeline } from '../pipeline.js';
import { median, percentile, progress } from '../result.js';
import { type Effort, networks } from './measure.js';
import { policies, policy } from './ours.js';

const NODE = 'bench';
const POD_IP = '10.244.0.1';
const CHANGES = 300;
/** The first ones are of code that the engine has not compiled yet, and of a heap that is still sorting out what it was loaded with. */
const WARM_UP = 20;

export interface Applied {
  readonly size: number;
  readonly p50: number;
  readonly p99: number;
}

/** Milliseconds, for each size: a policy with one network is closed and opened again. */
export async function applied(effort: Effort): Promise<Applied[]> {
  const all: Applied[] = [];
  for (const size of effort.sizes) {
    const programs = loadForTest();
    const store = new KernelMapStore(programs.maps);
    try {
      const pipeline = new Pipeline(NODE, ['default/web']);
      const interface1 = { ifindex: 1, ifname: 'lo', id: 1, mac: '', l3: false, kind: 'pod' } as const;
      pipeline.into(store, [{ key: 'default/web', uid: 'u', ips: [POD_IP], ...interface1 }]);
      pipeline.take([pod, ...policies(networks(size))]);
      const took: number[] = [];
      for (let i = 0; i < WARM_UP + CHANGES; i++) {
        const { read, ir, image, maps } = pipeline.take([policy('switch', i % 2 === 0 ? ['203.0.113.30/32'] : [])]);
        if (i >= WARM_UP) took.push(read + ir + image + maps);
        // The next change comes at once, as it may in an agent: its other work has a turn in between.
        void store.tidyLater();
        await new Promise((resolve) => setImmediate(resolve));
      }
      const found = { size, p50: median(took), p99: percentile(took, 99) };
      progress(
        `one rule changed among ${size}: ${found.p50.toFixed(2)} ms in the agent, p99 ${found.p99.toFixed(2)} ms`,
      );
      all.push(found);
    } finally {
      store.close();
      programs.close();
    }
  }
  return all;
}

const pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { namespace: 'default', name: 'web', uid: 'u', labels: { app: 'web' } },
  spec: { nodeName: NODE, containers: [{ name: 'main', image: 'none' }] },
  status: { phase: 'Running', podIP: POD_IP, podIPs: [{ ip: POD_IP }] },
};
