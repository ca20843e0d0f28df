/** A policy with its rules, what they decided, its problems and its text. */
import { useEffect, useState } from 'preact/hooks';
import type { Fault } from '../../src/ui/wire/messages.js';
import type { PolicyAnswer, RuleHits, TextProblem } from '../../src/ui/wire/policies.js';
import { CopyButton, Loading, Trouble } from '../parts/empty.js';
import { Drawer } from '../parts/overlay.js';
import { GLYPHS, type Shown, VerdictMark } from '../parts/verdict.js';
import { ago, count, shown } from '../parts/words.js';
import { ask, session } from '../state/api.js';
import { policiesTick } from '../state/store.js';
import { go, href } from '../state/url.js';
import { faultOf } from '../editor/steps.js';
import { since } from './card.js';
import { activity } from './data.js';
import { DIALECT_WORDS } from './filters.js';
import { type Act, actsOf } from './acts.js';

/** Milliseconds before the one is asked for that keys have led to: they may lead on. */
const PAUSE_MS = 120;

export function Detail({ id, onClose, onAct }: { id: string; onClose: () => void; onAct: (act: Act) => void }) {
  const [policy, setPolicy] = useState<PolicyAnswer>();
  const [fault, setFault] = useState<Fault>();
  const [tries, setTries] = useState(0);
  const [tick, hits] = [policiesTick.value, activity.value?.hits[id]?.[4]];
  useEffect(() => {
    const leaving = new AbortController();
    const read = () =>
      ask<PolicyAnswer>('policy', { policy: id }, leaving.signal).then(
        (answer) => {
          setPolicy(answer);
          setFault(undefined);
        },
        (e: unknown) => {
          if (!leaving.signal.aborted) setFault(faultOf(e));
        },
      );
    const timer = setTimeout(() => void read(), PAUSE_MS);
    return () => {
      clearTimeout(timer);
      leaving.abort();
    };
  }, [id, tick, hits, tries]);
  const own = policy?.id === id ? policy : undefined;
  return (
    <Drawer title={<Title id={id} policy={own} />} onClose={onClose} keepFocus class="policy-detail">
      {fault && <Trouble fault={fault} retry={() => setTries(tries + 1)} />}
      {!own && !fault && <Loading what={shown(id)} />}
      {own && <Body policy={own} onAct={onAct} />}
    </Drawer>
  );
}

function Title({ id, policy }: { id: string; policy: PolicyAnswer | undefined }) {
  if (!policy) return <>{shown(id)}</>;
  return (
    <>
      {policy.namespace !== '' && <span class="dim">{shown(policy.namespace)}/</span>}
      {shown(policy.name, 253)}
    </>
  );
}

function Body({ policy, onAct }: { policy: PolicyAnswer; onAct: (act: Act) => void }) {
  const { kind, dialect, tiers, pods, sinceMs, staged, refused, ruleHits, problems, wouldDeny, earlier, yaml } = policy;
  const { writes, readOnly = '' } = session.value ?? { writes: false };
  return (
    <div class="detail">
      <p class="policy-facts">
        <span class="pill">{shown(kind, 60)}</span>
        {DIALECT_WORDS[dialect] !== kind && <span class="pill">{DIALECT_WORDS[dialect] ?? shown(dialect)}</span>}
        {tiers.map((tier) => (
          <span class="pill" key={tier}>
            tier {shown(tier, 60)}
          </span>
        ))}
        {staged && <span class="pill warn">◐ staged</span>}
        {refused && <span class="pill bad">! refused</span>}
      </p>
      <p class="dim">
        {policy.hidden ? 'of the whole cluster' : `selects ${count(pods)} ${pods === 1 ? 'pod' : 'pods'}`}
        {sinceMs !== undefined && ` · this content since ${since(sinceMs)}`}
        {earlier > 0 && ` · earlier contents decided ${count(earlier)} connections`}
      </p>
      <div class="toolbar acts">
        {actsOf(policy, writes).map(({ act, title, key, disabled, about }) => (
          <button
            type="button"
            key={act}
            disabled={disabled}
            title={disabled ? readOnly : about}
            onClick={() => onAct(act)}
          >
            {title} <kbd>{key}</kbd>
          </button>
        ))}
      </div>
      {!writes && <p class="dim reason">Read only: {shown(readOnly, 300)}</p>}
      <p class="policy-links">
        <Link to={href('flows', { f: policy.namespace === '' ? [] : [`namespace:${policy.namespace}`] })}>
          {policy.namespace === '' ? 'flows' : 'flows of its namespace'}
        </Link>
        <Link to={href('graph', policy.namespace === '' ? {} : { ns: [policy.namespace] })}>in the graph</Link>
      </p>
      {problems.length > 0 && <Problems problems={problems} />}
      {!policy.hidden && <Rules rules={ruleHits} staged={staged} beganMs={policy.beganMs} />}
      {wouldDeny.length > 0 && (
        <section>
          <h3>Whom it would have denied</h3>
          <ul class="policy-list">
            {wouldDeny.slice(0, 50).map(({ workload, connections }) => (
              <li key={workload}>
                <VerdictMark shown="would-deny" /> {shown(workload)}{' '}
                <span class="dim">{count(connections)} connections</span>
              </li>
            ))}
            {wouldDeny.length > 50 && <li class="dim">{count(wouldDeny.length - 50)} more</li>}
          </ul>
        </section>
      )}
      {policy.hidden ? (
        <p class="dim">
          Its rules, its text and its numbers are not shown: they are about all namespaces. Who may get
          flows.egress-agent.io in the whole cluster sees them.
        </p>
      ) : (
        <Text yaml={yaml} />
      )}
    </div>
  );
}

function Text({ yaml }: { yaml: string | undefined }) {
  return (
    <section>
      <div class="section-head">
        <h3>YAML</h3>
        {yaml !== undefined && <CopyButton text={yaml} />}
      </div>
      {yaml === undefined ? (
        <p class="dim">It is too long to be shown here: kubectl get has it.</p>
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls
        <section class="policy-yaml" tabIndex={0} aria-label="YAML">
          <pre>{yamlShown(yaml)}</pre>
        </section>
      )}
    </section>
  );
}

/** Each line as it can be shown: line breaks stay. */
function yamlShown(yaml: string): string {
  const lines = yaml.split('\n');
  return lines.map((line) => shown(line, 2000)).join('\n');
}

/** A link to another screen, without a reload. */
function Link({ to, children }: { to: string; children: string }) {
  return (
    <a
      href={to}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        go(to);
      }}
    >
      {children}
    </a>
  );
}

function Problems({ problems }: { problems: readonly TextProblem[] }) {
  return (
    <section>
      <h3>Problems</h3>
      <ul class="policy-problems">
        {problems.slice(0, 100).map((p) => (
          <li key={`${p.field} ${p.message}`} class={p.severity === 'error' ? 'error' : 'warning'}>
            {p.field !== '' && <code>{shown(p.field)}</code>} {shown(p.message, 600)}
            {p.hint !== '' && <span class="dim hint">{shown(p.hint, 600)}</span>}
          </li>
        ))}
      </ul>
    </section>
  );
}

const ACTION: Readonly<Record<string, Shown>> = { allow: 'allowed', deny: 'denied' };

function Rules({
  rules,
  staged,
  beganMs,
}: {
  rules: readonly RuleHits[];
  staged: boolean;
  beganMs: number | undefined;
}) {
  const now = activity.value?.nowMs ?? Date.now();
  return (
    <section>
      <div class="section-head">
        <h3>Rules</h3>
        <span class="dim">{beganMs === undefined ? '' : `records since ${since(beganMs)}`}</span>
      </div>
      {rules.length === 0 ? (
        <p class="dim">It has no rules for egress.</p>
      ) : (
        <table class="policy-rules">
          <thead>
            <tr>
              <th scope="col">rule</th>
              <th scope="col" class="number">
                connections
              </th>
              <th scope="col" class="number">
                days
              </th>
              <th scope="col" class="number">
                last
              </th>
            </tr>
          </thead>
          <tbody>
            {rules.slice(0, 500).map(({ rule, title, action, connections, days, lastMs }) => {
              const verdict = staged && action === 'deny' ? 'would-deny' : ACTION[action];
              return (
                <tr key={rule} class={connections === 0 ? 'idle' : ''}>
                  <td title={rule}>
                    <span class={`verdict ${verdict ?? ''}`}>
                      <span aria-hidden="true">{verdict ? GLYPHS[verdict] : '→'}</span> {shown(action, 12)}
                    </span>{' '}
                    {ruleWords(rule)}
                    {title !== '' && <span class="dim"> {shown(title, 80)}</span>}
                  </td>
                  <td class="number">{connections === 0 ? '–' : count(connections)}</td>
                  <td class="number">{days === 0 ? '' : days}</td>
                  <td class="number">{lastMs === undefined ? 'never' : ago(lastMs, now)}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      )}
    </section>
  );
}

/** `np/shop/web#2` → `rule 2`. */
function ruleWords(rule: string): string {
  const index = rule.slice(rule.lastIndexOf('#') + 1);
  if (index === 'default') return 'what no rule decides';
  return index === 'node' ? 'always: to its own node' : `rule ${index}`;
}
