/** The recommendation for one workload: its evidence, the policy that follows, and what that policy would do. */
import { useMemo, useState } from 'preact/hooks';
import { LANGUAGE_NAMES, type RecommendationAnswer, type RecommendListRow } from '../../src/ui/wire/recommend.js';
import { useKeys } from '../frame/keys.js';
import { CopyButton, Empty, Loading, Trouble } from '../parts/empty.js';
import { download } from '../parts/file.js';
import { Tabs } from '../parts/tabs.js';
import { count, shown } from '../parts/words.js';
import { useAnswer } from '../state/answer.js';
import { policiesTick } from '../state/store.js';
import { propose } from '../state/proposal.js';
import { go, param, set } from '../state/url.js';
import { Evidence } from './evidence.js';
import { Coverage, MinDays } from './list.js';
import { StateMark } from './marks.js';
import { Replayed, Yaml } from './policy.js';
import { also, detailHref, kind, language, minDays, openList, without, workload } from './state.js';

/** A choice waits for the next one, milliseconds. */
const PAUSE_MS = 300;

/** @param rows the list, for the workloads before and after; it may be empty */
export function Detail({ rows }: { rows: readonly RecommendListRow[] }) {
  const [again, askAgain] = useState(0);
  const question = {
    workload: workload.value,
    ...(kind.value === '' ? {} : { kind: kind.value }),
    language: language.value,
    minDays: minDays.value,
    without: without.value,
    also: also.value,
  };
  const { value, fault, isAsking } = useAnswer<RecommendationAnswer>(
    'recommendation',
    question,
    `${policiesTick.value} ${again}`,
    PAUSE_MS,
  );
  const one = value?.workload === workload.value ? value : undefined;
  const at = rows.findIndex((row) => row.workload === workload.value && (kind.value === '' || row.kind === kind.value));
  const keys = useMemo(() => {
    const step = (by: number) => () => {
      const row = rows[at + by];
      if (row) go(detailHref(row));
    };
    return [
      { keys: 'j', about: 'next workload', run: step(1) },
      { keys: 'k', about: 'workload before', run: step(-1) },
      { keys: 'Escape', about: 'back to the list', run: openList },
    ];
  }, [rows, at]);
  useKeys(keys);
  return (
    <div class="recommendation">
      <Head one={one} isAsking={isAsking} />
      {fault && <Trouble fault={fault} retry={() => askAgain(again + 1)} />}
      {!one && !fault && <Loading what="the recommendation" />}
      {one?.refused !== undefined && (
        <Empty title="It gets no policy">
          <p>{shown(one.refused, 500)}</p>
        </Empty>
      )}
      {one && one.refused === undefined && (
        <div class={`columns${isAsking ? ' asking' : ''}`}>
          <Evidence one={one} />
          <Result one={one} />
        </div>
      )}
    </div>
  );
}

/** Hands the policy to the editor. @returns why it cannot; empty: it can */
function edit({ yaml, workload: name }: RecommendationAnswer): string {
  return propose(yaml, `recommended for ${name}`) ? '' : 'it is too long for the editor, or this browser keeps nothing';
}

function Head({ one, isAsking }: { one: RecommendationAnswer | undefined; isAsking: boolean }) {
  const name = workload.value;
  const hasPolicy = one !== undefined && one.yaml !== '';
  const file = `${name}-${language.value}.yaml`;
  const [refusal, refuse] = useState('');
  return (
    <div class="recommend-head">
      <div>
        <button type="button" class="quiet back" onClick={openList}>
          ← All workloads
        </button>
        <h2>
          {shown(name)} <span class="kind">{shown(one?.kind ?? kind.value, 40)}</span>
        </h2>
        {one && (
          <p class="facts-line">
            <StateMark state={one.refused === undefined ? one.state : 'none'} />
            {one.refused === undefined && <span class="dim">{shown(one.reason, 300)}</span>}
            <Coverage days={one.days} of={one.of} />
            <span class={one.policies === 0 ? 'warn' : 'dim'}>
              {one.policies === 0
                ? 'no policy selects it now'
                : `${count(one.policies)} ${one.policies === 1 ? 'policy selects' : 'policies select'} it now`}
            </span>
          </p>
        )}
      </div>
      <div class="toolbar">
        <label class="language">
          <span class="sr-only">language of the policy</span>
          <select value={language.value} onChange={(event) => set({ to: event.currentTarget.value }, true)}>
            {Object.entries(LANGUAGE_NAMES).map(([id, title]) => (
              <option key={id} value={id}>
                {title}
              </option>
            ))}
          </select>
        </label>
        <MinDays />
        <span class="sr-only" role="status">
          {isAsking ? 'asking' : ''}
        </span>
        {refusal !== '' && (
          <span class="bad" role="alert">
            {refusal}
          </span>
        )}
        {hasPolicy && (
          <>
            <CopyButton text={one.yaml} class="" />
            <button type="button" onClick={() => download(file, one.yaml, 'application/yaml')}>
              Download
            </button>
            <button type="button" class="primary" disabled={isAsking} onClick={() => refuse(edit(one))}>
              Edit
            </button>
          </>
        )}
      </div>
    </div>
  );
}

const VIEWS = ['policy', 'replay'] as const;

function Result({ one }: { one: RecommendationAnswer }) {
  const view = VIEWS.find((id) => id === param('view')) ?? 'policy';
  const { closed, opened, beyond, more } = one.replay;
  const changes = closed.length + opened.length + beyond.length + more;
  return (
    <Tabs
      class="card result"
      label="what follows"
      active={view}
      onChange={(id) => set({ view: id === 'policy' ? undefined : id }, true)}
      tabs={[
        { id: 'policy', title: 'Policy' },
        { id: 'replay', title: 'What it would do', badge: count(changes) },
      ]}
    >
      {view === 'policy' ? <Yaml text={one.yaml} /> : <Replayed one={one} />}
    </Tabs>
  );
}
