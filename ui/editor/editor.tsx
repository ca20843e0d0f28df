/** The editor: the text at the left, what it would change at the right. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Fault } from '../../src/ui/wire/messages.js';
import { kubectlCommand } from '../../src/ui/text/kubectl.js';
import type { PolicyAnswer, ReadAnswer, Step } from '../../src/ui/wire/policies.js';
import { useKeys } from '../frame/keys.js';
import { Loading, Trouble } from '../parts/empty.js';
import { copy, download } from '../parts/file.js';
import { shown } from '../parts/words.js';
import { ask, session } from '../state/api.js';
import { proposalOf } from '../state/proposal.js';
import { holdBefore, param, set } from '../state/url.js';
import { ApplyDialog, type Form, LeaveDialog } from './apply.js';
import { type Code, mountCode } from './code.js';
import { Panels } from './panels.js';
import { usePreview } from './preview.js';
import { faultOf, StepDialog } from './steps.js';
import { TEMPLATES } from './templates.js';

/** What is edited. */
interface Subject {
  /** As it is now; undefined: a new policy. */
  readonly original: string | undefined;
  /** What the editor begins with. */
  readonly text: string;
  readonly version: string | undefined;
  /** Where a proposal comes from. */
  readonly from: string | undefined;
  /** Its name; empty: a new policy. */
  readonly name: string;
  readonly staged: boolean;
}

const DIALECTS: Readonly<Record<string, string>> = {
  networkpolicy: 'NetworkPolicy',
  clusternetworkpolicy: 'ClusterNetworkPolicy',
  calico: 'Calico',
  cilium: 'Cilium',
  fqdn: 'FQDNNetworkPolicy',
};

/** @param id of a policy, or `new` */
export function Editor({ id }: { id: string }) {
  const [subject, setSubject] = useState<Subject>();
  const [fault, setFault] = useState<Fault>();
  const [reads, setReads] = useState(0);
  const [proposal] = [param('proposal')];
  useEffect(() => {
    const leaving = new AbortController();
    setSubject(undefined);
    setFault(undefined);
    read(id, proposal, leaving.signal).then(setSubject, (e: unknown) => {
      if (!leaving.signal.aborted) setFault(faultOf(e));
    });
    return () => leaving.abort();
  }, [id, proposal, reads]);
  if (fault)
    return (
      <div class="editor">
        <Trouble fault={fault} retry={() => setReads(reads + 1)} />
        <p>
          <button type="button" onClick={() => leave()}>
            Back to the board
          </button>
        </p>
      </div>
    );
  if (!subject) return <Loading what={id === 'new' ? 'a new policy' : shown(id)} />;
  return <Work key={`${id} ${reads}`} id={id} subject={subject} onReload={() => setReads(reads + 1)} />;
}

/** @throws ApiError */
async function read(id: string, number: string | null, signal: AbortSignal): Promise<Subject> {
  const proposal = proposalOf(number);
  const from = proposal?.from;
  if (id === 'new') {
    const text = proposal?.yaml ?? TEMPLATES[dialect()] ?? '';
    return { original: undefined, text, version: undefined, from, name: '', staged: false };
  }
  const [policy, now] = await Promise.all([
    ask<PolicyAnswer>('policy', { policy: id }, signal),
    // What is written is compared with what was read of the cluster itself.
    session.peek()?.writes ? ask<ReadAnswer>('read', { policy: id }, signal) : undefined,
  ]);
  const original = now?.text ?? policy.yaml ?? '';
  const { name, staged } = policy;
  return { original, text: proposal?.yaml ?? original, version: now?.resourceVersion, from, name, staged };
}

function dialect(): string {
  const wanted = param('from') ?? '';
  return Object.hasOwn(TEMPLATES, wanted) ? wanted : 'networkpolicy';
}

/** Back to the board. */
function leave(): void {
  set({ edit: undefined, proposal: undefined, from: undefined, tab: undefined });
}

type Asking = { readonly what: 'apply'; readonly as: Form } | { readonly what: 'step'; readonly step: Step };

function Work({ id, subject, onReload }: { id: string; subject: Subject; onReload: () => void }) {
  const { original, version, from, name, staged } = subject;
  const place = useRef<HTMLDivElement>(null);
  const code = useRef<Code>(undefined);
  const [text, setText] = useState(subject.text);
  const [saved, setSaved] = useState(original ?? subject.text);
  const [diff, setDiff] = useState(from !== undefined && original !== undefined);
  const [asking, setAsking] = useState<Asking>();
  const [written, setWritten] = useState(false);
  const [leaving, setLeaving] = useState<() => void>();
  const [said, say] = useState('');
  const preview = usePreview(text);
  const isDirty = text !== saved;
  const { writes, readOnly = '' } = session.value ?? { writes: false };

  useEffect(() => {
    if (!place.current) return;
    const toolbar = () => document.getElementById('editor-close')?.focus();
    const own = mountCode(place.current, { text: subject.text, onChange: setText, onEscape: toolbar });
    code.current = own;
    own.focus();
    return () => own.destroy();
  }, []);
  useEffect(() => code.current?.compare(diff ? (original ?? '') : undefined), [diff]);
  const problems = preview.answer?.problems;
  useEffect(() => {
    if (!preview.isBusy) code.current?.mark(problems ?? []);
  }, [problems, preview.isBusy]);
  useUnsaved(isDirty, (proceed) => setLeaving(() => proceed));

  const tell = (words: string) => {
    say(words);
    setTimeout(() => say(''), 2500);
  };
  const copyCommand = async () => {
    const done = await copy(kubectlCommand(text));
    tell(done ? 'the command is copied' : 'the browser does not allow it');
  };
  const start = (next: Asking) => {
    if (writes) setAsking(next);
  };
  // Without an edit, staging and enforcing are steps of the policy's life, with its impact.
  const toStage = () =>
    start(isDirty || name === '' ? { what: 'apply', as: 'staged' } : { what: 'step', step: 'stage' });
  const toEnforce = () =>
    start(isDirty || name === '' ? { what: 'apply', as: 'enforced' } : { what: 'step', step: 'enforce' });
  const toUndo = () => start({ what: 'step', step: 'undo' });
  const actions = useRef({ toStage, toEnforce, toUndo, copyCommand, flip: () => setDiff(!diff) });
  actions.current = { toStage, toEnforce, toUndo, copyCommand, flip: () => setDiff(!diff) };
  const keys = useMemo(
    () => [
      { keys: 'Escape', about: 'back to the board', run: leave },
      { keys: 'd', about: 'what differs from the present text', run: () => actions.current.flip() },
      { keys: 'y', about: 'copy the kubectl command', run: () => void actions.current.copyCommand() },
      { keys: 's', about: 'stage', run: () => actions.current.toStage() },
      { keys: 'E', about: 'enforce', run: () => actions.current.toEnforce() },
      { keys: 'u', about: 'undo what was enforced', run: () => actions.current.toUndo() },
      { keys: 't', about: 'into the text (Esc leaves it)', run: () => code.current?.focus() },
    ],
    [],
  );
  useKeys(keys);
  const close = () => {
    setAsking(undefined);
    if (!written) return;
    if (name === '') leave();
    else onReload();
  };
  return (
    <div class="editor">
      <div class="toolbar editor-bar">
        <button type="button" id="editor-close" class="quiet" onClick={leave} title="back to the board (Esc)">
          ← Board
        </button>
        <h1>{name === '' ? 'New policy' : shown(id, 200)}</h1>
        {isDirty && <span class="pill">edited</span>}
        {staged && <span class="pill warn">◐ staged</span>}
        {from !== undefined && <span class="dim">{shown(from, 120)}</span>}
        {name === '' && from === undefined && (
          <Dialects
            isDirty={isDirty}
            onChoose={(next) => {
              const template = TEMPLATES[next] ?? '';
              code.current?.replace(template);
              setSaved(template);
              set({ from: next }, true);
            }}
          />
        )}
        <span class="grow" />
        <span class="dim" role="status">
          {said}
        </span>
        <button
          type="button"
          aria-pressed={diff}
          class="toggle"
          disabled={original === undefined}
          onClick={() => setDiff(!diff)}
        >
          Diff <kbd>d</kbd>
        </button>
        <button type="button" onClick={() => void copyCommand()} title="kubectl apply with this text (y)">
          Copy kubectl
        </button>
        <button type="button" onClick={() => download(`${name || 'policy'}.yaml`, text, 'application/yaml')}>
          Download
        </button>
        <span class="gap" />
        <button type="button" disabled={!writes} title={writes ? 'stage it (s)' : readOnly} onClick={toStage}>
          Stage
        </button>
        <button
          type="button"
          class="primary"
          disabled={!writes}
          title={writes ? 'enforce it (E)' : readOnly}
          onClick={toEnforce}
        >
          Enforce
        </button>
        <button type="button" disabled={!writes || name === ''} title={writes ? 'undo (u)' : readOnly} onClick={toUndo}>
          Undo
        </button>
      </div>
      {!writes && (
        <p class="read-only dim">Nothing can be written here: {shown(readOnly, 300)}. Copy and Download work.</p>
      )}
      <div class="editor-body">
        <div class="code" ref={place} />
        <Panels preview={preview} onProblem={({ from: at }) => at !== undefined && code.current?.reveal(at)} />
      </div>
      {asking?.what === 'apply' && (
        <ApplyDialog
          text={text}
          as={asking.as}
          version={version}
          preview={preview.isBusy || preview.fault ? undefined : preview.answer}
          onClose={close}
          onDone={() => {
            setSaved(text);
            setWritten(true);
          }}
        />
      )}
      {asking?.what === 'step' && (
        <StepDialog step={asking.step} policy={id} name={name} onClose={close} onDone={() => setWritten(true)} />
      )}
      {leaving && (
        <LeaveDialog
          onStay={() => setLeaving(undefined)}
          onLeave={() => {
            setSaved(text);
            leaving();
          }}
        />
      )}
    </div>
  );
}

/** Asks before what is not saved is left. @param hold shows the question; its argument leaves nevertheless */
function useUnsaved(isDirty: boolean, hold: (proceed: () => void) => void): void {
  useEffect(() => {
    if (!isDirty) return;
    const release = holdBefore((to, from, proceed) => {
      const next = new URL(to, location.origin);
      const own = new URL(from, location.origin).searchParams;
      const stays =
        next.pathname === '/policies' &&
        next.searchParams.get('edit') === own.get('edit') &&
        next.searchParams.get('proposal') === own.get('proposal');
      if (stays) return false;
      hold(() => {
        release();
        proceed();
      });
      return true;
    });
    const unload = (event: BeforeUnloadEvent) => event.preventDefault();
    addEventListener('beforeunload', unload);
    return () => {
      release();
      removeEventListener('beforeunload', unload);
    };
  }, [isDirty]);
}

function Dialects({ isDirty, onChoose }: { isDirty: boolean; onChoose: (dialect: string) => void }) {
  return (
    <label>
      <span class="sr-only">language of the template</span>
      <select
        value={dialect()}
        disabled={isDirty}
        title={isDirty ? 'the text is edited: a template would replace it' : 'language'}
        onChange={(e) => onChoose(e.currentTarget.value)}
      >
        {Object.entries(DIALECTS).map(([value, words]) => (
          <option key={value} value={value}>
            {words}
          </option>
        ))}
      </select>
    </label>
  );
}
