import { createHash } from 'node:crypto';

/**
 * A 53-bit id for a piece of content: exact as a JavaScript number and as the
 * kernel's __u64. The ids 0 to 15 are reserved (enum ea_class).
 */
export function contentId(content: string, bytes?: Uint8Array): number {
  const hash = createHash('sha256').update(content);
  if (bytes) hash.update(bytes);
  const digest = hash.digest();
  const id = (digest.readUInt32BE(0) & 0x1fffff) * 0x1_0000_0000 + digest.readUInt32BE(4);
  return id < 16 ? id + 16 : id;
}
