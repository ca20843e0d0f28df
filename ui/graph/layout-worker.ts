/** Lays out one namespace's workloads, beside the page's own thread. */
import dagre from '@dagrejs/dagre';

/** What is to be laid out. */
export interface LayoutRequest {
  readonly id: number;
  readonly nodes: readonly { readonly id: string; readonly width: number; readonly height: number }[];
  readonly edges: readonly (readonly [from: string, to: string])[];
}

/** Centers of the nodes. */
export interface LayoutAnswer {
  readonly id: number;
  readonly places: Readonly<Record<string, { readonly x: number; readonly y: number }>>;
}

addEventListener('message', ({ data }: MessageEvent<LayoutRequest>) => {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: 'LR', nodesep: 16, ranksep: 90 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const { id, width, height } of data.nodes) graph.setNode(id, { width, height });
  for (const [from, to] of data.edges) graph.setEdge(from, to);
  dagre.layout(graph);
  const places = Object.fromEntries(data.nodes.map(({ id }) => [id, { x: graph.node(id).x, y: graph.node(id).y }]));
  postMessage({ id: data.id, places } satisfies LayoutAnswer);
});
