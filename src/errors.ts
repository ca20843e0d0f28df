/** The closed catalogue of errors: a code names the operation that failed. */
export type ErrorCode =
  | 'USAGE'
  | 'MANIFEST' // a file or document cannot be read
  | 'POLICY' // a policy object is refused
  | 'TOO_LARGE' // does not fit a map or a limit; nothing was written
  | 'HASH_COLLISION' // two contents, one id: refused
  | 'KERNEL' // a system call failed; `errno` tells
  | 'VERIFIER' // the kernel refused a program
  | 'LAYOUT' // generated layout and object disagree
  | 'BUILD' // clang failed or is missing
  | 'NETNS' // a pod's namespace or interface cannot be bound
  | 'GATE' // the CNI gate: a request that is not understood, a configuration it cannot be put into
  | 'AGENT' // the running agent cannot be reached or refused
  | 'INTERNAL';

/** Where in the user's input the fault lies. */
export interface Where {
  file?: string;
  /** 0-based number of the YAML document in the file. */
  document?: number;
  /** 1-based line in the file. */
  line?: number;
  /** `Kind namespace/name`; where several API groups have the kind, `Kind.group namespace/name`. */
  object?: string;
  /** Field path, e.g. `spec.egress[0].to[1].ipBlock.cidr`. */
  field?: string;
}

/** The one error class of the project. `hint` says what to do. */
export class AgentError extends Error {
  readonly code: ErrorCode;
  readonly where: Where;
  readonly hint: string | undefined;
  /** Symbolic errno, e.g. `ENOSPC`, for KERNEL errors. */
  readonly errno: string | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    opts: { where?: Where; hint?: string; errno?: string; cause?: unknown } = {},
  ) {
    super(message, opts.cause === undefined ? undefined : { cause: opts.cause });
    this.name = 'AgentError';
    this.code = code;
    this.where = opts.where ?? {};
    this.hint = opts.hint;
    this.errno = opts.errno;
  }
}

/** One problem found in the input; a list of them is what `validate` prints. */
export interface Problem {
  severity: 'error' | 'warning';
  where: Where;
  message: string;
  hint?: string;
}

/** `file:7 (document 2): NetworkPolicy a/b: spec.x: message — hint`. */
export function formatProblem(p: Problem): string {
  const w = p.where;
  const line = w.line === undefined ? '' : `:${w.line}`;
  const file = w.file
    ? `${w.file}${line}${w.document !== undefined ? ` (document ${w.document + 1})` : ''}`
    : undefined;
  const head = [file, w.object, w.field, p.message].filter((s) => s !== undefined && s !== '').join(': ');
  return p.hint ? `${head} — ${p.hint}` : head;
}
