/** The policies board: a column for each tier, in the order in which they are judged. */
import type { ComponentType } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { type BoardRow, type Move, moved, type Spot } from '../../src/ui/wire/board.js';
import type { Step } from '../../src/ui/wire/policies.js';
import { ImpactDialog, StepDialog } from '../editor/steps.js';
import { useKeys } from '../frame/keys.js';
import { Empty, Loading, Trouble } from '../parts/empty.js';
import { shown } from '../parts/words.js';
import { session } from '../state/api.js';
import { go, href } from '../state/url.js';
import { type Act, actsOf } from './acts.js';
import { Column } from './column.js';
import { again, fault, policies, useBoard } from './data.js';
import { Detail } from './detail.js';
import { Filters } from './filters.js';
import { useSparks } from './sparks.js';
import { columns, dropFilters, edit, edited, focusTick, open, opened, spot } from './state.js';

export function BoardScreen() {
  return edited.value === '' ? <Board /> : <LazyEditor id={edited.value} />;
}

/** The editor is a bundle of its own. */
function LazyEditor({ id }: { id: string }) {
  const [Editor, setEditor] = useState<ComponentType<{ id: string }>>();
  const [error, setError] = useState('');
  useEffect(() => {
    import('../editor/editor.js').then(
      (m) => setEditor(() => m.Editor),
      (e: unknown) => setError(e instanceof Error ? e.message : String(e)),
    );
  }, []);
  if (error !== '')
    return <Trouble fault={{ error: `the editor cannot be loaded: ${error}`, hint: 'reload the page' }} />;
  return Editor ? <Editor key={id} id={id} /> : <Loading what="the editor" />;
}

/** A tier of more policies is drawn wide. */
const MANY = 8;

type Asking = { readonly act: Step | 'impact'; readonly id: string; readonly name: string };

function Board() {
  useBoard();
  useSparks();
  const rows = useRef<(readonly BoardRow[])[]>([]);
  const [asking, setAsking] = useState<Asking>();
  const act = (what: Act, id: string) => {
    const policy = policies.peek()?.policies.find((p) => p.id === id);
    if (!policy) return;
    if (what === 'edit') edit(id);
    else setAsking({ act: what, id, name: policy.name });
  };
  const current = () => opened.peek() || spot.peek()?.id || '';
  const keys = useMemo(() => boardKeys(() => rows.current, current, act), []);
  useKeys(keys);
  useEffect(() => {
    // The panel of what is open takes room from the columns.
    const card = [...document.querySelectorAll<HTMLElement>('[data-card]')].find(
      (c) => c.dataset['card'] === opened.value,
    );
    card?.closest('.column')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }, [opened.value]);
  const known = policies.value;
  if (!known) return fault.value ? <Trouble fault={fault.value} retry={again} /> : <Loading what="the policies" />;
  if (known.policies.length === 0) return <NoPolicies />;
  const cards = columns.value.reduce((sum, c) => sum + c.cards, 0);
  const most = Math.max(...columns.value.map((c) => c.cards));
  return (
    <div class={opened.value === '' ? 'board' : 'board beside'}>
      <h1 class="sr-only">Policies</h1>
      <Filters />
      {fault.value && <Trouble fault={fault.value} retry={again} />}
      {cards === 0 ? (
        <Empty
          title="No policy matches"
          actions={
            <button type="button" onClick={dropFilters}>
              Drop the filters
            </button>
          }
        >
          There are {known.policies.length} policies, and the filters hide all of them.
        </Empty>
      ) : (
        <div class="columns">
          {columns.value.map((column, n) => (
            <Column
              key={column.tier.name}
              column={column}
              index={n}
              isWide={column.cards > MANY || column.cards === most}
              onRows={(index, own) => {
                rows.current[index] = own;
                rows.current.length = columns.value.length;
              }}
            />
          ))}
        </div>
      )}
      {opened.value !== '' && (
        <Detail id={opened.value} onClose={() => open('')} onAct={(what) => act(what, opened.value)} />
      )}
      {asking?.act === 'impact' && <ImpactDialog policy={asking.id} onClose={() => setAsking(undefined)} />}
      {asking && asking.act !== 'impact' && (
        <StepDialog
          step={asking.act}
          policy={asking.id}
          name={asking.name}
          onClose={() => setAsking(undefined)}
          onDone={again}
        />
      )}
    </div>
  );
}

function NoPolicies() {
  const { namespaces } = session.value ?? {};
  return (
    <Empty
      title="No policies: everything is allowed"
      actions={
        <>
          <button type="button" class="primary" onClick={() => go(href('recommend'))}>
            Recommend some
          </button>
          <button type="button" onClick={() => edit('new')}>
            Write one
          </button>
        </>
      }
    >
      <p>
        Pods may reach everything. Recommend writes staged policies that allow what workloads were seen to need.
        {namespaces && ` You may see the policies of ${shown(namespaces.join(', '), 300) || 'no namespace'}.`}
      </p>
    </Empty>
  );
}

/** Where the card of a policy is; undefined: the filters hide it. */
function spotOf(columns: readonly (readonly BoardRow[])[], id: string): Spot | undefined {
  const column = columns.findIndex((rows) =>
    rows.some((row) => row.type === 'cards' && row.cards.some((c) => c.policy.id === id)),
  );
  return column < 0 ? undefined : { column, id };
}

/** @param rows of each column @param current id of the policy that keys are about; empty: none */
function boardKeys(
  rows: () => readonly (readonly BoardRow[])[],
  current: () => string,
  act: (what: Act, id: string) => void,
) {
  const move = (where: Move) => () => {
    if (document.querySelector('dialog:modal')) return;
    const next = moved(rows(), spot.peek() ?? spotOf(rows(), opened.peek()), where);
    if (!next) return;
    spot.value = next;
    focusTick.value++;
    // What is open follows.
    if (opened.peek() !== '') open(next.id, true);
  };
  const doing = (what: Act) => () => {
    if (document.querySelector('dialog:modal')) return;
    const id = current();
    const policy = policies.peek()?.policies.find((p) => p.id === id);
    if (!policy) return;
    const button = actsOf(policy, session.peek()?.writes ?? false).find((b) => b.act === what);
    if (button && !button.disabled) act(what, id);
  };
  const focus = (id: string) => () => document.getElementById(id)?.focus();
  return [
    { keys: 'j', about: 'next policy (Enter opens it)', run: move('next') },
    { keys: 'k', about: 'previous policy', run: move('previous') },
    { keys: 'ArrowDown', about: 'policy below', run: move('down') },
    { keys: 'ArrowUp', about: 'policy above', run: move('up') },
    { keys: 'ArrowRight', about: 'policy or tier to the right', run: move('right') },
    { keys: 'ArrowLeft', about: 'policy or tier to the left', run: move('left') },
    { keys: 'e', about: 'edit the policy', run: doing('edit') },
    { keys: 's', about: 'stage the policy', run: doing('stage') },
    { keys: 'E', about: 'enforce the staged policy', run: doing('enforce') },
    { keys: 'i', about: 'impact of the staged policy', run: doing('impact') },
    { keys: 'u', about: 'undo: stage what was enforced', run: doing('undo') },
    { keys: 'n', about: 'new policy', run: () => edit('new') },
    { keys: 'f', about: 'find policies', run: focus('policy-text') },
    { keys: 'o', about: 'order of the policies', run: focus('policy-sort') },
  ];
}
