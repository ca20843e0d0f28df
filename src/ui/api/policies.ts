/** The policies board and the editor: what there is, what it decided, what a change would do. */
import type { Viewer } from '../access/viewer.js';
import { PolicyBook, type PolicySource } from '../feeds/policies.js';
import { HttpError } from '../http/answers.js';
import { numberOf, textOf, windowOf } from '../http/read.js';
import { activityAnswer, boardOf, policyAnswer, seenPolicies } from '../policies/board.js';
import type { Handler } from './handler.js';
import { Previews, type PreviewSource } from '../policies/preview.js';
import { Reader } from '../policies/reader.js';

/** Characters of a text at most; its bytes are counted later. */
const MOST_TEXT = 1 << 21;

/** The handlers. @param client of an agent or a relay */
export function policyHandlers(client: PolicySource & PreviewSource): Readonly<Record<string, Handler>> {
  const book = new PolicyBook(client);
  const reader = new Reader();
  const previews = new Previews(client, reader);
  const seen = async (viewer: Viewer) => {
    const scope = await viewer.scope();
    return { scope, objects: seenPolicies(await book.objects(), scope) };
  };
  return {
    policies: async (_, viewer) => {
      const { objects, scope } = await seen(viewer);
      return boardOf(objects, scope);
    },
    activity: async (body, viewer) => {
      const window = windowOf(body);
      const [{ objects, scope }, own, all] = await Promise.all([
        seen(viewer),
        book.activity(window),
        book.activity('all'),
      ]);
      return activityAnswer(objects, own, all, { scope, nowMs: Date.now() });
    },
    policy: async (body, viewer) => {
      const id = textOf(body, 'policy', 600);
      const [{ objects, scope }, all] = await Promise.all([seen(viewer), book.activity('all')]);
      const found = policyAnswer(objects, id, all, scope);
      if (!found) throw new HttpError(404, 'there is no such policy', { object: id, hint: 'it may have been deleted' });
      return { ...found, problems: await reader.locate(found.yaml ?? '', found.problems) };
    },
    preview: async (body, viewer, signal) =>
      await previews.ask(
        viewer,
        textOf(body, 'manifests', MOST_TEXT, ''),
        numberOf(body, 'limit', 1, 2000, 200),
        signal,
      ),
  };
}
