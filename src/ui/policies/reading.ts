/** What the server reads in a text that somebody edits. Pure: it runs in a thread of its own, see reader.ts. */
import { isRecord } from '../../identity/fields.js';
import { parseManifest } from '../../identity/files/yaml.js';
import { enforcedForm, isStaged } from '../../staging/forms.js';

/** Characters of all objects written out: aliases make much of little. */
const MOST_WRITTEN = 4 << 20;

export interface Reading {
  /** The namespaces of its objects, each once; empty: an object of none. */
  readonly namespaces: readonly string[];
  /** The text with its staged policies as they would be in force; absent: none is staged, or the text is broken. */
  readonly enforced?: string;
  /** Written out it would be too large. */
  readonly isTooLarge?: true;
}

/** Kinds of objects of the whole cluster, whatever namespace they name. */
const OF_CLUSTER = /Global|Cluster|Admin|^(Namespace|Node|Tier)$/;

export function reading(text: string): Reading {
  const documents = parseManifest('', text);
  // What is broken is no policy: the agent says what is wrong with it.
  const objects = documents.flatMap((d) => d.objects.map(({ object }) => object));
  const namespaces = [...new Set(objects.map(namespaceOf))];
  if (documents.some((d) => d.broken) || !objects.some(isStaged)) return { namespaces };
  const all: string[] = [];
  let size = 0;
  for (const object of objects) {
    try {
      all.push(JSON.stringify(enforcedForm(object)));
    } catch {
      return { namespaces }; // a number that JSON does not have
    }
    size += (all.at(-1) as string).length;
    if (size > MOST_WRITTEN) return { namespaces, isTooLarge: true };
  }
  return { namespaces, enforced: all.join('\n---\n') };
}

function namespaceOf(object: unknown): string {
  const { metadata, kind } = isRecord(object) ? object : {};
  if (typeof kind === 'string' && OF_CLUSTER.test(kind)) return '';
  return isRecord(metadata) && typeof metadata.namespace === 'string' ? metadata.namespace : '';
}
