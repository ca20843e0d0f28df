/** A BPF object file, opened with libbpf (1.0 or later): its declarations, and its way into the kernel. */
import { AgentError } from '../../../src/errors.js';
import * as ffi from './ffi.js';

const libbpf = ffi.library('libbpf.so.1', {
  libbpf_set_print: ['pointer', ['pointer']],
  bpf_object__open_mem: ['pointer', ['pointer', 'size_t', 'pointer']],
  bpf_object__load: ['int', ['pointer']],
  bpf_object__close: ['void', ['pointer']],
  bpf_object__next_map: ['pointer', ['pointer', 'pointer']],
  bpf_object__next_program: ['pointer', ['pointer', 'pointer']],
  bpf_map__name: ['pointer', ['pointer']],
  bpf_map__fd: ['int', ['pointer']],
  bpf_map__type: ['int', ['pointer']],
  bpf_map__key_size: ['uint', ['pointer']],
  bpf_map__value_size: ['uint', ['pointer']],
  bpf_map__max_entries: ['uint', ['pointer']],
  bpf_map__map_flags: ['uint', ['pointer']],
  bpf_map__set_max_entries: ['int', ['pointer', 'uint']],
  bpf_map__set_pin_path: ['int', ['pointer', 'pointer']],
  bpf_map__is_internal: ['int', ['pointer']],
  bpf_program__name: ['pointer', ['pointer']],
  bpf_program__fd: ['int', ['pointer']],
  bpf_program__set_log_buf: ['int', ['pointer', 'pointer', 'size_t']],
  bpf_program__set_autoload: ['int', ['pointer', 'int']],
});

const libc = ffi.library('libc.so.6', { vsnprintf: ['int', ['pointer', 'size_t', 'pointer', 'pointer']] });

const LIBBPF_WARN = 0;
/** Room for one program's verifier log, bytes; zero pages until they are written. */
const LOG_SIZE = 16 << 20;

/** libbpf's warnings about the object that was opened or loaded last. */
let warnings: string[] = [];

/**
 * Receives libbpf's messages, which name the map or section that an errno is about. Referenced for as
 * long as the process lives. A va_list is an array on x86-64 and a large struct on
 * arm64: both are passed as a pointer, which can be passed on to vsnprintf.
 */
let printCallback: Buffer | undefined;

function collectWarnings(): void {
  warnings = [];
  if (printCallback !== undefined) return;
  const line = Buffer.alloc(1024);
  printCallback = ffi.callback('int', ['int', 'pointer', 'pointer'], (level, format, args) => {
    if (level !== LIBBPF_WARN) return 0;
    const length = Math.min(Number(libc.vsnprintf(line, line.length, format, args)), line.length - 1);
    warnings.push(
      line
        .toString('utf8', 0, length)
        .replace(/^libbpf: /, '')
        .trim(),
    );
    return 0;
  });
  libbpf.libbpf_set_print(printCallback);
}

/** A map as the object declares it. */
export interface MapDeclaration {
  readonly name: string;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
}

export class BpfObject {
  readonly #handle: Buffer;
  readonly #maps = new Map<string, Buffer>();
  readonly #programs = new Map<string, Buffer>();
  readonly #logs = new Map<string, Buffer>();
  /** Buffers that libbpf may read until the object is closed. */
  readonly #inputs: Buffer[];

  /**
   * @param bytes the ELF file
   * @param what the object's name in messages
   * @throws AgentError LAYOUT if it is not a BPF object
   */
  constructor(bytes: Buffer, what: string) {
    this.#inputs = [bytes];
    collectWarnings();
    this.#handle = libbpf.bpf_object__open_mem(bytes, bytes.length, null) as Buffer;
    if (ffi.isNull(this.#handle)) {
      const errno = ffi.errnoName(ffi.errno());
      throw new AgentError('LAYOUT', `${what} is not a BPF object: ${warnings[0] ?? errno}`, { errno });
    }
    for (let map = this.#nextMap(null); !ffi.isNull(map); map = this.#nextMap(map)) {
      const internal = Number(libbpf.bpf_map__is_internal(map)) !== 0;
      if (!internal) this.#maps.set(ffi.textAt(libbpf.bpf_map__name(map) as Buffer), map);
    }
    for (let program = this.#nextProgram(null); !ffi.isNull(program); program = this.#nextProgram(program)) {
      this.#programs.set(ffi.textAt(libbpf.bpf_program__name(program) as Buffer), program);
    }
  }

  /** Names of the maps that the source declares, without libbpf's internal ones (.rodata and the like). */
  get mapNames(): string[] {
    return [...this.#maps.keys()];
  }

  /** Names of the programs that load() loads. */
  get programNames(): string[] {
    return [...this.#programs.keys()];
  }

  declaration(name: string): MapDeclaration {
    const map = this.#map(name);
    return {
      name,
      type: Number(libbpf.bpf_map__type(map)),
      keySize: Number(libbpf.bpf_map__key_size(map)),
      valueSize: Number(libbpf.bpf_map__value_size(map)),
      maxEntries: Number(libbpf.bpf_map__max_entries(map)),
      flags: Number(libbpf.bpf_map__map_flags(map)),
    };
  }

  setMaxEntries(name: string, entries: number): void {
    libbpf.bpf_map__set_max_entries(this.#map(name), entries);
  }

  /** Pins the map at a path, or uses the map that is pinned there. undefined: not pinned, whatever the source says. */
  setPinPath(name: string, path: string | undefined): void {
    const text = path === undefined ? null : Buffer.from(`${path}\0`);
    libbpf.bpf_map__set_pin_path(this.#map(name), text);
  }

  /** Excludes a program from load(). */
  leaveOut(name: string): void {
    const program = this.#programs.get(name);
    if (!program) return;
    libbpf.bpf_program__set_autoload(program, 0);
    this.#programs.delete(name);
  }

  /**
   * Creates the maps (or opens pinned ones) and loads the programs, all or nothing.
   * @returns 0, or a negative errno; refusals() and messages() have the details
   */
  load(): number {
    collectWarnings();
    for (const [name, program] of this.#programs) {
      const log = Buffer.alloc(LOG_SIZE);
      this.#logs.set(name, log);
      libbpf.bpf_program__set_log_buf(program, log, log.length);
    }
    const status = Number(libbpf.bpf_object__load(this.#handle));
    if (status === 0) this.#logs.clear();
    return status;
  }

  /** The verifier's logs, for refused programs only. */
  refusals(): { program: string; log: string }[] {
    const out: { program: string; log: string }[] = [];
    for (const [program, bytes] of this.#logs) {
      const end = bytes.indexOf(0);
      const log = bytes.toString('utf8', 0, end < 0 ? bytes.length : end).trim();
      if (log !== '') out.push({ program, log });
    }
    return out;
  }

  /** libbpf's warnings during load(). */
  messages(): readonly string[] {
    return warnings;
  }

  /** Descriptor of a loaded map; it is closed with the object. */
  mapFd(name: string): number {
    return Number(libbpf.bpf_map__fd(this.#map(name)));
  }

  /** Descriptor of a loaded program; it is closed with the object. */
  programFd(name: string): number {
    const program = this.#programs.get(name);
    return program ? Number(libbpf.bpf_program__fd(program)) : -1;
  }

  close(): void {
    libbpf.bpf_object__close(this.#handle);
    this.#logs.clear();
    this.#inputs.length = 0;
  }

  #map(name: string): Buffer {
    const map = this.#maps.get(name);
    if (!map) throw new AgentError('INTERNAL', `the object has no map ${name}`);
    return map;
  }

  #nextMap(previous: Buffer | null): Buffer {
    return libbpf.bpf_object__next_map(this.#handle, previous) as Buffer;
  }

  #nextProgram(previous: Buffer | null): Buffer {
    return libbpf.bpf_object__next_program(this.#handle, previous) as Buffer;
  }
}
