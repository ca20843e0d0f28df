/** Beside the text: flows whose verdict changes, all that is opened or closed, problems. */
import type { ComponentChildren } from 'preact';
import type { FlowChange, PreviewAnswer, ReachChange, TextProblem } from '../../src/ui/wire/policies.js';
import { Trouble } from '../parts/empty.js';
import { Tabs } from '../parts/tabs.js';
import { GLYPHS, type Shown } from '../parts/verdict.js';
import { ago, count, partyText, portText, shown } from '../parts/words.js';
import { param, set } from '../state/url.js';
import type { Preview } from './preview.js';

const TABS = ['flows', 'reach', 'problems'] as const;
type TabId = (typeof TABS)[number];

export function Panels({ preview, onProblem }: { preview: Preview; onProblem: (problem: TextProblem) => void }) {
  const { answer, fault, isBusy, again } = preview;
  const active: TabId = TABS.find((tab) => tab === param('tab')) ?? 'flows';
  const errors = answer?.problems.filter((p) => p.severity === 'error').length ?? 0;
  const badge = (n: number | undefined, more = false) =>
    n === undefined ? undefined : `${count(n)}${more ? '+' : ''}`;
  return (
    <div class={`panels${isBusy ? ' busy' : ''}`}>
      <Summary answer={answer} isBusy={isBusy} />
      {fault && <Trouble fault={fault} retry={again} />}
      <Tabs
        label="What the text would change"
        tabs={[
          { id: 'flows', title: 'Changed flows', badge: badge(answer?.flows.length, answer?.more) },
          {
            id: 'reach',
            title: 'All it opens or closes',
            badge: badge(answer?.reach.length, (answer?.reachLeftOut ?? 0) > 0),
          },
          {
            id: 'problems',
            title: 'Problems',
            badge: answer && <span class={errors > 0 ? 'bad' : ''}>{answer.problems.length}</span>,
          },
        ]}
        active={active}
        onChange={(tab) => set({ tab: tab === 'flows' ? undefined : tab }, true)}
      >
        {answer && active === 'flows' && <Flows answer={answer} />}
        {answer && active === 'reach' && <Reach answer={answer} />}
        {answer && active === 'problems' && <Problems problems={answer.problems} onProblem={onProblem} />}
      </Tabs>
    </div>
  );
}

function Summary({ answer, isBusy }: { answer: PreviewAnswer | undefined; isBusy: boolean }) {
  return (
    <div class="summary" role="status">
      {answer ? (
        <>
          <span class={answer.closed > 0 ? 'verdict denied' : 'dim'}>
            <span aria-hidden="true">{GLYPHS.denied}</span> closes {count(answer.closed)}
          </span>
          <span class={answer.opened > 0 ? 'verdict allowed' : 'dim'}>
            <span aria-hidden="true">{GLYPHS.allowed}</span> opens {count(answer.opened)}
          </span>
          <span class="dim">
            judged {count(answer.judged)} {answer.judged === 1 ? 'flow' : 'flows'}
            {answer.unknown > 0 && (
              <span title="the pods of these flows are gone">
                , <span class="verdict partial">{count(answer.unknown)} unknown</span>
              </span>
            )}
          </span>
          {answer.asEnforced && (
            <span class="pill warn" title="it is staged: what it would change is shown as if it were in force">
              ◐ as if in force
            </span>
          )}
        </>
      ) : (
        <span class="dim">{isBusy ? 'judging …' : 'not judged'}</span>
      )}
      {answer && isBusy && <span class="dim">judging …</span>}
    </div>
  );
}

function mark(verdict: string): Shown {
  if (verdict === 'allow') return 'allowed';
  return verdict === 'deny' ? 'denied' : 'partial';
}

/** `✓ → ✕`, with words for those who do not see it. */
function Turn({ was, is }: { was: string; is: string }) {
  const [before, after] = [mark(was), mark(is)];
  return (
    <span class="turn" title={`was ${shown(was, 20)}, is ${shown(is, 20)}`}>
      <span class="sr-only">
        was {shown(was, 20)}, is {shown(is, 20)}:{' '}
      </span>
      <span aria-hidden="true">
        <span class={`verdict ${before}`}>{GLYPHS[before]}</span>
        <span class="dim"> → </span>
        <span class={`verdict ${after}`}>{GLYPHS[after]}</span>
      </span>
    </span>
  );
}

function Rules({ was, is }: { was: string; is: string }) {
  return (
    <span class="rule-turn dim">
      <code>{shown(was || 'no rule', 160)}</code> → <code>{shown(is || 'no rule', 160)}</code>
    </span>
  );
}

function Nothing({ children }: { children: ComponentChildren }) {
  return <p class="panel-empty dim">{children}</p>;
}

function Flows({ answer }: { answer: PreviewAnswer }) {
  const { flows, more, judged } = answer;
  if (flows.length === 0)
    return (
      <Nothing>
        {judged === 0
          ? 'No flow was seen yet that could be judged.'
          : `None of the ${count(judged)} flows that were seen changes its verdict.`}
      </Nothing>
    );
  return (
    <ul class="changes-list">
      {flows.map((flow) => (
        <Flow
          key={JSON.stringify([flow.source, flow.destination, flow.service, flow.port, flow.protocol])}
          flow={flow}
        />
      ))}
      {more && <li class="dim">There are more: these are the first {count(flows.length)}.</li>}
    </ul>
  );
}

function Flow({ flow }: { flow: FlowChange }) {
  const { source, destination, service, connections, lastMs, was, is, wasRule, isRule } = flow;
  return (
    <li>
      <Turn was={was} is={is} />
      <span class="what">
        <span>
          <strong>{shown(partyText(source), 160)}</strong> <span class="dim">→</span>{' '}
          <strong>{shown(partyText(destination), 255)}</strong> <span class="port">{portText(flow)}</span>
          {service !== '' && <span class="dim"> by {shown(service, 130)}</span>}
        </span>
        <Rules was={wasRule} is={isRule} />
      </span>
      <span class="much dim">
        {count(connections)} ×<br />
        {ago(lastMs, Date.now())}
      </span>
    </li>
  );
}

function Reach({ answer }: { answer: PreviewAnswer }) {
  const { reach, reachLeftOut, pods } = answer;
  if (reach.length === 0)
    return (
      <Nothing>
        {pods === 0
          ? 'It concerns no pod that there is.'
          : `Nothing changes for any of the ${count(pods)} pods that it concerns.`}
      </Nothing>
    );
  return (
    <ul class="changes-list">
      {reach.map((change) => (
        <Change key={JSON.stringify(change)} change={change} />
      ))}
      {reachLeftOut > 0 && <li class="dim">{count(reachLeftOut)} more: egressctl diff has all of them.</li>}
    </ul>
  );
}

/** Names that are shown of a list at once. */
const AT_ONCE = 4;

function Names({ names }: { names: readonly string[] }) {
  const text = (list: readonly string[]) => list.map((name) => shown(name, 200)).join(', ');
  if (names.length <= AT_ONCE) return <strong>{text(names)}</strong>;
  return (
    <strong title={text(names)}>
      {text(names.slice(0, AT_ONCE - 1))} <span class="dim">and {names.length - AT_ONCE + 1} more</span>
    </strong>
  );
}

function Change({ change }: { change: ReachChange }) {
  const { senders, to, ports, when, was, is, wasRule, isRule } = change;
  return (
    <li>
      <Turn was={was} is={is} />
      <span class="what">
        <span>
          <Names names={senders} /> <span class="dim">→</span> <Names names={to} />{' '}
          <span class="port">{shown(ports, 200)}</span>
          {when !== '' && <span class="dim">{shown(when, 400)}</span>}
        </span>
        <Rules was={wasRule} is={isRule} />
      </span>
    </li>
  );
}

function Problems({ problems, onProblem }: { problems: readonly TextProblem[]; onProblem: (p: TextProblem) => void }) {
  if (problems.length === 0) return <Nothing>The text has no problems.</Nothing>;
  return (
    <ul class="policy-problems in-panel">
      {problems.slice(0, 200).map((p) => (
        <li key={`${p.object} ${p.field} ${p.message}`} class={p.severity === 'error' ? 'error' : 'warning'}>
          <strong class={p.severity === 'error' ? 'bad' : 'warn'}>{shown(p.severity, 20)}</strong>{' '}
          {p.field !== '' && <code>{shown(p.field)}</code>} {shown(p.message, 600)}
          {p.hint !== '' && <span class="dim hint">{shown(p.hint, 600)}</span>}
          {p.from !== undefined && (
            <button type="button" class="quiet" onClick={() => onProblem(p)}>
              show it in the text
            </button>
          )}
        </li>
      ))}
    </ul>
  );
}
