/** JSON lines in a file that is rotated by its size. */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, rename } from 'node:fs/promises';
import type { Item } from '../base/item.js';
import { again, type Outcome, type Sink } from '../base/sink.js';
import type { FileSpec } from '../base/spec.js';
import { lineOf } from './jsonl.js';

const BATCH = 1024;
const BATCH_BYTES = 1 << 20;
const LINGER_MS = 200;
/** A link in place of the file would let whoever may write in its directory choose a file of the node. */
const FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export class FileSink implements Sink<Buffer> {
  readonly most = BATCH;
  readonly mostBytes = BATCH_BYTES;
  readonly lingerMs = LINGER_MS;
  readonly #spec: FileSpec;
  #file: FileHandle | undefined;
  #size = 0;

  constructor(spec: FileSpec) {
    this.#spec = spec;
  }

  encode(item: Item): Buffer {
    return lineOf(item);
  }

  sizeOf(line: Buffer): number {
    return line.length + 128;
  }

  async write(batch: readonly Buffer[]): Promise<Outcome> {
    let done = 0;
    try {
      while (done < batch.length) {
        const file = await this.#ready(batch[done] as Buffer);
        const part = this.#fitting(batch, done);
        await this.#append(file, Buffer.concat(part));
        done += part.length;
      }
      return { done: true, refused: 0 };
    } catch (e) {
      await this.#release();
      return again(e, done);
    }
  }

  close(): Promise<void> {
    return this.#release();
  }

  /** The file that is to be written to now: another if it was moved or removed, or if it is full. */
  async #ready(next: Buffer): Promise<FileHandle> {
    let file = await this.#open();
    if (this.#size > 0 && this.#size + next.length > this.#spec.rotateBytes) {
      await this.#release();
      await this.#rotate();
      file = await this.#open();
    }
    return file;
  }

  async #open(): Promise<FileHandle> {
    if (this.#file) {
      const [ours, there] = await Promise.all([this.#file.stat(), lstat(this.#spec.path).catch(() => undefined)]);
      this.#size = ours.size;
      if (there && there.ino === ours.ino && there.dev === ours.dev) return this.#file;
      await this.#release();
    }
    const file = await open(this.#spec.path, FLAGS, 0o600);
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw new Error(`${this.#spec.path} is not a regular file`);
      this.#size = stat.size;
    } catch (e) {
      await file.close();
      throw e;
    }
    this.#file = file;
    return file;
  }

  /** As many lines as fit into the file, and one at least. */
  #fitting(batch: readonly Buffer[], from: number): Buffer[] {
    let end = from + 1;
    let size = this.#size + (batch[from] as Buffer).length;
    for (; end < batch.length; end++) {
      size += (batch[end] as Buffer).length;
      if (size > this.#spec.rotateBytes) break;
    }
    return batch.slice(from, end);
  }

  /** Appends whole lines, or nothing: a disk may become full in the middle of one. */
  async #append(file: FileHandle, bytes: Buffer): Promise<void> {
    const before = this.#size;
    let written = 0;
    try {
      while (written < bytes.length) {
        const { bytesWritten } = await file.write(bytes, written);
        written += bytesWritten;
        this.#size += bytesWritten;
      }
    } catch (e) {
      // Unless somebody else has written behind it.
      if (written > 0 && (await file.stat()).size === before + written) await file.truncate(before);
      throw e;
    }
  }

  /** `flows.jsonl` becomes `flows.jsonl.1`, and so on; the oldest is replaced. */
  async #rotate(): Promise<void> {
    const { path, keep } = this.#spec;
    for (let n = keep; n > 0; n--) {
      await rename(n === 1 ? path : `${path}.${n - 1}`, `${path}.${n}`).catch((e: NodeJS.ErrnoException) => {
        if (e.code !== 'ENOENT') throw e;
      });
    }
  }

  async #release(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch(() => {});
  }
}
