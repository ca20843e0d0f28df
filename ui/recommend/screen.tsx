/** The screen recommend: workloads without policies, and for each what it was seen to need. */
import { useEffect, useState } from 'preact/hooks';
import type { RecommendList } from '../../src/ui/wire/recommend.js';
import { hasNoAgents, NoAgents } from '../frame/nothing.js';
import { Loading, Trouble } from '../parts/empty.js';
import { useAnswer } from '../state/answer.js';
import { policiesTick } from '../state/store.js';
import { namespaces } from '../state/url.js';
import { Detail } from './detail.js';
import { List } from './list.js';
import { minDays, workload } from './state.js';

export function RecommendScreen() {
  const [again, askAgain] = useState(0);
  const isOne = workload.value !== '';
  // An agent thinks about one question at a time: the list waits while one workload is looked at.
  const question = isOne ? undefined : { namespaces: namespaces.value, minDays: minDays.value };
  const list = useAnswer<RecommendList>('recommend', question, `${policiesTick.value} ${again}`);
  const [known, remember] = useState(list.value);
  useEffect(() => {
    if (list.value) remember(list.value);
  }, [list.value]);
  if (hasNoAgents()) return <NoAgents />;
  if (isOne) return <Detail rows={known?.workloads ?? []} />;
  const retry = () => askAgain(again + 1);
  if (!known) return list.fault ? <Trouble fault={list.fault} retry={retry} /> : <Loading what="what was seen" />;
  return (
    <div class="recommend">
      {list.fault && <Trouble fault={list.fault} retry={retry} />}
      <List list={known} answer={list} retry={retry} />
    </div>
  );
}
