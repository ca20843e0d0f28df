/**
 * The steps of a policy's life: staged, enforced, undone. A plan says what is written for a step, in order; nothing is
 * written here. At no moment between two writes is less enforced than both before and after the step.
 */
import { isDeepStrictEqual } from 'node:util';
import { ENFORCEMENT } from '../dialects/enforcement.js';
import { AgentError } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import {
  annotationsIn,
  enforcedForm,
  isStaged,
  isStagedKind,
  ownPart,
  type PlainObject,
  stagedAction,
  stagedForm,
  twinOf,
  withAnnotations,
} from './forms.js';

/** When, and with which generation, `egressctl stage` and `egressctl enforce` were used last. */
export const STAGED_AT = 'egress-agent.io/staged-at';
export const ENFORCED_AT = 'egress-agent.io/enforced-at';
/** The content that an enforced policy replaced, as JSON: undo restores it. */
export const PREVIOUS = 'egress-agent.io/previous';

/** Annotations of an object have at most 256 KiB together. */
const MAX_PREVIOUS = 64 << 10;

/** One write to the API. An object that is changed or deleted has the version that was read. */
export type Write =
  | { readonly verb: 'annotate'; readonly object: PlainObject; readonly annotations: Annotations }
  | { readonly verb: 'create' | 'replace' | 'delete'; readonly object: PlainObject };

/** null takes an annotation away. */
export type Annotations = Readonly<Record<string, string | null>>;

export type StepName = 'stage' | 'enforce' | 'undo';

export interface Plan {
  readonly step: StepName;
  /** None: the policy is as it should be. */
  readonly writes: readonly Write[];
  /** What becomes of the policy, as a sentence without its subject. */
  readonly says: string;
  /** What the user should know. */
  readonly warnings: readonly string[];
  /** The object that there is after the step: the Event is about it. */
  readonly about: PlainObject;
}

/** The reason of each step's Event. */
export const REASONS: Readonly<Record<StepName, string>> = { stage: 'Staged', enforce: 'Enforced', undo: 'Undone' };

/** What there is of a policy. Of kinds with one object for both forms, that is the one. */
export interface Present {
  readonly staged?: PlainObject;
  readonly enforced?: PlainObject;
}

/** Sorts the objects that have a policy's name: the one that was asked for, and its other form. */
export function presentOf(objects: readonly PlainObject[]): Present {
  const staged = objects.find(isStaged);
  const enforced = objects.find((object) => !isStaged(object));
  return { ...(staged ? { staged } : {}), ...(enforced ? { enforced } : {}) };
}

/** What a step needs to know besides the objects. */
export interface Moment {
  /** Generation of the content that is staged or enforced: policyGeneration(). */
  readonly generation: number;
  readonly now: Date;
  /** Whether the policy's namespace stages all of its policies. */
  readonly namespaceIsStaged: boolean;
}

/** @throws AgentError USAGE if the step cannot be made */
export function planOf(step: StepName, present: Present, moment: Moment): Plan {
  if (!present.staged && !present.enforced) throw new AgentError('USAGE', 'there is no such policy');
  if (step === 'stage') return planStage(present, moment);
  return step === 'enforce' ? planEnforce(present, moment) : planUndo(present, moment);
}

/** The value of STAGED_AT and ENFORCED_AT. */
export function stamp({ now, generation }: Pick<Moment, 'now' | 'generation'>): string {
  return `${now.toISOString()} ${generation}`;
}

/** The time and generation of STAGED_AT and ENFORCED_AT; undefined: there is none, or it is not ours. */
export function stampOf(object: PlainObject, annotation: string): { ms: number; generation: number } | undefined {
  const [time = '', generation = ''] = String(annotationsIn(object)[annotation] ?? '').split(' ');
  const ms = Date.parse(time);
  return Number.isFinite(ms) && /^\d{1,16}$/.test(generation) ? { ms, generation: Number(generation) } : undefined;
}

function planStage(present: Present, moment: Moment): Plan {
  const { staged, enforced } = present;
  const annotations = { [STAGED_AT]: stamp(moment), [ENFORCED_AT]: null };
  if (staged) {
    const says = 'is staged already';
    if (stampOf(staged, STAGED_AT)?.generation === moment.generation)
      return { step: 'stage', writes: [], says, warnings: [], about: staged };
    // Staged by hand, or edited since: the count begins anew.
    const writes = [{ verb: 'annotate', object: staged, annotations }] as const;
    return { step: 'stage', writes, says: 'is staged: its count begins now', warnings: [], about: staged };
  }
  const object = enforced as PlainObject;
  const warnings = ['it was in force: what it denied passes now, unless another policy denies it'];
  const says = 'is staged: what it would deny is counted, and passes';
  if (!hasTwin(object)) {
    const all = { ...annotations, [ENFORCEMENT]: 'audit' };
    return { step: 'stage', writes: [{ verb: 'annotate', object, annotations: all }], says, warnings, about: object };
  }
  const made = annotated(stagedForm(object), { ...annotations, [PREVIOUS]: null });
  const writes: Write[] = [
    { verb: 'create', object: made },
    { verb: 'delete', object },
  ];
  return { step: 'stage', writes, says, warnings, about: made };
}

function planEnforce(present: Present, moment: Moment): Plan {
  const { staged, enforced } = present;
  if (!staged) {
    const about = enforced as PlainObject;
    if (moment.namespaceIsStaged) throw ofNamespace(about);
    return { step: 'enforce', writes: [], says: 'is in force already', warnings: [], about };
  }
  if (moment.namespaceIsStaged) throw ofNamespace(staged);
  const says = 'is in force';
  const annotations = { [ENFORCED_AT]: stamp(moment), [STAGED_AT]: null };
  // Calico's own kinds have a twin, and may be staged by the annotation as well.
  if (!isStagedByKind(staged)) {
    const all = { ...annotations, [ENFORCEMENT]: null };
    const writes: Write[] = [{ verb: 'annotate', object: staged, annotations: all }];
    return { step: 'enforce', writes, says, warnings: [], about: staged };
  }
  const action = stagedAction(staged);
  if (action === 'Ignore')
    throw new AgentError('USAGE', 'its stagedAction is Ignore: nothing of it is counted', { hint: 'write Set' });
  const done: Write = { verb: 'delete', object: staged };
  if (action === 'Delete') {
    const writes: Write[] = enforced ? [{ verb: 'delete', object: enforced }, done] : [done];
    return { step: 'enforce', writes, says: 'is deleted, as it was staged', warnings: [], about: enforced ?? staged };
  }
  // Who may write Staged kinds alone must not say what undo restores.
  const real = annotated(enforcedForm(staged), { ...annotations, [PREVIOUS]: null });
  if (!enforced) {
    const writes: Write[] = [{ verb: 'create', object: real }, done];
    return { step: 'enforce', writes, says, warnings: [], about: real };
  }
  if (isDeepStrictEqual(enforced.spec, real.spec)) {
    // It was half done before: what it replaced is noted already.
    const writes: Write[] = [
      { verb: 'annotate', object: enforced, annotations: { [ENFORCED_AT]: stamp(moment) } },
      done,
    ];
    return { step: 'enforce', writes, says, warnings: [], about: enforced };
  }
  const previous = keptContent(enforced);
  const warnings = previous === undefined ? [NOT_KEPT] : [];
  const replaced = withVersion(annotated(real, { [PREVIOUS]: previous ?? null }), enforced);
  const writes: Write[] = [{ verb: 'replace', object: replaced }, done];
  return { step: 'enforce', writes, says: `${says}, in place of what was`, warnings, about: replaced };
}

/** The warning that a replaced content is too long to be kept. */
export const NOT_KEPT = 'the content that it replaces is too long to be kept: undo cannot restore it';

/** The value of PREVIOUS for an object that is replaced; undefined: it is too long. */
export function keptContent({ spec }: PlainObject): string | undefined {
  const text = JSON.stringify({ spec });
  return text.length <= MAX_PREVIOUS ? text : undefined;
}

function planUndo(present: Present, moment: Moment): Plan {
  const { staged, enforced } = present;
  if (!enforced) throw new AgentError('USAGE', 'it is staged: there is nothing to undo');
  if (staged && hasTwin(enforced))
    throw new AgentError('USAGE', 'another content is staged beside it, which undo would replace', {
      hint: 'delete the staged one first',
    });
  if (annotationsIn(enforced)[ENFORCED_AT] === undefined)
    throw new AgentError('USAGE', 'it was not enforced by egressctl: there is nothing to undo', {
      hint: 'egressctl stage stages any policy',
    });
  const again = planStage({ enforced }, moment);
  const previous = previousOf(enforced);
  const [first, last] = again.writes;
  const undone = { ...again, step: 'undo' as const };
  if (previous === undefined || !first || !last) return { ...undone, says: 'is staged again' };
  const annotations = { [ENFORCED_AT]: null, [PREVIOUS]: null };
  const restored = { ...withVersion(annotated(ownPart(enforced), annotations), enforced), ...previous };
  const writes: Write[] = [first, { verb: 'replace', object: restored }];
  return { ...undone, writes, says: 'is staged again, and what it replaced is in force', warnings: [] };
}

function previousOf(object: PlainObject): { spec: unknown } | undefined {
  const text = annotationsIn(object)[PREVIOUS];
  if (typeof text !== 'string') return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) && isRecord(value.spec) ? { spec: value.spec } : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the other form of an object is an object of its own. */
export function hasTwin({ apiVersion, kind }: PlainObject): boolean {
  return typeof apiVersion === 'string' && typeof kind === 'string' && twinOf(apiVersion, kind) !== undefined;
}

/** Whether an object of this kind is staged by being of it. */
export function isStagedByKind({ apiVersion, kind }: PlainObject): boolean {
  return isStagedKind(String(apiVersion), String(kind));
}

function annotated(object: PlainObject, annotations: Annotations): PlainObject {
  return withAnnotations(
    object,
    Object.fromEntries(Object.entries(annotations).map(([key, value]) => [key, value ?? undefined])),
  );
}

/** With the version of what it replaces, so that nobody's change is lost. */
function withVersion(object: PlainObject, { metadata }: PlainObject): PlainObject {
  const { resourceVersion, uid } = isRecord(metadata) ? metadata : {};
  return { ...object, metadata: { ...(object.metadata as object), resourceVersion, uid } };
}

/** That a policy cannot be enforced, since its namespace stages all. */
export function ofNamespace({ metadata }: PlainObject): AgentError {
  const namespace = isRecord(metadata) ? String(metadata.namespace) : '';
  return new AgentError('USAGE', `namespace ${namespace} stages all of its policies`, {
    hint: `kubectl annotate namespace ${namespace} ${ENFORCEMENT}- enforces them, this one too`,
  });
}
