/** Writes what was edited: the API server checks it first, and the user reads what is written. */
import { useEffect, useState } from 'preact/hooks';
import type { Fault } from '../../src/ui/wire/messages.js';
import type { ApplyAnswer, PreviewAnswer } from '../../src/ui/wire/policies.js';
import { Loading, Trouble } from '../parts/empty.js';
import { Dialog } from '../parts/overlay.js';
import { count } from '../parts/words.js';
import { ask } from '../state/api.js';
import { Buttons, Changes, faultOf, Outcome, TypeName, Warnings } from './steps.js';

export type Form = 'staged' | 'enforced';

const WORDS: Readonly<Record<Form, { title: string; about: string; done: string }>> = {
  staged: {
    title: 'Stage the edit',
    about: 'The policy is written, and staged: what it would deny passes, and is counted.',
    done: 'The policy is written, and staged.',
  },
  enforced: {
    title: 'Enforce the edit',
    about: 'The policy is written, and in force at once.',
    done: 'The policy is written, and in force.',
  },
};

interface ApplyProps {
  readonly text: string;
  readonly as: Form;
  /** Of what was read; undefined: a new policy. */
  readonly version: string | undefined;
  /** Of this very text; undefined: it is not judged yet, or cannot be. */
  readonly preview: PreviewAnswer | undefined;
  readonly onClose: () => void;
  readonly onDone: (answer: ApplyAnswer) => void;
}

/** Whether something that passes now would be denied, as far as it is known. */
function closesSomething(preview: PreviewAnswer | undefined): boolean {
  if (!preview) return true;
  const turns = (changes: readonly { was: string; is: string }[]) =>
    changes.some(({ was, is }) => was !== 'deny' && is === 'deny');
  return preview.closed > 0 || turns(preview.flows) || turns(preview.reach);
}

/** The name of what is written, of the last of its changes: `replace NetworkPolicy shop/web`. */
function nameOf({ changes }: ApplyAnswer): string {
  const last = changes.find((c) => !c.startsWith('delete ')) ?? '';
  return last.slice(Math.max(last.lastIndexOf('/'), last.lastIndexOf(' ')) + 1);
}

export function ApplyDialog({ text, as, version, preview, onClose, onDone }: ApplyProps) {
  const [plan, setPlan] = useState<ApplyAnswer>();
  const [done, setDone] = useState<ApplyAnswer>();
  const [fault, setFault] = useState<Fault>();
  const [typed, setTyped] = useState('');
  const [busy, setBusy] = useState(false);
  const body = { yaml: text, as, ...(version === undefined ? {} : { resourceVersion: version }) };
  useEffect(() => {
    const leaving = new AbortController();
    ask<ApplyAnswer>('apply', { ...body, dryRun: true }, leaving.signal).then(setPlan, (e: unknown) => {
      if (!leaving.signal.aborted) setFault(faultOf(e));
    });
    return () => leaving.abort();
  }, []);
  const act = async () => {
    setBusy(true);
    setFault(undefined);
    try {
      const answer = await ask<ApplyAnswer>('apply', body);
      setDone(answer);
      onDone(answer);
    } catch (e) {
      setFault(faultOf(e));
    }
    setBusy(false);
  };
  const { title, about, done: words } = WORDS[as];
  if (done)
    return (
      <Dialog title={title} onClose={onClose}>
        <Outcome says={words} changes={done.changes} warnings={done.warnings} eventError={done.eventError} />
        <Buttons onClose={onClose} close="Close" />
      </Dialog>
    );
  const name = plan ? nameOf(plan) : '';
  const mustType = as === 'enforced' && closesSomething(preview);
  const errors = preview?.problems.filter((p) => p.severity === 'error').length ?? 0;
  return (
    <Dialog title={title} onClose={onClose}>
      <div class="step">
        <p>{about}</p>
        {fault && <Trouble fault={fault} />}
        {!plan && !fault && <Loading what="what would be written" />}
        {plan && <Changes changes={plan.changes} says="it is so already" />}
        {plan && <Warnings warnings={plan.warnings} />}
        {errors > 0 && <p class="bad">It has {count(errors)} errors: what they concern allows nothing.</p>}
        {plan && as === 'enforced' && preview && preview.closed > 0 && (
          <p class="bad">✕ {count(preview.closed)} flows that were seen, and that pass now, would be denied.</p>
        )}
        {plan && as === 'enforced' && !preview && <p class="warn">What it would deny is not known.</p>}
        {plan && mustType && plan.changes.length > 0 && <TypeName name={name} typed={typed} onType={setTyped} />}
        <Buttons onClose={onClose}>
          <button
            type="button"
            class="primary"
            disabled={!plan || busy || plan.changes.length === 0 || (mustType && typed !== name)}
            onClick={() => void act()}
          >
            {busy ? 'writing …' : as === 'staged' ? 'Stage' : 'Enforce'}
          </button>
        </Buttons>
      </div>
    </Dialog>
  );
}

/** Asks whether the edit is lost. */
export function LeaveDialog({ onStay, onLeave }: { onStay: () => void; onLeave: () => void }) {
  return (
    <Dialog title="The edit is not saved" onClose={onStay}>
      <div class="step">
        <p>If you leave, what you have changed is lost. Copy and Download keep it.</p>
        <div class="toolbar step-buttons">
          <span class="grow" />
          <button type="button" onClick={onLeave}>
            Leave
          </button>
          <button type="button" class="primary" onClick={onStay}>
            Stay
          </button>
        </div>
      </div>
    </Dialog>
  );
}
