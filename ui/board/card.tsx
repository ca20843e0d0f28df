/** A policy on the board. */
import type { ComponentChildren } from 'preact';
import type { CardItem } from '../../src/ui/wire/board.js';
import { isUnused } from '../../src/ui/wire/board.js';
import type { BoardPolicy, Hits } from '../../src/ui/wire/policies.js';
import { Spark } from '../parts/spark.js';
import { GLYPHS, type Shown, WORDS } from '../parts/verdict.js';
import { ago, count, shown } from '../parts/words.js';
import { href } from '../state/url.js';
import { activity } from './data.js';
import { sparkOf, sparks, sparkSpan } from './sparks.js';
import { edit, open, opened } from './state.js';

/** Kinds as people abbreviate them. */
const KINDS: Readonly<Record<string, string>> = {
  NetworkPolicy: 'NetworkPolicy',
  ApplicationNetworkPolicy: 'AppNetworkPolicy',
  ClusterNetworkPolicy: 'ClusterPolicy',
  AdminNetworkPolicy: 'AdminPolicy',
  BaselineAdminNetworkPolicy: 'BaselinePolicy',
  GlobalNetworkPolicy: 'GlobalPolicy',
  StagedNetworkPolicy: 'StagedPolicy',
  StagedGlobalNetworkPolicy: 'StagedGlobal',
  StagedKubernetesNetworkPolicy: 'StagedK8sPolicy',
  CiliumNetworkPolicy: 'CiliumPolicy',
  CiliumClusterwideNetworkPolicy: 'CiliumClusterwide',
  FQDNNetworkPolicy: 'FQDNPolicy',
};

/** `12:34` of today, `3 Nov` before. */
export function since(ms: number): string {
  const date = new Date(ms);
  const isToday = Date.now() - ms < 20 * 3600_000;
  const options = isToday
    ? ({ hour: '2-digit', minute: '2-digit', hour12: false } as const)
    : ({ day: 'numeric', month: 'short' } as const);
  return date.toLocaleString('en-GB', options);
}

interface CardProps {
  readonly item: CardItem;
  /** Where it is among the cards of its column, from 1, and how many there are. */
  readonly index: number;
  readonly total: number;
  /** Its namespace is said above it. */
  readonly isGrouped: boolean;
  readonly isCurrent: boolean;
  readonly onFocus: () => void;
}

export function Card({ item: { policy, place }, index, total, isGrouped, isCurrent, onFocus }: CardProps) {
  const all = activity.value;
  const hits = all && Object.hasOwn(all.hits, policy.id) ? all.hits[policy.id] : undefined;
  const unused = all !== undefined && isUnused(policy, hits);
  const isOpen = opened.value === policy.id;
  const classes = [
    'policy-card',
    policy.staged ? 'staged' : '',
    policy.refused ? 'refused' : '',
    unused ? 'unused' : '',
    isOpen ? 'open' : '',
  ];
  return (
    <li aria-setsize={total} aria-posinset={index}>
      <a
        class={classes.filter(Boolean).join(' ')}
        href={href('policies', { policy: policy.id })}
        data-card={policy.id}
        tabIndex={isCurrent ? 0 : -1}
        aria-current={isOpen ? 'true' : undefined}
        onFocus={onFocus}
        onClick={(event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          open(isOpen && event.detail > 0 ? '' : policy.id);
        }}
        onDblClick={() => edit(policy.id)}
      >
        <span class="card-head">
          {place > 0 && (
            <span class="place" title="its place in the order in which the tier is judged">
              {place}
            </span>
          )}
          <span class="card-name" title={policy.id}>
            {policy.namespace !== '' && !isGrouped && <span class="dim">{shown(policy.namespace, 63)}/</span>}
            {shown(policy.name, 120)}
          </span>
          <span class="card-kind">{KINDS[policy.kind] ?? shown(policy.kind, 30)}</span>
        </span>
        <span class="card-numbers">
          {policy.hidden ? (
            <span class="dim" title="it is of the whole cluster, and so are its numbers">
              not shown
            </span>
          ) : (
            <Numbers hits={hits} staged={policy.staged} />
          )}
          <CardSpark policy={policy} />
        </span>
        <span class="card-foot">
          <Foot policy={policy} hits={hits} unused={unused} />
        </span>
      </a>
    </li>
  );
}

function Numbers({ hits, staged }: { hits: Hits | undefined; staged: boolean }) {
  const [allowed, denied, passed, wouldDeny] = hits ?? [0, 0, 0, 0, 0];
  return (
    <span class="counts">
      <Number_ of="allowed" n={allowed} about={staged ? 'connections that it would allow' : undefined} />
      {staged ? (
        <Number_ of="would-deny" n={wouldDeny} about="connections that pass, and that it would deny" />
      ) : (
        <Number_ of="denied" n={denied} />
      )}
      {passed > 0 && (
        <span class="dim" title="connections that it passed on to later policies">
          <span aria-hidden="true">→</span>
          <span class="sr-only">passed on:</span> {short(passed)}
        </span>
      )}
    </span>
  );
}

function Number_({ of, n, about }: { of: Shown; n: number; about?: string | undefined }) {
  return (
    <span class={n > 0 ? `verdict ${of}` : 'dim'} title={`${count(n)} ${about ?? `connections ${WORDS[of]}`}`}>
      <span aria-hidden="true">{GLYPHS[of]}</span>
      <span class="sr-only">{about ?? WORDS[of]}:</span> {short(n)}
    </span>
  );
}

/** Numbers on cards have four characters or so: 1,204 · 12.4k · 3.1M */
export function short(n: number): string {
  if (n < 10_000) return count(n);
  return n < 1e6 ? `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)}k` : `${(n / 1e6).toFixed(1)}M`;
}

function CardSpark({ policy }: { policy: BoardPolicy }) {
  const spark = sparks.value.get(policy.id);
  if (!spark) return null;
  const color = policy.staged ? 'would-deny' : '';
  return <Spark of={sparkOf.value} span={sparkSpan.value} bits={spark.bits} values={spark.values} class={color} />;
}

function Foot({ policy, hits, unused }: { policy: BoardPolicy; hits: Hits | undefined; unused: boolean }) {
  const last = hits?.[4] ?? 0;
  const now = activity.value?.nowMs ?? Date.now();
  const right: ComponentChildren = last > 0 && !unused ? <span title="last hit">{ago(last, now)}</span> : null;
  if (policy.refused)
    return (
      <>
        <span class="fault" title={policy.fault?.message}>
          {policy.fault?.field ? <code>{shown(policy.fault.field, 60)}</code> : 'refused'}{' '}
          {shown(policy.fault?.message ?? '', 120)}
        </span>
        {right}
      </>
    );
  const began = Math.max(activity.value?.beganMs ?? 0, last, policy.sinceMs ?? 0);
  return (
    <>
      <span class="about">
        {policy.staged && <span class="stage">◐ staged</span>}
        {!policy.hidden && (
          <span>
            {policy.pods} {policy.pods === 1 ? 'pod' : 'pods'}
          </span>
        )}
        {unused && (
          <span class="idle">
            no policy traffic{last > 0 || began > 0 ? ` since ${since(last > 0 ? last : began)}` : ''}
          </span>
        )}
        {!unused && !policy.staged && !policy.hidden && (
          <span>
            {policy.rules} {policy.rules === 1 ? 'rule' : 'rules'}
          </span>
        )}
        {policy.warnings > 0 && <span class="warn">⚠ {policy.warnings}</span>}
      </span>
      {right}
    </>
  );
}
