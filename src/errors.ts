/** The closed catalogue of errors. A code names the operation that failed. */
export type ErrorCode =
  | 'USAGE'
  | 'MANIFEST' // a file or document cannot be read
  | 'POLICY' // a policy object is refused
  | 'TOO_LARGE' // does not fit a map or a limit; nothing was written
  | 'HASH_COLLISION' // two contents have the same id; refused
  | 'KERNEL' // a system call failed; `errno` has the reason
  | 'VERIFIER' // the kernel refused a program
  | 'LAYOUT' // generated layout and object disagree
  | 'BUILD' // clang failed or is missing
  | 'NETNS' // a pod's namespace or interface cannot be bound
  | 'GATE' // the CNI gate: an invalid request, or a CNI configuration to which it cannot be added
  | 'AGENT' // the running agent cannot be reached, or refused the request
  | 'HISTORY' // the store of the history cannot be opened, written or read
  | 'INTERNAL';

/** The place of a fault in the user's input. */
export interface Where {
  file?: string;
  /** Number of the YAML document in the file, from 0. */
  document?: number;
  /** Line in the file, from 1. */
  line?: number;
  /** `Kind namespace/name`; if several API groups have the kind, `Kind.group namespace/name`. */
  object?: string;
  /** Field path, e.g. `spec.egress[0].to[1].ipBlock.cidr`. */
  field?: string;
}

/** The only error class of the project. `hint` says how to fix the cause. */
export class AgentError extends Error {
  readonly code: ErrorCode;
  readonly where: Where;
  readonly hint: string | undefined;
  /** Symbolic errno, such as `ENOSPC`, for KERNEL errors. */
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

/** Whether what was asked is at fault, and nothing failed. */
export function isOfAsker({ code }: AgentError): boolean {
  return code === 'USAGE' || code === 'MANIFEST' || code === 'POLICY';
}

/** One problem in the input. `validate` prints a list of them. */
export interface Problem {
  severity: 'error' | 'warning';
  where: Where;
  message: string;
  hint?: string;
}

/** Formats a problem: `file:7 (document 2): NetworkPolicy a/b: spec.x: message — hint`. */
export function formatProblem(p: Problem): string {
  const w = p.where;
  const line = w.line === undefined ? '' : `:${w.line}`;
  const file = w.file
    ? `${w.file}${line}${w.document !== undefined ? ` (document ${w.document + 1})` : ''}`
    : undefined;
  const head = [file, w.object, w.field, p.message].filter((s) => s !== undefined && s !== '').join(': ');
  return p.hint ? `${head} — ${p.hint}` : head;
}
