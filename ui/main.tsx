/** The page: signs in, opens the stream, and shows the screen of the address. */
import { render } from 'preact';
import { BoardScreen } from './board/screen.js';
import { FlowsScreen } from './flows/screen.js';
import { Frame } from './frame/frame.js';
import { listen } from './frame/keys.js';
import { GraphScreen } from './graph/screen.js';
import { shown } from './parts/words.js';
import { RecommendScreen } from './recommend/screen.js';
import { ApiError, locked, login, session } from './state/api.js';
import { follow } from './state/stream.js';
import { screen } from './state/url.js';
import { StatusScreen } from './status/screen.js';

const VIEWS = {
  graph: GraphScreen,
  flows: FlowsScreen,
  policies: BoardScreen,
  recommend: RecommendScreen,
  status: StatusScreen,
} as const;

function App() {
  if (locked.value)
    return (
      <main class="locked">
        <h1>{shown(locked.value.error)}</h1>
        <p>{shown(locked.value.hint ?? '')}</p>
      </main>
    );
  if (!session.value) return <p class="locked">…</p>;
  const View = VIEWS[screen.value];
  return (
    <Frame>
      <View />
    </Frame>
  );
}

render(<App />, document.getElementById('app') as HTMLElement);
listen();
follow();
login().catch((e: unknown) => {
  locked.value = e instanceof ApiError ? e.fault : { error: e instanceof Error ? e.message : String(e) };
});
