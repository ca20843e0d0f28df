/** Asks the worker for the places of a namespace's workloads. */
import { HEIGHT, WIDTH } from '../../src/ui/graph/geometry.js';
import type { Graph } from '../../src/ui/graph/model.js';
import type { Places } from '../../src/ui/graph/places.js';
import type { LayoutAnswer, LayoutRequest } from './layout-worker.js';

/** Workloads that are laid out so; more take too long, and are put into columns. */
const MOST = 80;
/** Nobody waits longer than this for a drawing. */
const PATIENCE_MS = 700;

export type Region = ReadonlyMap<string, { readonly x: number; readonly y: number }>;
const NONE: Region = new Map();

interface Policies {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): string };
}

let worker: Worker | undefined;
let asked = 0;

/** The page's own script, as index.html names it. */
function startWorker(): Worker {
  const path = document.querySelector<HTMLMetaElement>('meta[name="layout-worker"]')?.content ?? '';
  if (!/^\/layout-\w+\.js$/.test(path)) throw new Error('the page names no worker');
  const { trustedTypes } = globalThis as { trustedTypes?: Policies };
  const policy = trustedTypes?.createPolicy('egress-worker', { createScriptURL: () => path });
  return new Worker(policy ? policy.createScriptURL(path) : path, { type: 'module' });
}

/** Workloads of the level that talk to each other, and who talks to whom. */
function requestOf(graph: Graph, places: Places): LayoutRequest {
  const own = new Set(places.slots(1).filter((key) => key !== undefined));
  const pairs = new Map<string, readonly [string, string]>();
  for (const { from, to } of graph.links.values())
    if (from !== to && own.has(from) && own.has(to)) pairs.set(`${from} ${to}`, [from, to]);
  const ids = new Set([...pairs.values()].flat());
  return {
    id: ++asked,
    nodes: [...ids].sort().map((id) => ({ id, width: WIDTH, height: HEIGHT })),
    edges: [...pairs.values()],
  };
}

/** @returns empty: they are too many, or there is nothing to lay out, or it takes too long */
export async function regionOf(graph: Graph, places: Places): Promise<Region> {
  const request = requestOf(graph, places);
  if (request.nodes.length === 0 || request.nodes.length > MOST) return NONE;
  worker ??= startWorker();
  const used = worker;
  const answer = await new Promise<LayoutAnswer | undefined>((resolve) => {
    const ending = new AbortController();
    const end = (found?: LayoutAnswer) => {
      ending.abort();
      clearTimeout(timer);
      resolve(found);
    };
    const timer = setTimeout(() => {
      // It may go on for long, and the next one should not wait for it.
      used.terminate();
      worker = undefined;
      end();
    }, PATIENCE_MS);
    const { signal } = ending;
    used.addEventListener(
      'error',
      ({ message }) => {
        console.warn('the layout failed:', message);
        end();
      },
      { signal },
    );
    used.addEventListener(
      'message',
      ({ data }: MessageEvent<LayoutAnswer>) => {
        if (data.id === request.id) end(data);
      },
      { signal },
    );
    used.postMessage(request);
  });
  return answer ? new Map(Object.entries(answer.places)) : NONE;
}
