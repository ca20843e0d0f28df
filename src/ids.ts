/**
 * Ids and names of contents. Whoever may write a policy chooses contents. If an author could find two contents with the
 * same id, one policy could take effect in place of another. Therefore:
 *
 * - Atoms have names of 192 bits of SHA-256, for which nobody finds collisions.
 * - Sets, classes and rules have ids of 53 bits, since the kernel compares them: exact as JavaScript numbers and as
 *   __u64. They are hashes under a secret key of the node. Two contents with the same id are detected wherever ids are
 *   given or met (SetFault), and a set that is involved is refused.
 */
import { createHash, hash } from 'node:crypto';

/** Smaller ids are reserved (enum ea_class). */
const FIRST_ID = 16;

/** Number of base64 digits for 192 bits. */
const NAME_LENGTH = 32;

/** Makes ids. The same content has the same id. */
export interface Ids {
  /** An id, 16 … 2^53-1. @param content begins with its kind: `set|`, `class|`, `rule|` */
  of(content: string): number;
}

/** The name of a content, 32 characters; the same everywhere. */
export function contentName(content: string, bytes?: Uint8Array): string {
  if (!bytes) return hash('sha256', content, 'base64').slice(0, NAME_LENGTH);
  return createHash('sha256').update(content).update(bytes).digest('base64').slice(0, NAME_LENGTH);
}

/**
 * Makes ids under a key. @param key 64 hexadecimal digits. It fills the hash's first block, so that known ids reveal
 * nothing about others
 */
export function keyedIds(key: string): Ids {
  return {
    of(content) {
      const digits = hash('sha256', key + content, 'hex');
      const high = Number.parseInt(digits.slice(0, 6), 16) >>> 3;
      const id = high * 0x1_0000_0000 + Number.parseInt(digits.slice(6, 14), 16);
      return id < FIRST_ID ? id + FIRST_ID : id;
    },
  };
}

/** Ids that are the same everywhere, for tools and tests, which enforce nothing. */
export const PLAIN_IDS = keyedIds('0'.repeat(64));

/** Makes ids, some of which are already given, such as by an agent with another key. */
export function idsWith(given: ReadonlyMap<string, number>, ids: Ids): Ids {
  return given.size === 0 ? ids : { of: (content) => given.get(content) ?? ids.of(content) };
}
