/** The drawer: why something is allowed or denied, what was said of it then, and what would allow it. */
import { useEffect, useRef } from 'preact/hooks';
import type { WhyAllow, WhyAnswer, WhyNow } from '../../src/ui/wire/explain.js';
import { compared, thenStaged, thenText } from '../../src/ui/wire/then.js';
import type { WhyEnd, WhyRef } from '../../src/ui/wire/why.js';
import { CopyButton, Trouble } from '../parts/empty.js';
import { useEscape } from '../parts/overlay.js';
import { propose } from '../state/proposal.js';
import { partyText, portText, shown, timeOfDay } from '../parts/words.js';
import { answer, answered, close, failure, followWhy, isAsking, isOpen, subjectOf, why } from './question.js';
import { Mark, Target } from './steps.js';
import { Go } from './go.js';

/** Beside every screen; nothing while the address asks for no why. */
export function WhyDrawer() {
  return isOpen.value ? <Drawer /> : null;
}

const FOCUSABLE = 'a[href], button:not([disabled]), summary, [tabindex="0"]';

function Drawer() {
  const box = useRef<HTMLElement>(null);
  useEffect(followWhy, []);
  useEffect(() => {
    const before = document.activeElement;
    box.current?.focus({ preventScroll: true });
    return () => {
      // Back to where the focus was, unless it has gone elsewhere meanwhile.
      const now = document.activeElement;
      const isLost = now === null || now === document.body || !now.isConnected;
      if (isLost && before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  useEscape(close);
  const ref = why.value;
  return (
    <aside
      class="why"
      aria-labelledby="why-title"
      ref={box}
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.key !== 'Tab' || !box.current) return;
        const all = [...box.current.querySelectorAll<HTMLElement>(FOCUSABLE)].filter((e) => e.offsetParent !== null);
        const [first, last] = [all[0], all.at(-1)];
        const now = document.activeElement;
        if (event.shiftKey && (now === first || now === box.current)) last?.focus();
        else if (!event.shiftKey && now === last) first?.focus();
        else return;
        event.preventDefault();
      }}
    >
      <header>
        <h2 id="why-title">Why?</h2>
        {isAsking.value && <span class="quiet">asking…</span>}
        <span class="grow" />
        <button type="button" onClick={close} aria-label="close the explanation" title="Esc">
          ×
        </button>
      </header>
      {ref === undefined ? (
        <p class="quiet">Looking for it…</p>
      ) : ref === null ? (
        <p class="note">This is not here any more, or the link cannot be read. Choose another flow or edge.</p>
      ) : (
        <Body why={ref} />
      )}
    </aside>
  );
}

function Body({ why: ref }: { why: WhyRef }) {
  // The answer to another question is not shown for this one.
  const isOwn = answered.value === subjectOf(ref);
  const got = isOwn ? answer.value : undefined;
  const fault = isOwn ? failure.value?.fault : undefined;
  return (
    <div class="why-body" aria-busy={isAsking.value}>
      <Sentence why={ref} got={got} />
      <Then why={ref} now={got?.now} />
      {fault && <Trouble fault={fault} />}
      {got?.cannot !== undefined && <p class="note">{shown(got.cannot, 500)}</p>}
      {got?.allow && <Allow allow={got.allow} />}
      {got?.now && <Now now={got.now} asked={got.asked} />}
    </div>
  );
}

function Sentence({ why: ref, got }: { why: WhyRef; got: WhyAnswer | undefined }) {
  const verdict = got?.now?.verdict ?? ref.verdict;
  const ends = `${endText(ref.from)} → ${endText(ref.to)} ${portText(ref)}`;
  return (
    <p class={`sentence ${verdict}`} aria-live="polite">
      <Mark verdict={verdict} /> {shown(got?.now?.sentence ?? ends, 600)}
    </p>
  );
}

function endText(end: WhyEnd): string {
  return end.pod === '' ? partyText(end) : `${end.namespace}/${end.pod}`;
}

const DIFFERENCES = {
  same: '',
  other: '',
  verdict: 'The policies of now say something else: they have changed since, or what they select has.',
  rule: 'Now another rule decides: the policies have changed since, or what they select has.',
} as const;

function Then({ why: ref, now }: { why: WhyRef; now: WhyNow | undefined }) {
  const staged = thenStaged(ref);
  const how = now && compared(ref, now);
  const day = new Date(ref.timeMs);
  return (
    <dl class={`then ${how ?? ''}`}>
      <dt>Then</dt>
      <dd>
        <Mark verdict={ref.verdict} /> {shown(thenText(ref), 300)}
        {ref.timeMs > 0 && (
          <time dateTime={day.toISOString()} title={day.toLocaleString()}>
            {ref.about === 'edge' ? 'seen last ' : ''}
            {timeOfDay(ref.timeMs)}
          </time>
        )}
        {staged !== '' && <p class="staged">◐ {shown(staged, 300)}</p>}
      </dd>
      {now && (
        <>
          <dt>Now</dt>
          <dd>
            {how === 'same' ? (
              <span>the same</span>
            ) : (
              <>
                <Mark verdict={now.verdict} /> {nowText(now)}
              </>
            )}
            {how !== 'same' && now.auditVerdict !== undefined && now.auditVerdict !== now.verdict && (
              <p class="staged">
                ◐ staged policies would {now.auditVerdict} it{now.auditRule && ` by ${shown(now.auditRule, 200)}`}
              </p>
            )}
            {how && DIFFERENCES[how] !== '' && <p class="differs">{DIFFERENCES[how]}</p>}
          </dd>
        </>
      )}
    </dl>
  );
}

function nowText({ verdict, rule }: WhyNow): string {
  const done = { allow: 'Allowed', deny: 'Denied', partial: 'It depends on the address' }[verdict];
  return rule === '' ? done : `${done} by ${shown(rule, 200)}`;
}

/** Hands a policy to the editor. */
function open(yaml: string): void {
  const ref = why.peek();
  propose(yaml, ref ? `allows ${endText(ref.from)} to reach ${endText(ref.to)} ${portText(ref)}` : '');
}

function Allow({ allow }: { allow: WhyAllow }) {
  return (
    <section class="allow" aria-labelledby="why-allow">
      <h3 id="why-allow">What would allow it</h3>
      <p>{shown(allow.text, 400)}</p>
      {allow.yaml !== undefined && (
        <>
          <details>
            <summary>The policy</summary>
            {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
            <pre tabIndex={0}>{allow.yaml.split('\n').map((line) => `${shown(line, 200)}\n`)}</pre>
          </details>
          <p class="actions">
            <button type="button" class="primary" onClick={() => open(allow.yaml ?? '')}>
              See what it would change
            </button>
            <CopyButton text={allow.yaml} />
          </p>
        </>
      )}
      {allow.yaml === undefined && allow.policy && (
        <p>
          <Go to="policies" with={{ edit: allow.policy }}>{`Edit ${shown(allow.policy, 120)}`}</Go>
        </p>
      )}
    </section>
  );
}

function Now({ now, asked }: { now: WhyNow; asked: WhyAnswer['asked'] }) {
  return (
    <section class="now" aria-labelledby="why-now">
      <h3 id="why-now">Step by step, by the policies of now</h3>
      {asked && (
        <p class="quiet">
          Asked about {shown(asked.from, 120)} to {shown(asked.to, 120)}
          {asked.how !== '' && `: ${shown(asked.how, 200)}`}
        </p>
      )}
      {now.notes.map((note) => (
        <p class="quiet" key={note}>
          {shown(note, 400)}
        </p>
      ))}
      {now.targets.map((target, n) => (
        <Target key={`${n}/${target.ip}`} target={target} isOnly={now.targets.length === 1} />
      ))}
      {now.more > 0 && <p class="quiet">and {now.more} more addresses</p>}
    </section>
  );
}
