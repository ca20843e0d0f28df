/** The tiers as steps: what did not select, what did not match and why, what decided. */
import type { WhyPolicy, WhyRule, WhyTarget, WhyTier } from '../../src/ui/wire/explain.js';
import { count, shown } from '../parts/words.js';
import { Go } from './go.js';

const MARKS: Readonly<Record<WhyRule['result'], readonly [glyph: string, word: string]>> = {
  decides: ['●', 'decided'],
  passes: ['↓', 'passed it on'],
  logs: ['≡', 'logged'],
  staged: ['◐', 'staged'],
  'no-match': ['·', 'missed'],
  'not-reached': ['', 'not reached'],
};

const OUTCOMES: Readonly<Record<WhyTier['outcome'], string>> = {
  allow: 'allowed it',
  deny: 'denied it',
  pass: 'passed it on',
  'does-not-apply': 'did not select the sender',
  'not-reached': 'not reached',
};

export function Target({ target, isOnly }: { target: WhyTarget; isOnly: boolean }) {
  const what = target.is.length === 0 ? 'outside of the cluster' : target.is.join(', ');
  const names = target.names.length === 0 ? '' : `, known as ${target.names.join(', ')}`;
  const head = (
    <>
      <b>
        {shown(target.ip, 60)}
        {!isOnly && target.port > 0 && `:${target.port}`}
      </b>{' '}
      is {shown(what + names, 400)}
    </>
  );
  const steps = (
    <>
      {target.before !== undefined && (
        <p class="before-rules">
          <Mark verdict="deny" /> Denied before any rule: {shown(target.before, 400)}
        </p>
      )}
      <ol class="steps">
        {target.tiers.map((tier) => (
          <Tier key={tier.tier} tier={tier} />
        ))}
      </ol>
      {target.tiers.length === 0 && target.before === undefined && <p class="quiet">No policy applies.</p>}
    </>
  );
  if (isOnly)
    return (
      <>
        <p class="target">{head}</p>
        {steps}
      </>
    );
  return (
    <details class="target">
      <summary>
        <Mark verdict={target.verdict} /> {head}
      </summary>
      {steps}
    </details>
  );
}

function Tier({ tier }: { tier: WhyTier }) {
  const others = tier.others.length + tier.moreOthers;
  return (
    <li class={`tier ${tier.outcome}`}>
      <h4>
        <span class="tier-name">{shown(tier.tier, 80)}</span> <span class="outcome">{OUTCOMES[tier.outcome]}</span>
      </h4>
      {tier.policies.map((policy) => (
        <Policy key={policy.policy} policy={policy} />
      ))}
      {tier.policies.length > 0 && <Rules rules={tier.always.filter(isMet)} />}
      {others > 0 && (
        <details class="others">
          <summary>
            {others === 1
              ? '1 policy does not select the sender'
              : `${count(others)} policies do not select the sender`}
          </summary>
          <ul>
            {tier.others.map(({ policy, why }) => (
              <li key={policy}>
                <b>{shown(policy, 120)}</b> {shown(why, 300)}
              </li>
            ))}
          </ul>
          {tier.moreOthers > 0 && <p class="quiet">and {count(tier.moreOthers)} more</p>}
        </details>
      )}
    </li>
  );
}

/** Rules that nobody wrote are of interest only if they did something. */
function isMet({ result }: WhyRule): boolean {
  return result !== 'no-match' && result !== 'not-reached';
}

function Policy({ policy }: { policy: WhyPolicy }) {
  return (
    <section class="policy">
      <h5>
        <Go to="policies" with={{ policy: policy.policy }}>
          {shown(policy.policy, 120)}
        </Go>
        {policy.staged && <span class="tag">staged</span>}
      </h5>
      <p class="quiet">{shown(policy.why, 300)}</p>
      {policy.rules.length === 0 ? <p class="quiet">It has no rule.</p> : <Rules rules={policy.rules} />}
      {policy.more > 0 && <p class="quiet">and {count(policy.more)} more rules</p>}
    </section>
  );
}

function Rules({ rules }: { rules: readonly WhyRule[] }) {
  if (rules.length === 0) return null;
  return (
    <ul class="rules">
      {rules.map((rule) => {
        const [glyph, word] = MARKS[rule.result];
        const verdict = rule.result === 'decides' ? (rule.action === 'deny' ? 'denied' : 'allowed') : '';
        const name = rule.rule.slice(rule.rule.indexOf('#'));
        return (
          <li key={rule.rule} class={`rule ${rule.result}`}>
            <span class={`mark verdict ${verdict}`} aria-hidden="true">
              {glyph}
            </span>
            <span class="what">
              <b>{shown(name === '#default' ? 'the default' : name === '#node' ? 'always' : name, 100)}</b>{' '}
              <span class={`result verdict ${verdict}`}>{word}</span> <span class="text">{shown(rule.text, 400)}</span>
              <span class="reason">{shown(rule.why, 400)}</span>
            </span>
          </li>
        );
      })}
    </ul>
  );
}

export function Mark({ verdict }: { verdict: 'allow' | 'deny' | 'partial' | 'none' }) {
  const [glyph, word] = {
    allow: ['✓', 'allowed'],
    deny: ['✕', 'denied'],
    partial: ['?', 'partial'],
    none: ['–', 'no-policy'],
  }[verdict] as [string, string];
  return (
    <span class={`verdict ${word}`} aria-hidden="true">
      {glyph}
    </span>
  );
}
