/** The page: signs in, opens the stream, and shows the screen of the address. */
import { render } from 'preact';
import { BoardScreen } from './board/screen.js';
import { FlowsScreen } from './flows/screen.js';
import { Frame } from './frame/frame.js';
import { listen } from './frame/keys.js';
import { Locked, Opening } from './frame/locked.js';
import { paint } from './frame/theme.js';
import { GraphScreen } from './graph/screen.js';
import { RecommendScreen } from './recommend/screen.js';
import { ApiError, isOver, locked, login, session } from './state/api.js';
import { follow } from './state/stream.js';
import { screen } from './state/url.js';
import { StatusScreen } from './status/screen.js';
import { WhyDrawer } from './why/drawer.js';

const VIEWS = {
  graph: GraphScreen,
  flows: FlowsScreen,
  policies: BoardScreen,
  recommend: RecommendScreen,
  status: StatusScreen,
} as const;

function App() {
  if (locked.value) return <Locked fault={locked.value} isOver={isOver.value} />;
  if (!session.value) return <Opening />;
  const View = VIEWS[screen.value];
  return (
    <Frame beside={<WhyDrawer />}>
      <View />
    </Frame>
  );
}

paint();
render(<App />, document.getElementById('app') as HTMLElement);
listen();
follow();
login().catch((e: unknown) => {
  locked.value = e instanceof ApiError ? e.fault : { error: e instanceof Error ? e.message : String(e) };
});
