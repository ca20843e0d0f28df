/** An agent whose every text means harm: nothing of it runs in the graph or among the flows. */
import t from 'tap';
import { press, tryHarm } from './harm.js';

t.setTimeout(180_000);

t.test('graph and flows', (t) =>
  tryHarm(t, {
    graph: ['/graph?w=35d&show=dns,system'],
    'graph, a namespace': ['/graph?w=35d&at=ns/shop'],
    'graph, a table': ['/graph?w=35d&view=table', press('Tab', 'j')],
    flows: ['/flows', press('j', 'j', 'j', 'Enter')],
    'flows, sums': ['/flows?mode=sums&w=35d', press('j', 'Enter')],
    'flows, a line to leave out': ['/flows', press('j', 'j', 'x')],
  }),
);
