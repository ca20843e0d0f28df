/** The steps of a policy's life: a question that says in words what will be written, then what became of it. */
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { Fault } from '../../src/ui/wire/messages.js';
import type { ImpactAnswer, Step, StepAnswer } from '../../src/ui/wire/policies.js';
import { Loading, Trouble } from '../parts/empty.js';
import { Dialog } from '../parts/overlay.js';
import { count, shown } from '../parts/words.js';
import { ApiError, ask } from '../state/api.js';

const TITLES: Readonly<Record<Step, string>> = { stage: 'Stage', enforce: 'Enforce', undo: 'Undo' };
export const STEP_ABOUT: Readonly<Record<Step, string>> = {
  stage: 'What the policy would deny passes from then on, and is counted.',
  enforce: 'What the policy denies is denied from then on.',
  undo: 'The policy is staged again, and what it replaced is restored.',
};

/** The words of the server for an error. */
export function faultOf(e: unknown): Fault {
  return e instanceof ApiError ? e.fault : { error: e instanceof Error ? e.message : String(e) };
}

interface StepDialogProps {
  readonly step: Step;
  /** Its id. */
  readonly policy: string;
  /** Its name, to be typed where something would be denied. */
  readonly name: string;
  readonly onClose: () => void;
  readonly onDone: () => void;
}

/** Asks the API server first what would be written, and writes it when the user says so. */
export function StepDialog({ step, policy, name, onClose, onDone }: StepDialogProps) {
  const [plan, setPlan] = useState<StepAnswer>();
  const [done, setDone] = useState<StepAnswer>();
  const [fault, setFault] = useState<Fault>();
  const [force, setForce] = useState(false);
  const [typed, setTyped] = useState('');
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    const leaving = new AbortController();
    setPlan(undefined);
    setFault(undefined);
    ask<StepAnswer>('step', { step, policy, dryRun: true, force }, leaving.signal).then(setPlan, (e: unknown) => {
      if (!leaving.signal.aborted) setFault(faultOf(e));
    });
    return () => leaving.abort();
  }, [step, policy, force]);
  const act = async () => {
    setBusy(true);
    setFault(undefined);
    try {
      const answer = await ask<StepAnswer>('step', { step, policy, force });
      if (answer.refused) setPlan(answer);
      else {
        setDone(answer);
        onDone();
      }
    } catch (e) {
      setFault(faultOf(e));
    }
    setBusy(false);
  };
  const title = `${TITLES[step]} ${shown(policy)}`;
  if (done)
    return (
      <Dialog title={title} onClose={onClose}>
        <Outcome
          says={`${shown(policy)} ${done.says}.`}
          changes={done.changes}
          warnings={done.warnings}
          eventError={done.eventError}
        />
        <Buttons onClose={onClose} close="Close" />
      </Dialog>
    );
  const denies = (plan?.impact?.connections ?? 0) > 0 || plan?.impactError !== undefined;
  const mustType = step === 'enforce' && denies;
  return (
    <Dialog title={title} onClose={onClose}>
      <div class="step">
        <p>{STEP_ABOUT[step]}</p>
        {fault && <Trouble fault={fault} />}
        {!plan && !fault && <Loading what="what would be written" />}
        {plan && <Plan plan={plan} />}
        {plan && step === 'enforce' && (plan.refused || force) && (
          <label class="step-check">
            <input type="checkbox" checked={force} onChange={(e) => setForce(e.currentTarget.checked)} />
            enforce it although it is not ready
          </label>
        )}
        {plan && !plan.refused && mustType && <TypeName name={name} typed={typed} onType={setTyped} />}
        <Buttons onClose={onClose}>
          <button
            type="button"
            class="primary"
            disabled={!plan || plan.refused || busy || plan.changes.length === 0 || (mustType && typed !== name)}
            onClick={() => void act()}
          >
            {busy ? 'writing …' : TITLES[step]}
          </button>
        </Buttons>
      </div>
    </Dialog>
  );
}

/** The name of what is to be enforced is typed, so that it is not enforced by a click at the wrong place. */
export function TypeName({ name, typed, onType }: { name: string; typed: string; onType: (text: string) => void }) {
  return (
    <label class="type-name">
      <span>
        It denies what passes now. To go on, type the name of the policy: <code>{shown(name, 253)}</code>
      </span>
      <input value={typed} autocomplete="off" spellcheck={false} onInput={(e) => onType(e.currentTarget.value)} />
    </label>
  );
}

/** @param close the word on the button that does nothing */
export function Buttons(props: { onClose: () => void; close?: string; children?: ComponentChildren }) {
  const { onClose, close = 'Cancel', children } = props;
  return (
    <div class="toolbar step-buttons">
      <span class="grow" />
      <button type="button" onClick={onClose}>
        {close}
      </button>
      {children}
    </div>
  );
}

function Plan({ plan }: { plan: StepAnswer }) {
  const { says, changes, warnings, impact, impactError, refused } = plan;
  return (
    <>
      {impact && <Impact impact={impact} />}
      {impactError !== undefined && <p class="bad">Its impact is not known: {shown(impactError, 500)}</p>}
      {refused ? <p class="bad">It {shown(says, 300)}.</p> : <Changes changes={changes} says={`it ${says}`} />}
      <Warnings warnings={warnings} />
    </>
  );
}

/** What will be written, in words. */
export function Changes({ changes, says }: { changes: readonly string[]; says?: string }) {
  if (changes.length === 0) return <p>Nothing is to be written{says === undefined ? '' : `: ${shown(says, 300)}`}.</p>;
  return (
    <div>
      <p>This is written to the cluster, with your rights:</p>
      <ol class="writes">
        {changes.map((change) => (
          <li key={change}>
            <code>{shown(change, 400)}</code>
          </li>
        ))}
      </ol>
    </div>
  );
}

export function Warnings({ warnings }: { warnings: readonly string[] }) {
  if (warnings.length === 0) return null;
  return (
    <ul class="warnings">
      {warnings.map((text) => (
        <li key={text} class="warn">
          <span aria-hidden="true">⚠ </span>
          {shown(text, 500)}
        </li>
      ))}
    </ul>
  );
}

interface OutcomeProps {
  readonly says: string;
  readonly changes: readonly string[];
  readonly warnings: readonly string[];
  readonly eventError: string | undefined;
}

/** What was done. */
export function Outcome({ says, changes, warnings, eventError }: OutcomeProps) {
  return (
    <div class="step" role="status">
      <p>
        <strong>{says}</strong>
      </p>
      {changes.length > 0 && (
        <ol class="writes">
          {changes.map((change) => (
            <li key={change}>
              <code>{shown(change, 400)}</code>
            </li>
          ))}
        </ol>
      )}
      <Warnings warnings={warnings} />
      {eventError !== undefined && <p class="warn">It is done, but no Event says so: {shown(eventError, 500)}</p>}
    </div>
  );
}

/** Days and hours, or less. */
function span(seconds: number): string {
  if (seconds < 5400) return `${Math.max(1, Math.round(seconds / 60))} min`;
  return seconds < 48 * 3600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

/** Whom it would deny, and what is missing until it is ready. */
export function Impact({ impact }: { impact: ImpactAnswer }) {
  const { stage, connections, judged, windowSeconds, missing, denied } = impact;
  return (
    <div class="impact">
      <p>
        <strong>{stage === 'enforced' ? 'In force' : stage === 'ready' ? 'Ready to be enforced' : 'Not ready'}</strong>{' '}
        <span class="dim">
          counted for {span(windowSeconds)}: would deny {count(connections)} connections, decided {count(judged)} others
        </span>
      </p>
      {missing.length > 0 && (
        <ul>
          {missing.map((text) => (
            <li key={text}>{shown(text, 300)}</li>
          ))}
        </ul>
      )}
      {denied.slice(0, 20).map(({ workload, connections: n, flows }) => (
        <details key={workload}>
          <summary>
            <span class="verdict would-deny" aria-hidden="true">
              ◐
            </span>{' '}
            {shown(workload)} <span class="dim">{count(n)} connections</span>
          </summary>
          <ul>
            {flows.slice(0, 20).map((flow) => (
              <li key={`${flow.destination} ${flow.port} ${flow.protocol}`}>
                {shown(flow.destination)} {flow.port}/{shown(flow.protocol, 10)}{' '}
                <span class="dim">{count(flow.connections)}</span>
              </li>
            ))}
            {flows.length > 20 && <li class="dim">{count(flows.length - 20)} more</li>}
          </ul>
        </details>
      ))}
      {denied.length > 20 && <p class="dim">{count(denied.length - 20)} more workloads</p>}
    </div>
  );
}

/** The impact of a policy, asked for now. */
export function ImpactDialog({ policy, onClose }: { policy: string; onClose: () => void }) {
  const [impact, setImpact] = useState<ImpactAnswer & { warnings?: readonly string[] }>();
  const [fault, setFault] = useState<Fault>();
  useEffect(() => {
    const leaving = new AbortController();
    ask<ImpactAnswer>('impact', { policy }, leaving.signal).then(setImpact, (e: unknown) => {
      if (!leaving.signal.aborted) setFault(faultOf(e));
    });
    return () => leaving.abort();
  }, [policy]);
  return (
    <Dialog title={`Impact of ${shown(policy)}`} onClose={onClose}>
      <div class="step">
        {fault && <Trouble fault={fault} />}
        {!impact && !fault && <Loading what="what it would deny" />}
        {impact && <Impact impact={impact} />}
        {impact?.warnings && <Warnings warnings={impact.warnings} />}
        <Buttons onClose={onClose} close="Close" />
      </div>
    </Dialog>
  );
}
